-- Shapes of statements that are easily routed or merged wrongly, with no error to show for it.

-- @ignore-table(ref)

-- UNION of two keys
SELECT id, k FROM items WHERE id = 1 UNION SELECT id, k FROM items WHERE id = 2;
SELECT id FROM items WHERE id = 3 UNION ALL SELECT id FROM items WHERE id = 3;
SELECT id FROM items WHERE id = 1 UNION SELECT item_id FROM events WHERE item_id = 9 UNION SELECT 5;
-- @ordered
(SELECT id, 'x' AS w FROM items WHERE id = 4) UNION (SELECT id, 'y' FROM items WHERE id = 5) ORDER BY 1 DESC LIMIT 1;
SELECT id FROM items WHERE id = 1 INTERSECT SELECT item_id FROM events WHERE item_id = 8;
SELECT id FROM items WHERE id = 8 EXCEPT SELECT item_id FROM events WHERE item_id = 1;
SELECT * FROM (SELECT id FROM items WHERE id = 7 UNION SELECT id FROM items WHERE id = 11) u WHERE id = 11;

-- EXISTS and scalar subqueries without FROM
SELECT EXISTS (SELECT 1 FROM items WHERE id = 5);
SELECT EXISTS (SELECT 1 FROM items WHERE id = 999);
SELECT EXISTS (SELECT 1 FROM events WHERE amount > 99);
SELECT NOT EXISTS (SELECT FROM events WHERE amount < 0) AS none;
SELECT (SELECT count(*) FROM items);
SELECT (SELECT k FROM items WHERE id = 3), (SELECT k FROM items WHERE id = 6);
SELECT (SELECT max(id) FROM items) - (SELECT min(item_id) FROM events);
SELECT CASE WHEN EXISTS (SELECT 1 FROM items WHERE id = 1) THEN (SELECT txt FROM items WHERE id = 2) ELSE 'no' END;
SELECT ARRAY(SELECT id FROM items WHERE id IN (1, 2, 3) ORDER BY id DESC);
SELECT 1 WHERE EXISTS (SELECT 1 FROM items WHERE id = 61);
SELECT 1 WHERE 3 IN (SELECT k FROM items);
SELECT (SELECT id FROM items WHERE id = 1000) IS NULL;
VALUES ((SELECT count(*) FROM items WHERE k = 1)), ((SELECT count(*) FROM events WHERE item_id = 8));

-- key equality where it does not restrict the rows
SELECT id = 5 AS five, count(*) FROM items GROUP BY 1;
SELECT id, id = 5 FROM items WHERE id BETWEEN 4 AND 6;
SELECT count(*) FILTER (WHERE id = 5), count(*) FROM items;
SELECT sum(k) FILTER (WHERE id = 5) AS five, sum(k) FILTER (WHERE id <> 5) AS others FROM items;
-- @ordered
SELECT id FROM items ORDER BY id = 5 DESC, id LIMIT 4;
-- @ordered
SELECT id FROM items ORDER BY (id = 7) DESC, id DESC OFFSET 1 LIMIT 3;
SELECT i.id, e.seq FROM items i LEFT JOIN events e ON i.id = e.item_id AND i.id = 5 WHERE i.id < 10;
SELECT i.id, e.seq FROM items i LEFT JOIN events e ON e.item_id = 5 WHERE i.id IN (5, 6);
SELECT l.id, i.id FROM loc l LEFT JOIN items i ON i.id = 5;
SELECT i.id, p.id FROM items i FULL JOIN products p ON i.id = p.id AND i.id = 5 WHERE coalesce(i.id, p.id) < 8;
SELECT id FROM items WHERE (id = 5) IS NOT TRUE AND id < 9;
SELECT count(*) FROM items WHERE (id = 5) IS NOT TRUE;
SELECT count(*) FROM events WHERE (item_id = 5) IS NOT TRUE;
SELECT count(*) FROM events WHERE (item_id = 5) IS NOT FALSE;
SELECT count(*) FROM events WHERE (item_id = 8) IS NULL;
SELECT count(*) FROM events WHERE (item_id = 8) IS TRUE;
SELECT count(*) FROM events WHERE NOT item_id = 8;
SELECT count(*) FROM items WHERE NOT (id = 5 OR id = 6);
SELECT count(*) FROM items WHERE id = 5 OR k = 3;
SELECT count(*) FROM items WHERE id = 5 OR true;
SELECT count(*) FROM items WHERE CASE WHEN id = 5 THEN false ELSE true END;
SELECT count(*) FROM items WHERE coalesce(id = 5, true);
SELECT count(*) FROM events WHERE coalesce(item_id = 5, true);
SELECT count(*) FROM items HAVING bool_or(id = 5);
SELECT max(CASE WHEN id = 5 THEN k END), count(*) FROM items;
SELECT count(*) FROM items WHERE (id = 5) = (k = 5);

