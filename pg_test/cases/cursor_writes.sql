-- Cursors while the table changes: a cursor sees the state at its opening.

BEGIN;
DECLARE c CURSOR FOR SELECT id, k FROM items WHERE id < 15 ORDER BY id;
-- @ordered
FETCH 3 FROM c;
UPDATE items SET k = 100 WHERE id < 15;
DELETE FROM items WHERE id = 10;
INSERT INTO items (id, k) VALUES (0, 0);
-- @ordered
FETCH ALL FROM c;
SELECT id, k FROM items WHERE id < 15;
ROLLBACK;
BEGIN;
DECLARE c CURSOR FOR SELECT id, k FROM items WHERE id < 15 ORDER BY id;
UPDATE items SET k = 100 WHERE id = 1;
-- @ordered
FETCH ALL FROM c;
COMMIT;
BEGIN;
DECLARE u CURSOR FOR SELECT id FROM items WHERE k = 3 FOR UPDATE;
FETCH ALL FROM u;
COMMIT;
-- @may-refuse
-- @error(34000)
DELETE FROM items WHERE CURRENT OF nothing_open;
BEGIN;
DECLARE p CURSOR FOR SELECT seq FROM events WHERE item_id = 8 ORDER BY seq;
-- @ordered
FETCH 1 FROM p;
INSERT INTO events (item_id, seq) VALUES (8, 9000);
-- @ordered
FETCH ALL FROM p;
SELECT seq FROM events WHERE item_id = 8;
COMMIT;
-- @session(b)
UPDATE items SET k = 55 WHERE id = 2;
-- @session(a)
BEGIN;
DECLARE q CURSOR FOR SELECT id, k FROM items WHERE id < 4 ORDER BY id;
-- @ordered
FETCH 1 FROM q;
-- @session(b)
UPDATE items SET k = 56 WHERE id = 2;
-- @session(a)
-- @ordered
FETCH ALL FROM q;
COMMIT;
-- @ordered
SELECT id, k FROM items WHERE id < 4 ORDER BY id;
