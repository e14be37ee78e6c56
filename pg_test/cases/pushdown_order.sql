-- @readonly
-- ORDER BY, LIMIT, OFFSET, WITH TIES, DISTINCT ON, set operations over the nodes.

-- @ordered
SELECT id, k FROM items ORDER BY k, id LIMIT 7;
-- @ordered
SELECT id, k FROM items ORDER BY k DESC NULLS LAST, id DESC LIMIT 5 OFFSET 4;
-- @ordered
SELECT id FROM items ORDER BY txt, id LIMIT 20;
-- @ordered
SELECT id, txt FROM items ORDER BY txt COLLATE "C" DESC, id LIMIT 20;
-- @ordered
SELECT ctext, id FROM items ORDER BY ctext USING >, id LIMIT 9;
-- @ordered
SELECT id FROM items ORDER BY feel NULLS FIRST, pct, id LIMIT 12;
-- @ordered
SELECT id FROM items ORDER BY price * -1, lower(txt), id LIMIT 8;
-- @ordered
SELECT id FROM items ORDER BY f8, id;
-- @ordered
SELECT id FROM items ORDER BY free DESC, id LIMIT 15;
SELECT k FROM items ORDER BY k FETCH FIRST 4 ROWS WITH TIES;
SELECT k FROM items ORDER BY k NULLS FIRST OFFSET 3 FETCH FIRST 5 ROWS WITH TIES;
SELECT k FROM items ORDER BY k DESC FETCH FIRST 1 ROW WITH TIES;
-- @count-only
SELECT id FROM items LIMIT 5;
-- @count-only
SELECT id FROM items LIMIT 100 OFFSET 55;
-- @count-only
SELECT id FROM items OFFSET 58;
SELECT id FROM items LIMIT 0;
SELECT id FROM items ORDER BY id LIMIT ALL OFFSET 55;
SELECT id FROM items ORDER BY id LIMIT NULL OFFSET NULL;
SELECT id FROM items ORDER BY id LIMIT 9223372036854775807 OFFSET 57;
SELECT id FROM items ORDER BY id LIMIT 2 OFFSET 9223372036854775807;
-- @error(2201W)
SELECT id FROM items ORDER BY id LIMIT -1;
-- @error(2201W)
SELECT id FROM items ORDER BY id LIMIT -1 OFFSET 5;
-- @error(2201X)
SELECT id FROM items ORDER BY id LIMIT 5 OFFSET -1;
-- @ordered
-- @params(3, 2)
-- @params(NULL, 55)
-- @params(4, NULL)
-- @params(9223372036854775807, 58)
SELECT id FROM items ORDER BY id LIMIT $1::int8 OFFSET $2::int8;
-- @ordered
SELECT id FROM items ORDER BY id LIMIT (SELECT count(*) FROM products) / 4;
-- @ordered
SELECT item_id, count(*) FROM events GROUP BY item_id ORDER BY count(*) DESC, item_id LIMIT 5;
-- @ordered
SELECT kind, count(*) FROM events GROUP BY kind ORDER BY count(*) DESC, kind LIMIT 2;
-- @ordered
SELECT kind, avg(amount) FROM events GROUP BY kind ORDER BY sum(amount) DESC NULLS LAST;
-- @ordered
SELECT i.id, e.seq FROM items i JOIN events e ON e.item_id = i.id ORDER BY e.amount DESC NULLS LAST, e.seq LIMIT 6;
-- @ordered
SELECT DISTINCT k FROM items ORDER BY k LIMIT 4;
-- @ordered
SELECT DISTINCT k, ok FROM items ORDER BY k DESC, ok LIMIT 4 OFFSET 3;
-- @ordered
SELECT DISTINCT ON (k) k, id FROM items ORDER BY k, id DESC;
-- @ordered
SELECT DISTINCT ON (k) id FROM items ORDER BY k, price, id LIMIT 5;
-- @ordered
SELECT DISTINCT ON (item_id) item_id, seq, amount FROM events ORDER BY item_id, amount DESC, seq;
-- @ordered
SELECT DISTINCT ON (kind, note) kind, note, seq FROM events ORDER BY kind, note, seq LIMIT 10;
-- @ordered
SELECT DISTINCT ON (k % 3) k % 3, count(*) FROM items GROUP BY k % 3, ok ORDER BY k % 3, count(*) DESC;
-- @ordered
SELECT item_id, rank() OVER (PARTITION BY item_id ORDER BY seq) AS r, seq FROM events ORDER BY r DESC, item_id, seq LIMIT 5;
-- @ordered
SELECT id, rank() OVER (ORDER BY k) FROM items ORDER BY 2, 1 LIMIT 5;

