-- @readonly
-- UNION, INTERSECT and EXCEPT.

SELECT id FROM items UNION SELECT item_id FROM events;
SELECT id FROM items UNION ALL SELECT item_id FROM events;
SELECT id FROM items INTERSECT SELECT item_id FROM events;
SELECT k FROM items INTERSECT ALL SELECT small FROM items;
SELECT item_id FROM events EXCEPT SELECT id FROM items;
SELECT k FROM items EXCEPT ALL SELECT DISTINCT k FROM items;
SELECT id, txt FROM items UNION SELECT n, w FROM words;
SELECT id FROM items WHERE id = 5 UNION ALL SELECT id FROM items WHERE id = 5;
SELECT id FROM items WHERE id = 5 UNION ALL SELECT id FROM items;
SELECT count(*) FROM items UNION ALL SELECT count(*) FROM events UNION ALL SELECT count(*) FROM loc;
SELECT count(*) FROM items WHERE id = 3 UNION SELECT count(*) FROM events WHERE item_id = 3;
SELECT id FROM items UNION SELECT id FROM products UNION SELECT id FROM loc;
SELECT id FROM products EXCEPT SELECT id FROM items WHERE id < 15;
SELECT id FROM products UNION ALL SELECT id FROM products;
SELECT code FROM countries UNION ALL SELECT country FROM accounts;
SELECT trim_scale(s.id) FROM (SELECT id::numeric FROM items WHERE id < 5 UNION SELECT p FROM prices) s;
SELECT round(s.id, 2) FROM (SELECT id FROM items WHERE id < 5 UNION SELECT p FROM prices WHERE p < 10) s;
SELECT NULL UNION SELECT txt FROM items;
SELECT NULL::int AS id UNION SELECT id FROM items WHERE id < 3;
SELECT 1 AS one, 'a' AS a UNION ALL SELECT id, txt FROM items WHERE id < 4;
(SELECT id FROM items WHERE k = 1 ORDER BY id LIMIT 2) UNION ALL (SELECT id FROM items WHERE k = 2 ORDER BY id DESC LIMIT 2);
-- @ordered
SELECT id, k FROM items WHERE id < 10 UNION SELECT seq, item_id FROM events WHERE seq < 10 ORDER BY 1, 2;
-- @ordered
(SELECT id FROM items) UNION ALL (SELECT item_id FROM events WHERE item_id IS NOT NULL) ORDER BY 1 DESC LIMIT 15 OFFSET 3;
-- @ordered
SELECT txt AS name FROM items INTERSECT SELECT w FROM words ORDER BY name NULLS FIRST;
(SELECT k FROM items UNION SELECT small FROM items) EXCEPT SELECT seq FROM events WHERE seq < 4;
SELECT k FROM items UNION (SELECT small FROM items EXCEPT SELECT seq FROM events WHERE seq < 4);
SELECT k FROM items INTERSECT (SELECT small FROM items UNION SELECT 99);
SELECT k, count(*) FROM items GROUP BY k UNION SELECT small, count(*) FROM items GROUP BY small;
SELECT DISTINCT kind FROM events UNION ALL SELECT DISTINCT feel FROM items;
SELECT s.id, count(*) FROM (SELECT id FROM items UNION ALL SELECT item_id FROM events) s GROUP BY s.id HAVING count(*) > 3;
SELECT * FROM (SELECT id, 'i' AS w FROM items UNION ALL SELECT item_id, 'e' FROM events) s WHERE id = 8;
SELECT * FROM (SELECT id, k FROM items UNION SELECT item_id, seq FROM events) s WHERE id IN (8, 9) AND k > 3;
SELECT i.id FROM items i WHERE EXISTS (SELECT 1 FROM events e WHERE e.item_id = i.id INTERSECT SELECT 1);
SELECT id FROM items WHERE id IN (SELECT item_id FROM events EXCEPT SELECT item_id FROM loc);
SELECT id, (SELECT count(*) FROM (SELECT 1 FROM events e WHERE e.item_id = i.id UNION ALL SELECT 2 FROM loc l WHERE l.item_id = i.id) s) FROM items i WHERE id < 20;
SELECT tenant_id, order_id FROM orders EXCEPT SELECT tenant_id, order_id FROM order_lines;
SELECT tenant_id, order_id FROM orders WHERE tenant_id = 3 EXCEPT SELECT tenant_id, order_id FROM order_lines WHERE tenant_id = 3;
SELECT tenant_id FROM orders WHERE tenant_id = 3 UNION SELECT tenant_id FROM orders WHERE tenant_id = 4;
SELECT code FROM accounts WHERE code = 'acc9' UNION SELECT code FROM accounts WHERE code = '';
SELECT d FROM days UNION SELECT d FROM items;
SELECT count(*) FROM (SELECT p FROM prices UNION SELECT p FROM prices) s;
SELECT pt FROM items UNION SELECT pt FROM items;
SELECT ints FROM items INTERSECT SELECT ints FROM items WHERE k = 1;
SELECT jb FROM items EXCEPT SELECT jb FROM items WHERE ok;
TABLE countries UNION TABLE countries;
VALUES (1), (2) UNION ALL SELECT id FROM items WHERE id < 3;
WITH u AS (SELECT id FROM items WHERE id < 6 UNION SELECT item_id FROM events WHERE seq < 6) SELECT count(*) FROM u a JOIN u b ON a.id < b.id;
SELECT id FROM items UNION SELECT id FROM items WHERE false;
SELECT id FROM items WHERE false UNION ALL SELECT id FROM items WHERE id = 2;
-- @error(42601)
SELECT id FROM items UNION SELECT id, k FROM items;
-- @error(42804)
SELECT id FROM items UNION SELECT txt FROM items;
-- @error(42883)
SELECT j FROM items UNION SELECT j FROM items;
-- @error(0A000)
SELECT id FROM items UNION SELECT item_id FROM events FOR UPDATE;