-- key with arithmetic and coercions
SELECT id FROM items WHERE id + 1 = 5;
SELECT id FROM items WHERE 5 = id + 1;
SELECT id FROM items WHERE id = 4 + 1;
SELECT id FROM items WHERE id - 1 = 4 AND id = 5;
SELECT id FROM items WHERE id * 2 = 10;
SELECT id FROM items WHERE -id = -5;
SELECT id FROM items WHERE id = 5.0;
SELECT id FROM items WHERE id = 5.5;
SELECT id FROM items WHERE id = 5::int8;
SELECT id FROM items WHERE id = 5::int2;
SELECT id FROM items WHERE id = 5::float8;
SELECT id FROM items WHERE id::text = '5';
SELECT id FROM items WHERE id = '5';
SELECT id FROM items WHERE id = 5000000000;
SELECT id FROM items WHERE abs(id) = 5;
SELECT id FROM items WHERE id % 60 = 5;
SELECT id FROM items WHERE id = length('abcde');
SELECT id FROM items WHERE id = (SELECT 5);
SELECT id FROM items WHERE id = (SELECT max(id) FROM items);
SELECT id FROM items WHERE id IS NOT DISTINCT FROM 5;
SELECT count(*) FROM items WHERE id IS DISTINCT FROM 5;
SELECT id FROM items WHERE id = 5 AND id = 6;
SELECT id FROM items WHERE id = 5 AND id IN (5, 6);
SELECT id FROM items WHERE (id, k) = (5, NULL);
SELECT id FROM items WHERE (id, k) = (6, 6);
SELECT id FROM items WHERE (id, k) IN ((5, 5), (6, 6), (7, 7));
SELECT id FROM items WHERE id >= 5 AND id <= 5;
SELECT id FROM items WHERE id BETWEEN 5 AND 5;

-- IN lists with subqueries
SELECT id FROM items WHERE id IN (SELECT item_id FROM loc);
SELECT id FROM items WHERE id IN (1, 2, (SELECT max(k) FROM items));
SELECT id FROM items WHERE id IN (SELECT id FROM products WHERE category = 'cat1');
SELECT id FROM items WHERE id = ANY (SELECT k FROM items WHERE k > 5);
SELECT id FROM items WHERE id = ANY (ARRAY[1, 2, NULL, 77]);
SELECT id FROM items WHERE id = ANY (ARRAY(SELECT item_id FROM loc WHERE id < 5));
SELECT id FROM items WHERE id IN (5) AND k IN (SELECT k FROM items WHERE id = 15);
SELECT id FROM items WHERE id NOT IN (SELECT item_id FROM loc WHERE item_id IS NOT NULL);
SELECT id FROM items WHERE id NOT IN (SELECT item_id FROM loc);
SELECT id FROM items WHERE id NOT IN (1, 2, NULL);
SELECT count(*) FROM items WHERE id <> ALL (ARRAY[1, 2, 3]);
SELECT id FROM items WHERE id IN (1, NULL, 3);
SELECT id FROM items WHERE k IN (SELECT item_id FROM events WHERE events.item_id = items.id);