-- LIMIT in a subquery is not a LIMIT of each node.
SELECT count(*) FROM (SELECT id FROM items LIMIT 7) s;
SELECT sum(id) FROM (SELECT id FROM items ORDER BY id LIMIT 7) s;
SELECT e.seq FROM events e JOIN (SELECT id FROM items ORDER BY price DESC NULLS LAST, id LIMIT 6) s ON s.id = e.item_id;
SELECT id FROM items WHERE id IN (SELECT item_id FROM events ORDER BY amount DESC NULLS LAST, seq LIMIT 4);
SELECT k, s.n FROM (SELECT k, count(*) AS n FROM items GROUP BY k ORDER BY 2 DESC, 1 LIMIT 3) s;
SELECT max(n) FROM (SELECT k, count(*) AS n FROM items GROUP BY k) s;
SELECT count(*) FROM (SELECT DISTINCT k FROM items) s;
SELECT avg(n), max(m) FROM (SELECT kind, count(*) AS n, max(amount) AS m FROM events GROUP BY kind) s;

-- Set operations.
SELECT id FROM items UNION SELECT item_id FROM events;
SELECT id FROM items UNION ALL SELECT item_id FROM events;
SELECT id FROM items INTERSECT SELECT item_id FROM events;
SELECT id FROM items INTERSECT ALL SELECT item_id FROM events;
SELECT item_id FROM events EXCEPT SELECT id FROM items;
SELECT item_id FROM events EXCEPT ALL SELECT id FROM items;
SELECT k FROM items UNION SELECT seq FROM events WHERE seq < 9;
SELECT k FROM items INTERSECT SELECT item_id FROM events;
SELECT id, 'i' FROM items UNION ALL SELECT id, 'p' FROM products;
SELECT id FROM items UNION SELECT id FROM products;
SELECT id FROM items EXCEPT SELECT id FROM products;
SELECT id FROM items INTERSECT SELECT id FROM products;
SELECT tenant_id, order_id FROM orders EXCEPT SELECT tenant_id, order_id FROM order_lines;
SELECT order_id, tenant_id FROM orders EXCEPT SELECT tenant_id, order_id FROM order_lines;
-- @ordered
SELECT id FROM items UNION SELECT item_id FROM events ORDER BY 1 DESC LIMIT 6;
-- @ordered
(SELECT id FROM items ORDER BY id LIMIT 3) UNION ALL (SELECT item_id FROM events ORDER BY item_id LIMIT 3) ORDER BY 1;
SELECT count(*), sum(id) FROM (SELECT id FROM items UNION SELECT item_id FROM events) s;
SELECT count(*), sum(id) FROM (SELECT id FROM items UNION ALL SELECT item_id FROM events) s;
SELECT id, count(*) FROM (SELECT id FROM items UNION ALL SELECT item_id FROM events) s GROUP BY id;
SELECT s.id, e.seq FROM (SELECT id FROM items EXCEPT SELECT item_id FROM events WHERE amount > 20) s JOIN events e ON e.item_id = s.id;
SELECT count(*) FROM (SELECT kind FROM events UNION SELECT feel FROM items) s;
SELECT x, sum(n) FROM (SELECT kind AS x, count(*) AS n FROM events GROUP BY kind UNION ALL SELECT feel, count(*) FROM items GROUP BY feel) s GROUP BY x;

-- Read again, backwards, in pieces.
BEGIN;
DECLARE back SCROLL CURSOR FOR SELECT k, count(*) FROM items GROUP BY k ORDER BY k;
-- @ordered
FETCH 3 FROM back;
-- @ordered
FETCH BACKWARD 2 FROM back;
-- @ordered
FETCH ALL FROM back;
CLOSE back;
COMMIT;
-- @ordered
-- @portal(2)
SELECT id, txt FROM items ORDER BY id LIMIT 7;
-- @binary
SELECT k, count(*), sum(price), avg(price), min(txt), max(feel) FROM items GROUP BY k;
SELECT a.id, (SELECT count(*) FROM items WHERE k = (SELECT max(k) FROM items WHERE id < a.id)) FROM loc a;
SELECT l.id, l.item_id, s.n FROM loc l, LATERAL (SELECT count(*) AS n FROM items i WHERE i.k = l.item_id % 10) s;
-- @repeat(7)
SELECT k, count(*) FROM items WHERE id > 5 GROUP BY k;
