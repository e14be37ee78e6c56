-- Row locks, seen from two sessions. What would wait fails at once: NOWAIT or lock_timeout.

BEGIN;
SELECT id, k FROM items WHERE id = 5 FOR UPDATE;
SELECT id FROM items WHERE k = 3 FOR UPDATE;
SELECT item_id, seq FROM events WHERE item_id = 8 FOR SHARE;
SELECT id FROM products WHERE id = 2 FOR UPDATE;
SELECT id FROM loc WHERE id = 3 FOR NO KEY UPDATE;
-- @session(b)
BEGIN;
-- @error(55P03)
SELECT id FROM items WHERE id = 5 FOR UPDATE NOWAIT;
ROLLBACK;
BEGIN;
-- @error(55P03)
SELECT id FROM items WHERE id = 5 FOR KEY SHARE NOWAIT;
ROLLBACK;
BEGIN;
SET LOCAL lock_timeout = '200ms';
-- @error(55P03)
UPDATE items SET k = 1 WHERE id = 5;
ROLLBACK;
BEGIN;
SELECT id FROM items WHERE k = 3 FOR UPDATE SKIP LOCKED;
SELECT id FROM items WHERE id IN (4, 5, 6) FOR UPDATE SKIP LOCKED;
-- @ordered
SELECT id FROM items WHERE id > 2 ORDER BY id FOR UPDATE SKIP LOCKED LIMIT 4;
SELECT seq FROM events WHERE item_id = 8 FOR SHARE NOWAIT;
SELECT id FROM products WHERE id < 5 FOR UPDATE SKIP LOCKED;
SELECT id FROM loc WHERE id < 5 FOR UPDATE SKIP LOCKED;
-- @error(55P03)
SELECT seq FROM events WHERE item_id = 8 FOR UPDATE NOWAIT;
ROLLBACK;
SELECT id FROM items WHERE id = 5;
SELECT count(*) FROM items WHERE k = 3;
-- @session(a)
UPDATE items SET txt = 'locked' WHERE id = 5;
COMMIT;
-- @session(b)
SELECT txt FROM items WHERE id = 5;
BEGIN;
SELECT id FROM items WHERE id = 5 FOR UPDATE NOWAIT;
COMMIT;

-- a queue with SKIP LOCKED
-- @session(a)
BEGIN;
-- @ordered
SELECT seq FROM events WHERE kind = 'ok' ORDER BY seq LIMIT 2 FOR UPDATE SKIP LOCKED;
-- @session(b)
BEGIN;
-- @ordered
SELECT seq FROM events WHERE kind = 'ok' ORDER BY seq LIMIT 2 FOR UPDATE SKIP LOCKED;
-- @session(c)
BEGIN;
WITH job AS (SELECT item_id, seq FROM events WHERE kind = 'ok' AND item_id IS NOT NULL ORDER BY seq LIMIT 1 FOR UPDATE SKIP LOCKED)
UPDATE events e SET note = 'taken' FROM job WHERE e.item_id = job.item_id AND e.seq = job.seq RETURNING e.seq;
-- @session(a)
COMMIT;
-- @session(b)
ROLLBACK;
-- @session(c)
COMMIT;
-- @session(a)
SELECT seq FROM events WHERE note = 'taken';

-- locks in joins, subqueries and views
BEGIN;
SELECT i.id, e.seq FROM items i JOIN events e ON e.item_id = i.id WHERE i.k = 1 FOR UPDATE OF i;
SELECT i.id, e.seq FROM items i LEFT JOIN events e ON e.item_id = i.id WHERE i.k = 2 FOR UPDATE OF i;
SELECT i.id, p.id FROM items i JOIN products p ON p.id = i.k WHERE i.id < 10 FOR UPDATE;
SELECT i.id, l.id FROM items i JOIN loc l ON l.item_id = i.id FOR SHARE OF l FOR UPDATE OF i;
SELECT * FROM (SELECT id FROM items WHERE id < 4 FOR UPDATE) s;
SELECT id FROM items WHERE id IN (SELECT item_id FROM events WHERE seq < 10) FOR UPDATE;
SELECT id, name FROM item_names WHERE id = 9 FOR UPDATE;
WITH x AS (SELECT id FROM items WHERE id = 11 FOR UPDATE) SELECT * FROM x;
-- @ordered
SELECT id FROM items WHERE k = 6 ORDER BY price DESC NULLS LAST, id FOR UPDATE;
-- @session(b)
SELECT id FROM items WHERE id IN (1, 2, 3, 9, 11, 50) FOR UPDATE SKIP LOCKED;
-- @session(a)
ROLLBACK;
-- @error(0A000)
SELECT k, count(*) FROM items GROUP BY k FOR UPDATE;
-- @error(0A000)
SELECT DISTINCT k FROM items FOR UPDATE;
-- @error(42P01)
SELECT id FROM items FOR UPDATE OF nothing;
-- @error(0A000)
SELECT i.id FROM items i LEFT JOIN events e ON e.item_id = i.id FOR UPDATE OF e;

-- table and advisory locks
BEGIN;
LOCK TABLE items IN ACCESS EXCLUSIVE MODE;
-- @session(b)
SET lock_timeout = '200ms';
-- @error(55P03)
SELECT count(*) FROM items;
-- @error(55P03)
INSERT INTO items (id) VALUES (1000);
-- @session(a)
COMMIT;
-- @session(b)
SELECT count(*) FROM items;
RESET lock_timeout;
-- @session(a)
BEGIN;
LOCK TABLE products, items IN SHARE MODE;
-- @session(b)
BEGIN;
-- @error(55P03)
LOCK TABLE items IN ROW EXCLUSIVE MODE NOWAIT;
ROLLBACK;
-- @session(a)
COMMIT;
SELECT pg_advisory_lock(5), pg_advisory_unlock(5);