-- LIMIT and OFFSET in all their forms
-- @count-only
SELECT id FROM items LIMIT 7;
-- @count-only
SELECT id FROM items LIMIT 100;
SELECT id FROM items LIMIT 0;
-- @count-only
SELECT id FROM items OFFSET 50;
-- @count-only
SELECT id FROM items OFFSET 70;
-- @count-only
SELECT * FROM events OFFSET 140 LIMIT 20;
-- @count-only
SELECT id FROM items LIMIT NULL OFFSET 58;
-- @count-only
SELECT id FROM items LIMIT ALL;
-- @count-only
SELECT id FROM items LIMIT 2 + 3;
-- @count-only
SELECT id FROM items LIMIT (SELECT max(k) FROM items WHERE id < 6);
-- @count-only
SELECT id FROM items LIMIT (SELECT count(*) FROM products) / 2;
-- @ordered
SELECT id FROM items ORDER BY id LIMIT 5 OFFSET 57;
-- @ordered
SELECT id FROM items ORDER BY id OFFSET 55;
-- @ordered
SELECT id FROM items ORDER BY id DESC OFFSET length('abc') ROWS FETCH NEXT 2 ROWS ONLY;
-- @ordered
SELECT k FROM items WHERE k IS NOT NULL ORDER BY k FETCH FIRST 2 ROWS WITH TIES;
-- @count-only
SELECT id FROM items WHERE k = 3 LIMIT 1;
SELECT count(*) FROM (SELECT id FROM items LIMIT 9) s;
SELECT count(*) FROM (SELECT id FROM items OFFSET 9) s;
-- @error(2201W)
SELECT id FROM items LIMIT -1;
-- @error(2201X)
SELECT id FROM items OFFSET -1;
-- @ordered
SELECT sum(id) FROM (SELECT id FROM items ORDER BY id DESC LIMIT 3 OFFSET 2) s;

-- GROUP BY with ORDER BY count(*) LIMIT
-- @ordered
SELECT k, count(*) FROM items GROUP BY k ORDER BY count(*) DESC, k LIMIT 3;
-- @ordered
SELECT item_id, count(*) AS n FROM events GROUP BY item_id ORDER BY n DESC, item_id NULLS FIRST LIMIT 5;
-- @ordered
SELECT kind, sum(amount) FROM events GROUP BY kind ORDER BY sum(amount) DESC NULLS LAST LIMIT 2;
-- @ordered
SELECT txt FROM items GROUP BY txt ORDER BY count(*) DESC, txt NULLS LAST LIMIT 4 OFFSET 1;
-- @ordered
SELECT k, max(price) FROM items GROUP BY k ORDER BY avg(price) DESC LIMIT 3;
-- @ordered
SELECT item_id % 5 AS m, count(DISTINCT kind) FROM events GROUP BY m ORDER BY 2 DESC, 1 NULLS FIRST LIMIT 3;

-- HAVING
SELECT k FROM items GROUP BY k HAVING count(*) > 5;
SELECT k, sum(price) FROM items GROUP BY k HAVING sum(price) > 150 AND max(id) < 60;
SELECT item_id FROM events GROUP BY item_id HAVING count(*) > 2;
SELECT count(*) FROM items HAVING count(*) > 100;
SELECT 1 AS one FROM items HAVING true;
SELECT 1 AS one FROM items WHERE false HAVING count(*) = 0;
SELECT kind FROM events GROUP BY kind HAVING avg(amount) > (SELECT avg(amount) FROM events);
SELECT k FROM items GROUP BY k HAVING k > 5;

-- GROUP BY on an expression, or on a column that is not selected
SELECT count(*) FROM items GROUP BY k;
SELECT count(*), sum(price) FROM items GROUP BY k % 3;
SELECT id / 10 AS decade, count(*) FROM items GROUP BY id / 10;
SELECT upper(txt), count(*) FROM items GROUP BY upper(txt);
SELECT max(id) FROM items GROUP BY k, ok;
SELECT count(*) FROM events GROUP BY item_id;
SELECT sum(amount) FROM events GROUP BY item_id IS NULL;
SELECT date_trunc('day', at), count(*) FROM events GROUP BY 1;
SELECT (k > 4) IS TRUE, count(*) FROM items GROUP BY 1;
SELECT count(*) FROM items GROUP BY ();
SELECT txt IS NULL AND k IS NULL, count(*) FROM items GROUP BY txt IS NULL AND k IS NULL;

-- rounding what is aggregated
SELECT round(avg(k), 2) FROM items;
SELECT round(avg(amount), 2), round(sum(amount) / count(*), 3) FROM events;
SELECT kind, round(avg(amount), 2) FROM events GROUP BY kind;
SELECT avg(k), avg(small), avg(big), avg(price) FROM items;
SELECT k, round(avg(price), 2) + 1 AS r FROM items GROUP BY k HAVING round(avg(price), 0) > 30;
-- @approx
SELECT round(stddev(price), 4), round(variance(k), 4) FROM items;
SELECT count(*) * 1.0 / (SELECT count(*) FROM events) FROM items;
SELECT sum(k) / count(k), sum(k)::numeric / count(*) FROM items;

