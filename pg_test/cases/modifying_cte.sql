-- Data-modifying CTEs: every part sees the state before the statement.

WITH d AS (DELETE FROM events WHERE item_id = 8 RETURNING *) INSERT INTO words SELECT note, seq FROM d;
WITH d AS (DELETE FROM items WHERE id = 3 RETURNING id) SELECT count(*) FROM items;
SELECT count(*) FROM items;
WITH i AS (INSERT INTO items (id, k) VALUES (101, 1), (102, 2), (103, 3) RETURNING id) SELECT count(*), (SELECT count(*) FROM i) FROM items;
WITH u AS (UPDATE items SET k = 1000 WHERE id < 10 RETURNING id, k) SELECT items.id, items.k, u.k FROM items JOIN u ON u.id = items.id;
WITH u AS (UPDATE items SET k = 2000) SELECT max(k), count(*) FROM items;
SELECT max(k), count(*) FROM items WHERE k = 2000;
WITH d AS (DELETE FROM events RETURNING item_id, seq) SELECT count(*), (SELECT count(*) FROM events) FROM d;
SELECT count(*) FROM events;
WITH i AS (INSERT INTO events (item_id, seq) SELECT id, id FROM items WHERE id < 20 RETURNING item_id) INSERT INTO loc (id, item_id) SELECT item_id + 1000, item_id FROM i RETURNING id;
WITH a AS (INSERT INTO items (id) VALUES (201) RETURNING id), b AS (INSERT INTO events (item_id, seq) SELECT id, 1 FROM a RETURNING item_id), c AS (INSERT INTO accounts (code) SELECT 'from ' || item_id FROM b RETURNING code) SELECT * FROM c;
WITH moved AS (DELETE FROM items WHERE id BETWEEN 30 AND 35 RETURNING *) INSERT INTO items SELECT (moved).id + 5000 FROM moved RETURNING id;
WITH del AS (DELETE FROM orders WHERE tenant_id = 2 RETURNING order_id), upd AS (UPDATE orders SET note = 'kept' WHERE tenant_id = 3 RETURNING order_id) SELECT (SELECT count(*) FROM del), (SELECT count(*) FROM upd), (SELECT count(*) FROM orders);
WITH u AS (UPDATE products SET price = 0 WHERE id < 5 RETURNING id) UPDATE items SET txt = 'free' FROM u WHERE u.id = items.id RETURNING items.id;
WITH u AS (UPDATE items SET small = 0 WHERE id < 9 RETURNING id) DELETE FROM events USING u WHERE u.id = events.item_id RETURNING events.seq;
WITH u AS (UPDATE items SET price = 5 WHERE id = 40 RETURNING id), v AS (UPDATE items SET price = 6 WHERE id = 41 RETURNING id) SELECT id FROM u UNION SELECT id FROM v;
WITH x AS (INSERT INTO products (id, name) VALUES (70, 'seventy') RETURNING id) SELECT count(*) FROM products;
WITH x AS (INSERT INTO products (id, name) SELECT max(id) + 1, 'next' FROM products RETURNING id) SELECT (SELECT max(id) FROM products) < id FROM x;
WITH unused AS (DELETE FROM smalls WHERE id < 0) SELECT 1;
SELECT count(*) FROM smalls;
WITH r AS (SELECT max(id) AS m FROM items), i AS (INSERT INTO items (id, k) SELECT m + 1, 5 FROM r RETURNING id) SELECT (SELECT m FROM r) = (SELECT id - 1 FROM i);
WITH RECURSIVE n AS (SELECT 6001 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 6004), ins AS (INSERT INTO items (id) SELECT i FROM n RETURNING id) SELECT sum(id) FROM ins;
WITH d AS (DELETE FROM docs RETURNING id, title) INSERT INTO docs (id, title) SELECT md5(title || id)::uuid, title FROM d;
WITH t AS (SELECT id FROM items WHERE id > 6000), d AS (DELETE FROM items USING t WHERE items.id = t.id RETURNING items.id) SELECT count(*) FROM t, d WHERE t.id = d.id;
WITH u AS (UPDATE loc SET word = 'cte' WHERE id = 1 RETURNING item_id) UPDATE items SET txt = 'cte' FROM u WHERE items.id = u.item_id;
-- @error(23505)
WITH a AS (INSERT INTO items (id) VALUES (7001)), b AS (INSERT INTO items (id) VALUES (7002)) INSERT INTO items (id) VALUES (5), (7003);
-- @error(22012)
WITH a AS (DELETE FROM items RETURNING id) SELECT 1 / (id - id) FROM a;
-- @error(42P01)
WITH a AS (DELETE FROM items) SELECT * FROM b;
-- @error(0A000)
WITH a AS (DELETE FROM items) SELECT * FROM a;
-- @error(0A000)
SELECT * FROM (WITH a AS (DELETE FROM items RETURNING id) SELECT * FROM a) s;
SELECT count(*), count(DISTINCT k) FROM items;
