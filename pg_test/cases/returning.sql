-- RETURNING of expressions, whole rows, subqueries, system columns.

INSERT INTO items (id, k, txt, feel, pt) VALUES (101, 1, 'a', 'ok', '(1,2,x)'), (102, 2, 'b', 'sad', NULL) RETURNING *;
INSERT INTO items (id, k) VALUES (103, 3) RETURNING items;
INSERT INTO items (id, k) VALUES (104, 4) RETURNING id * 2 AS double, k || '!' AS text, (SELECT count(*) FROM products);
INSERT INTO items (id, k) VALUES (105, 5) RETURNING (SELECT max(e.seq) FROM events e WHERE e.item_id = items.k);
INSERT INTO items (id, k) SELECT id + 200, k FROM items WHERE id < 8 RETURNING id, k, txt IS NULL;
INSERT INTO events (item_id, seq) VALUES (101, 1), (NULL, 2) RETURNING item_id, note, tableoid::regclass;
UPDATE items SET k = k + 1 WHERE id IN (101, 102) RETURNING id, k, k - 1 AS old;
UPDATE items SET txt = 'x' WHERE k = 3 RETURNING id, (SELECT count(*) FROM events e WHERE e.item_id = items.id) AS n;
UPDATE items SET txt = 'y' FROM events e WHERE e.item_id = items.id AND e.seq < 20 RETURNING e.seq, items.id, e.note, items.txt;
UPDATE items SET k = 0 WHERE id < 5 RETURNING CASE WHEN ok THEN 'yes' ELSE 'no' END AS verdict, feel, pt;
UPDATE products SET price = 1 WHERE id < 4 RETURNING *;
UPDATE products SET price = 2 WHERE id < 4 RETURNING (SELECT count(*) FROM order_lines l WHERE l.product_id = products.id);
DELETE FROM items WHERE id > 200 RETURNING *;
DELETE FROM items WHERE id = 104 RETURNING id, now() = transaction_timestamp(), current_user;
DELETE FROM events WHERE item_id = 8 RETURNING events.*, item_id + seq AS s;
DELETE FROM products WHERE id = 99 RETURNING id;
INSERT INTO products (id, name) VALUES (60, 'sixty'), (61, 'sixty-one') RETURNING id, gone, added;
INSERT INTO loc (id, item_id) VALUES (100, 5) RETURNING (SELECT txt FROM items WHERE items.id = loc.item_id);
WITH d AS (DELETE FROM events WHERE item_id IN (9, 10) RETURNING item_id, seq, amount) SELECT item_id, count(*), sum(amount) FROM d GROUP BY item_id;
WITH u AS (UPDATE items SET small = 1 WHERE k = 5 RETURNING id) SELECT i.id, e.seq FROM u i LEFT JOIN events e ON e.item_id = i.id;
-- @ordered
WITH i AS (INSERT INTO items (id) SELECT generate_series(301, 305) RETURNING id) SELECT id FROM i ORDER BY id DESC;
-- @error(42803)
UPDATE items SET k = 1 WHERE id = 3 RETURNING count(*);
-- @error(42703)
DELETE FROM items WHERE id = 3 RETURNING nothing;
-- @error(22012)
UPDATE items SET k = 77 WHERE id < 10 RETURNING 1 / (id - 3);
SELECT id, k FROM items WHERE id < 10;