-- windows
SELECT id, row_number() OVER (ORDER BY id) FROM items;
SELECT id, k, rank() OVER (PARTITION BY k ORDER BY id) FROM items;
SELECT item_id, seq, sum(amount) OVER (PARTITION BY item_id ORDER BY seq) FROM events;
-- @ordered
SELECT id, count(*) OVER () FROM items ORDER BY id LIMIT 3;
SELECT k, count(*), sum(count(*)) OVER (), rank() OVER (ORDER BY count(*) DESC, k) FROM items GROUP BY k;
SELECT id, lag(k, 2, -1) OVER (ORDER BY id DESC) FROM items WHERE id < 10;

-- ORDER BY on an expression, a collation, an enum, NULLS FIRST
-- @ordered
SELECT id FROM items ORDER BY -id LIMIT 5;
-- @ordered
SELECT id, k FROM items ORDER BY k % 4 NULLS FIRST, id DESC LIMIT 20;
-- @ordered
SELECT id, txt FROM items ORDER BY txt COLLATE "C" DESC, id LIMIT 15;
-- @ordered
SELECT id, txt FROM items ORDER BY lower(txt) NULLS FIRST, id;
-- @ordered
SELECT id, feel FROM items ORDER BY feel, id;
-- @ordered
SELECT id, feel FROM items ORDER BY feel DESC NULLS LAST, id DESC LIMIT 25;
-- @ordered
SELECT id, k FROM items ORDER BY k NULLS FIRST, id LIMIT 20;
-- @ordered
SELECT id, k FROM items ORDER BY k DESC, id LIMIT 20;
-- @ordered
SELECT id, f8 FROM items ORDER BY f8 DESC NULLS LAST, id;
-- @ordered
SELECT id, free FROM items ORDER BY free, id;
-- @ordered
SELECT txt AS name, id FROM items ORDER BY length(txt), id LIMIT 10;
-- @ordered
SELECT id FROM items ORDER BY (SELECT count(*) FROM events e WHERE e.item_id = items.id) DESC, id LIMIT 6;
-- @ordered
SELECT id, ok FROM items ORDER BY ok USING >, id LIMIT 30;
-- @ordered
SELECT id FROM items WHERE id < 20 ORDER BY pt, id;
-- @ordered
SELECT id, ch || '|' FROM items ORDER BY ch, vc DESC, id LIMIT 12;

-- DISTINCT ON
-- @ordered
SELECT DISTINCT ON (k) k, id FROM items ORDER BY k, id;
-- @ordered
SELECT DISTINCT ON (k) k, id FROM items ORDER BY k NULLS FIRST, id DESC LIMIT 4;
-- @ordered
SELECT DISTINCT ON (item_id) item_id, seq, amount FROM events ORDER BY item_id, amount DESC NULLS LAST, seq;
-- @ordered
SELECT DISTINCT ON (feel, k % 2) feel, k % 2, id FROM items ORDER BY feel, k % 2, price DESC, id;
SELECT count(*) FROM (SELECT DISTINCT ON (txt) txt, id FROM items) s;

-- joins that are not on the key
SELECT count(*), sum(a.id), sum(b.id) FROM items a JOIN items b ON a.k = b.k;
SELECT a.id, b.id FROM items a JOIN items b ON a.id = b.k WHERE b.id < 20;
SELECT count(*) FROM items i JOIN events e ON i.k = e.seq;
SELECT o.order_id, i.id FROM orders o JOIN items i ON o.order_id = i.id WHERE i.k = 3;
SELECT count(*) FROM orders o JOIN order_lines l ON o.order_id = l.order_id;
SELECT a.code, c.name FROM accounts a JOIN countries c ON a.country = c.code;
SELECT count(*) FROM items a, items b WHERE a.id < b.id AND a.k = 1 AND b.k = 2;
SELECT count(*) FROM items a JOIN items b ON a.id = b.id + 1;

