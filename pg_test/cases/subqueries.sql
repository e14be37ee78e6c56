-- @readonly
-- Subqueries in every place where one may stand.

-- in the select list
SELECT id, (SELECT max(seq) FROM events e WHERE e.item_id = i.id) FROM items i WHERE id < 15;
SELECT id, (SELECT name FROM products p WHERE p.id = i.k) FROM items i;
SELECT id, (SELECT txt FROM items x WHERE x.id = p.id) FROM products p;
SELECT id, (SELECT count(*) FROM loc l WHERE l.item_id = i.id) FROM items i;
SELECT id, (SELECT txt FROM items x WHERE x.id = l.item_id) FROM loc l;
SELECT id, EXISTS (SELECT 1 FROM events e WHERE e.item_id = i.id) FROM items i;
SELECT id, k IN (SELECT seq FROM events e WHERE e.item_id = i.id) FROM items i WHERE id < 20;
SELECT id, k > ALL (SELECT seq % 10 FROM events e WHERE e.item_id = i.id) FROM items i;
SELECT id, ARRAY(SELECT seq FROM events e WHERE e.item_id = i.id ORDER BY seq) FROM items i;
SELECT id, (SELECT ROW(count(*), max(seq)) FROM events e WHERE e.item_id = i.id) FROM items i WHERE id < 9;
SELECT (SELECT (SELECT count(*) FROM events e WHERE e.item_id = i.id AND e.seq > l.id) FROM items i WHERE i.id = l.item_id) FROM loc l;
SELECT id, (SELECT sum(k) FROM (SELECT k FROM items x WHERE x.small = i.small) s) FROM items i WHERE id < 10;
SELECT k, (SELECT count(*) FROM events WHERE events.seq = k) FROM items GROUP BY k;
SELECT max(id), (SELECT min(seq) FROM events) FROM items;
SELECT count((SELECT 1 FROM events e WHERE e.seq = i.id AND e.kind = 'ok')) FROM items i;

-- in WHERE
SELECT id FROM items WHERE k = (SELECT max(k) FROM items);
SELECT id FROM items i WHERE k > (SELECT avg(seq % 10) FROM events e WHERE e.item_id = i.id);
SELECT id FROM items i WHERE price >= ALL (SELECT price FROM items x WHERE x.k = i.k AND x.price IS NOT NULL);
SELECT id FROM items i WHERE (SELECT count(*) FROM events e WHERE e.item_id = i.id) = 3;
SELECT id FROM items WHERE id IN (SELECT item_id FROM events GROUP BY item_id HAVING count(*) > 2);
SELECT id FROM items WHERE id IN (SELECT DISTINCT k FROM items);
SELECT id FROM items WHERE id IN (SELECT id FROM items WHERE k = 1 UNION SELECT item_id FROM events WHERE seq < 9);
SELECT id FROM items WHERE id IN (SELECT item_id FROM events ORDER BY amount DESC NULLS LAST, seq LIMIT 5);
SELECT id FROM items WHERE id IN (SELECT id FROM items WHERE id IN (SELECT id FROM items WHERE id IN (SELECT item_id FROM events)));
SELECT seq FROM events WHERE (item_id, seq) IN (SELECT id, id + 1 FROM items);
SELECT id FROM items WHERE (k, small) = (SELECT k, small FROM items WHERE id = 17);
SELECT id FROM items WHERE EXISTS (SELECT 1 FROM events WHERE seq = 1) AND id < 4;
SELECT id FROM items WHERE NOT EXISTS (SELECT 1 FROM events WHERE seq = 0) AND id < 4;
SELECT id FROM items i WHERE EXISTS (SELECT 1 FROM events e WHERE e.item_id = i.id AND EXISTS (SELECT 1 FROM products p WHERE p.id = e.seq));
SELECT id FROM items i WHERE EXISTS (SELECT 1 FROM events e JOIN orders o ON o.order_id = e.seq WHERE e.item_id = i.id);
SELECT id FROM items i WHERE id = 8 AND EXISTS (SELECT 1 FROM events e WHERE e.item_id = i.id);
SELECT id FROM items i WHERE id = 8 AND k IN (SELECT seq % 10 FROM events e WHERE e.item_id = 9);
SELECT id FROM items i WHERE ok = (EXISTS (SELECT 1 FROM events e WHERE e.item_id = i.id)) AND k = 3;
SELECT id FROM items i WHERE EXISTS (SELECT 1 FROM events e WHERE e.item_id = i.id) OR k = 5;
SELECT id FROM items WHERE k = (SELECT id FROM items WHERE false);
SELECT id FROM items WHERE (SELECT true);

