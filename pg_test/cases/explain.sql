-- EXPLAIN works on everything; what it says is checked by tests of its own.

-- @columns-only
EXPLAIN SELECT * FROM items WHERE id = 5;
-- @columns-only
EXPLAIN SELECT count(*) FROM items;
-- @columns-only
EXPLAIN (VERBOSE, COSTS OFF) SELECT i.id, e.seq FROM items i JOIN events e ON e.item_id = i.id;
-- @columns-only
EXPLAIN (ANALYZE, TIMING OFF) SELECT k, count(*) FROM items GROUP BY k;
-- @columns-only
EXPLAIN (FORMAT JSON) SELECT l.id, i.id FROM loc l JOIN items i ON i.id = l.item_id;
-- @columns-only
EXPLAIN (FORMAT XML, VERBOSE) SELECT id FROM items ORDER BY id LIMIT 3;
-- @columns-only
EXPLAIN (FORMAT YAML) SELECT id FROM items UNION SELECT seq FROM events;
-- @columns-only
EXPLAIN (ANALYZE, BUFFERS, VERBOSE) SELECT p.id, count(l.line) FROM products p LEFT JOIN order_lines l ON l.product_id = p.id GROUP BY p.id;
-- @columns-only
EXPLAIN INSERT INTO items (id) VALUES (101), (102);
-- @columns-only
EXPLAIN UPDATE items SET k = 1 WHERE k = 2;
-- @columns-only
EXPLAIN DELETE FROM events WHERE item_id = 8;
-- @columns-only
EXPLAIN MERGE INTO items t USING products p ON t.id = p.id WHEN MATCHED THEN UPDATE SET vc = 'x' WHEN NOT MATCHED THEN DO NOTHING;
-- @columns-only
EXPLAIN INSERT INTO events (item_id, seq) SELECT id, 1 FROM items;
-- @columns-only
EXPLAIN UPDATE products SET price = 1;
-- @columns-only
EXPLAIN WITH d AS (DELETE FROM events WHERE item_id = 3 RETURNING *) SELECT * FROM d;
SELECT count(*) FROM items;
-- what EXPLAIN ANALYZE writes is written
BEGIN;
-- @columns-only
EXPLAIN (ANALYZE, COSTS OFF) INSERT INTO items (id) VALUES (101), (102), (103);
SELECT count(*) FROM items WHERE id > 100;
-- @columns-only
EXPLAIN ANALYZE UPDATE items SET k = 7777 WHERE id < 10;
SELECT count(*) FROM items WHERE k = 7777;
-- @columns-only
EXPLAIN ANALYZE DELETE FROM items WHERE k = 7777;
SELECT count(*) FROM items;
ROLLBACK;
SELECT count(*) FROM items;
-- @columns-only
EXPLAIN ANALYZE UPDATE products SET price = 5 WHERE id = 5;
SELECT price FROM products WHERE id = 5;
PREPARE q (int) AS SELECT id FROM items WHERE id = $1;
-- @columns-only
EXPLAIN EXECUTE q (5);
SET plan_cache_mode = force_generic_plan;
-- @columns-only
EXPLAIN (VERBOSE) EXECUTE q (5);
-- @columns-only
EXPLAIN (ANALYZE) EXECUTE q (5);
RESET plan_cache_mode;
-- @columns-only
EXPLAIN DECLARE c CURSOR FOR SELECT * FROM items;
-- @columns-only
EXPLAIN CREATE TABLE copied AS SELECT * FROM items;
-- @error(42P01)
EXPLAIN SELECT * FROM copied;
-- @error(42703)
EXPLAIN SELECT nothing FROM items;
-- @error(23505)
EXPLAIN ANALYZE INSERT INTO items (id) VALUES (200), (5);
SELECT count(*) FROM items WHERE id = 200;