-- a reference table on the preserved side
SELECT p.id, p.name, o.order_id FROM products p LEFT JOIN orders o ON o.order_id = p.id;
SELECT p.id, count(l.line) FROM products p LEFT JOIN order_lines l ON l.product_id = p.id GROUP BY p.id;
SELECT c.code, a.code FROM countries c LEFT JOIN accounts a ON a.country = c.code;
SELECT p.id FROM products p LEFT JOIN items i ON i.id = p.id + 45 WHERE i.id IS NULL;
SELECT p.id, i.id FROM items i RIGHT JOIN products p ON p.id = i.id AND i.ok;
SELECT p.id, i.id FROM items i FULL JOIN products p ON p.id = i.id WHERE i.id IS NULL OR p.id < 4;
SELECT count(*), count(e.seq) FROM products p LEFT JOIN events e ON p.id = e.item_id;

-- NOT IN, NOT EXISTS from a reference table
SELECT id FROM products WHERE id NOT IN (SELECT product_id FROM order_lines WHERE product_id IS NOT NULL);
SELECT id FROM products WHERE id NOT IN (SELECT product_id FROM order_lines);
SELECT id FROM products p WHERE NOT EXISTS (SELECT 1 FROM order_lines l WHERE l.product_id = p.id AND l.qty > 2);
SELECT id FROM products p WHERE NOT EXISTS (SELECT 1 FROM items i WHERE i.id = p.id AND i.ok);
SELECT code FROM countries c WHERE NOT EXISTS (SELECT FROM accounts a WHERE a.country = c.code);
SELECT id FROM products WHERE id NOT IN (SELECT id FROM items WHERE id = 5);
SELECT id FROM products EXCEPT SELECT product_id FROM order_lines;
SELECT id FROM products p WHERE EXISTS (SELECT 1 FROM order_lines l WHERE l.product_id = p.id);
SELECT id FROM products p WHERE id IN (SELECT product_id FROM order_lines WHERE tenant_id = 3);
SELECT count(*) FROM products p WHERE p.id > ALL (SELECT qty FROM order_lines WHERE qty IS NOT NULL);

-- aggregates in subqueries
SELECT id FROM items WHERE price > (SELECT avg(price) FROM items) AND k = 3;
SELECT max(n) FROM (SELECT k, count(*) AS n FROM items GROUP BY k) s;
SELECT avg(n) FROM (SELECT item_id, count(*) AS n FROM events GROUP BY item_id) s;
SELECT count(*) FROM (SELECT DISTINCT k FROM items) s;
SELECT i.id, (SELECT count(*) FROM events e WHERE e.item_id = i.id) FROM items i;
SELECT i.id, (SELECT sum(amount) FROM events e WHERE e.item_id = i.k) FROM items i WHERE i.id < 12;
SELECT p.id, (SELECT sum(qty) FROM order_lines l WHERE l.product_id = p.id) FROM products p;
SELECT sum(s) FROM (SELECT sum(price) AS s FROM items GROUP BY k HAVING count(*) > 4) x;
SELECT count(*), sum(c) FROM (SELECT tenant_id, count(*) AS c FROM orders GROUP BY tenant_id) x WHERE c > 4;
SELECT k, (SELECT max(id) FROM items) - max(id) FROM items GROUP BY k;
SELECT count(*) FROM items i WHERE k = (SELECT max(k) FROM items i2 WHERE i2.small = i.small);

-- cursors with FETCH
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM items ORDER BY id;
-- @ordered
FETCH 3 FROM c;
-- @ordered
FETCH NEXT FROM c;
-- @ordered
FETCH 5 FROM c;
MOVE 10 IN c;
-- @ordered
FETCH FORWARD 2 FROM c;
-- @ordered
FETCH ALL FROM c;
FETCH 1 FROM c;
CLOSE c;
COMMIT;

-- FOR UPDATE SKIP LOCKED LIMIT 1
-- @count-only
SELECT id FROM items WHERE k = 3 FOR UPDATE SKIP LOCKED LIMIT 1;
BEGIN;
-- @ordered
SELECT id FROM items WHERE k = 3 ORDER BY id FOR UPDATE SKIP LOCKED LIMIT 1;
-- @session(b)
BEGIN;
-- @ordered
SELECT id FROM items WHERE k = 3 ORDER BY id FOR UPDATE SKIP LOCKED LIMIT 1;
-- @session(a)
UPDATE items SET small = 99 WHERE id = 3;
COMMIT;
-- @session(b)
ROLLBACK;
-- @session(a)