-- in FROM
SELECT * FROM (SELECT id, k FROM items ORDER BY k DESC NULLS LAST, id LIMIT 10) s WHERE id > 20;
SELECT s.n, count(*) FROM (SELECT item_id, count(*) AS n FROM events GROUP BY item_id) s GROUP BY s.n;
SELECT avg(s.c) FROM (SELECT k, count(*) AS c FROM items GROUP BY k) s;
SELECT x.id FROM (SELECT * FROM items WHERE k = 2) x JOIN (SELECT * FROM items WHERE ok) y ON x.id = y.id;
SELECT x.id, y.id FROM (SELECT id FROM items WHERE id = 5) x, (SELECT id FROM items WHERE id = 6) y;
SELECT * FROM (SELECT id, row_number() OVER (ORDER BY price, id) AS rn FROM items) s WHERE rn BETWEEN 5 AND 8;
SELECT * FROM (SELECT id, rank() OVER (PARTITION BY k ORDER BY id) AS r FROM items) s WHERE id = 33;
SELECT * FROM (SELECT id, count(*) OVER () AS n FROM items) s WHERE id = 33;
SELECT * FROM (SELECT DISTINCT ON (k) k, id FROM items ORDER BY k, id) s WHERE id = 5;
SELECT * FROM (SELECT item_id, count(*) FROM events GROUP BY item_id) s WHERE item_id = 8;
SELECT * FROM (SELECT item_id, count(*) FROM events GROUP BY item_id) s WHERE count > 2 AND item_id < 30;
SELECT * FROM (SELECT id FROM items LIMIT 60) s WHERE id = 9;
SELECT * FROM (SELECT id, txt FROM items UNION ALL SELECT seq, note FROM events) s WHERE id = 9;
SELECT * FROM (SELECT 1 AS id WHERE false) s RIGHT JOIN items USING (id) WHERE id < 3;
SELECT sum(a) FROM (SELECT count(*) AS a FROM items UNION ALL SELECT count(*) FROM events) s;
SELECT s.* FROM (SELECT i.*, e.seq FROM items i LEFT JOIN events e ON e.item_id = i.id) s WHERE s.id = 8;
SELECT * FROM (SELECT k, sum(price) FROM items GROUP BY k) s JOIN products p ON p.id = s.k;
SELECT * FROM (SELECT max(id) AS id FROM items) m JOIN items USING (id);

-- in ORDER BY, GROUP BY, HAVING, LIMIT, CASE, VALUES, functions
-- @ordered
SELECT id FROM items i ORDER BY (SELECT count(*) FROM events e WHERE e.item_id = i.k) DESC, id LIMIT 8;
SELECT (SELECT count(*) FROM events e WHERE e.item_id = i.id) AS n, count(*) FROM items i GROUP BY n;
SELECT k FROM items GROUP BY k HAVING count(*) = (SELECT max(c) FROM (SELECT count(*) AS c FROM items GROUP BY k) s);
SELECT id, CASE WHEN (SELECT count(*) FROM events e WHERE e.item_id = i.id) > 2 THEN 'many' ELSE 'few' END FROM items i;
VALUES ((SELECT max(id) FROM items), (SELECT min(code) FROM accounts));
SELECT coalesce((SELECT txt FROM items WHERE id = 8), (SELECT txt FROM items WHERE id = 9), 'none');
SELECT greatest((SELECT max(id) FROM items), (SELECT max(seq) FROM events));
SELECT * FROM generate_series(1, (SELECT max(k) FROM items)) g WHERE g IN (SELECT small FROM items);
SELECT id FROM items WHERE id BETWEEN (SELECT min(item_id) FROM events) AND (SELECT count(*) / 10 FROM events);
SELECT array_agg(id ORDER BY id) FILTER (WHERE id IN (SELECT item_id FROM loc)) FROM items;
SELECT count(*) FILTER (WHERE EXISTS (SELECT 1 FROM events e WHERE e.item_id = i.id)) FROM items i;
SELECT sum((SELECT count(*) FROM events e WHERE e.item_id = i.id)) FROM items i;
-- @error(21000)
SELECT id, (SELECT seq FROM events e WHERE e.item_id = i.id) FROM items i;
-- @error(42601)
SELECT id FROM items WHERE id IN (SELECT id, k FROM items);
-- Expressions deeper than the stack allows.
-- @error(54001)
DO $$ BEGIN EXECUTE 'SELECT (SELECT max(id) FROM loc)' || repeat(' + 1', 20000); END $$;
-- @error(54001)
DO $$ BEGIN EXECUTE 'SELECT (SELECT max(id) FROM items)' || repeat(' + 1', 20000); END $$;
SELECT count(*) FROM items WHERE id > (SELECT 1);