-- multi-row INSERT
INSERT INTO items (id, k, txt) VALUES (101, 1, 'a'), (102, 2, NULL), (103, NULL, 'c'), (104, 4, 'd'), (105, 5, 'e');
-- @error(23505)
INSERT INTO items (id, k) VALUES (106, 1), (107, 1), (101, 1);
SELECT id FROM items WHERE id > 100;
INSERT INTO events (item_id, seq) VALUES (NULL, 1000), (1, 1001), (NULL, 1002), (2, 1003);

-- INSERT ... SELECT generate_series
INSERT INTO items (id, k) SELECT i, i % 3 FROM generate_series(201, 260) i;
INSERT INTO events (item_id, seq, amount) SELECT generate_series(1, 30), generate_series(2001, 2030), 0.5;
SELECT k, count(*) FROM items WHERE id > 200 GROUP BY k;

-- NULL keys
INSERT INTO events (item_id, seq, note) VALUES (NULL, 3000, 'null key');
SELECT seq, note FROM events WHERE item_id IS NULL AND seq >= 1000;
SELECT count(*) FROM events WHERE item_id = NULL;
UPDATE events SET note = 'changed' WHERE item_id IS NULL AND seq = 3000;
DELETE FROM events WHERE item_id IS NULL AND seq = 1002;
-- @error(23502)
INSERT INTO items (id, k) VALUES (NULL, 1);
-- @error(23502)
INSERT INTO items (k) VALUES (1);

-- key from an expression
INSERT INTO items (id, k) VALUES (300 + 1, 1);
INSERT INTO items (id, k) VALUES ((SELECT max(id) + 1 FROM items), 2);
INSERT INTO items (id, k) VALUES (length('x') + 400, 3), ('402', 4), (403.4, 5);
INSERT INTO items (id, k) SELECT max(id) + 1, min(k) FROM items;
SELECT id, k FROM items WHERE id > 300;

-- INSERT in a CTE
WITH new AS (INSERT INTO items (id, k) VALUES (501, 1), (502, 2) RETURNING id, k) SELECT * FROM new;
WITH new AS (INSERT INTO items (id, k) VALUES (503, 3) RETURNING id)
INSERT INTO events (item_id, seq) SELECT id, 5000 FROM new RETURNING item_id, seq;
WITH new AS (INSERT INTO items (id) VALUES (504) RETURNING id) SELECT count(*) FROM items WHERE id > 500;
SELECT count(*) FROM items WHERE id > 500;

-- now(), random(), gen_random_uuid() and sequences in writes to reference tables
CREATE TABLE ref (id int PRIMARY KEY, at timestamptz DEFAULT now(), r float8, u uuid DEFAULT gen_random_uuid(), n serial);
-- @replicate(ref)
INSERT INTO ref (id, r) VALUES (1, random()), (2, random());
INSERT INTO ref (id, r, at) SELECT i, random(), clock_timestamp() FROM generate_series(3, 6) i;
SELECT id, n, at IS NOT NULL, r BETWEEN 0 AND 1, u IS NOT NULL FROM ref;
UPDATE ref SET r = random(), u = gen_random_uuid(), at = now() + random() * interval '1 second';
UPDATE ref SET n = nextval('ref_n_seq') WHERE id = 4;
SELECT id, n FROM ref;
SELECT count(DISTINCT r), count(DISTINCT u) FROM ref;

-- COPY of a reference table
COPY countries TO STDOUT;
COPY (SELECT code, people FROM countries WHERE region IS NOT NULL ORDER BY code) TO STDOUT (FORMAT csv, HEADER);
COPY countries (code, name) FROM STDIN;
BR	Brazil
KE	\N
\.
SELECT * FROM countries WHERE region IS NULL;

-- several statements in one simple query
-- @together
SELECT count(*) FROM items;
INSERT INTO items (id) VALUES (601);
SELECT count(*) FROM items WHERE id > 600;
-- @end
-- @together
-- @error(22012)
INSERT INTO items (id) VALUES (602);
SELECT 1 / 0;
INSERT INTO items (id) VALUES (603);
-- @end
SELECT id FROM items WHERE id > 600;
-- @together
BEGIN;
DELETE FROM items WHERE id = 601;
ROLLBACK;
SELECT id FROM items WHERE id > 600;
-- @end
-- @together
UPDATE items SET k = 1 WHERE id = 101;
UPDATE items SET k = 2 WHERE id = 102;
-- @end
