-- Transactions over one and several nodes, isolation levels, read-only, chained.

BEGIN;
INSERT INTO items (id, k) VALUES (101, 1);
SELECT k FROM items WHERE id = 101;
COMMIT;
BEGIN;
INSERT INTO items (id, k) VALUES (102, 1), (103, 1), (104, 1), (105, 1), (106, 1);
UPDATE items SET k = 2 WHERE id > 100;
SELECT count(*), sum(k) FROM items WHERE id > 100;
ROLLBACK;
SELECT count(*) FROM items WHERE id > 100;
BEGIN;
UPDATE accounts SET balance = balance - 5 WHERE code = 'acc9';
UPDATE accounts SET balance = balance + 5 WHERE code = 'acc10';
SELECT sum(balance) FROM accounts;
COMMIT;
SELECT code, balance FROM accounts WHERE code IN ('acc9', 'acc10');
BEGIN;
DELETE FROM events WHERE item_id = 5;
INSERT INTO loc (id) VALUES (200);
UPDATE products SET price = 3 WHERE id = 3;
UPDATE items SET txt = 'tx' WHERE id IN (1, 2, 3);
SELECT count(*) FROM events;
COMMIT;
SELECT txt FROM items WHERE id < 4;

-- after an error
BEGIN;
INSERT INTO items (id) VALUES (201);
-- @error(23505)
INSERT INTO items (id) VALUES (5);
-- @error(25P02)
SELECT count(*) FROM items;
-- @error(25P02)
INSERT INTO items (id) VALUES (202);
COMMIT;
SELECT count(*) FROM items WHERE id > 200;
BEGIN;
UPDATE items SET k = 5 WHERE id = 1;
-- @error(22012)
SELECT 1 / 0;
ROLLBACK;
SELECT k FROM items WHERE id = 1;
BEGIN;
INSERT INTO items (id) VALUES (203);
-- @error(22012)
SELECT 1 / (id - 203) FROM items;
ROLLBACK;
SELECT count(*) FROM items WHERE id = 203;

-- isolation
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM items;
-- @session(b)
INSERT INTO items (id, k) VALUES (301, 1), (302, 2), (303, 3);
UPDATE items SET k = 77 WHERE id = 5;
-- @session(a)
SELECT count(*) FROM items;
SELECT k FROM items WHERE id = 5;
SELECT count(*) FROM items WHERE id > 300;
-- @error(40001)
UPDATE items SET k = k + 1 WHERE id = 5;
ROLLBACK;
SELECT k FROM items WHERE id = 5;
BEGIN ISOLATION LEVEL READ COMMITTED;
SELECT count(*) FROM items WHERE k = 77;
-- @session(b)
UPDATE items SET k = 78 WHERE id = 5;
-- @session(a)
SELECT count(*) FROM items WHERE k = 77;
UPDATE items SET k = k + 1 WHERE id = 5;
COMMIT;
SELECT k FROM items WHERE id = 5;
BEGIN TRANSACTION ISOLATION LEVEL SERIALIZABLE;
SELECT sum(balance) FROM accounts WHERE code = 'acc9';
UPDATE accounts SET balance = 1 WHERE code = 'acc9';
COMMIT;
SHOW transaction_isolation;
BEGIN;
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;
SHOW transaction_isolation;
SELECT count(*) FROM events WHERE item_id = 8;
COMMIT;
BEGIN;
SELECT count(*) FROM items;
-- @error(25001)
SET TRANSACTION ISOLATION LEVEL SERIALIZABLE;
ROLLBACK;

-- uncommitted rows stay unseen
BEGIN;
INSERT INTO items (id, k) VALUES (401, 1), (402, 1);
DELETE FROM items WHERE id = 60;
-- @session(b)
SELECT count(*) FROM items WHERE id > 400;
SELECT count(*) FROM items WHERE id = 60;
-- @session(a)
COMMIT;
-- @session(b)
SELECT count(*) FROM items WHERE id > 400;
-- @session(a)

-- read only
BEGIN READ ONLY;
SELECT count(*) FROM items;
SELECT k FROM items WHERE id = 5;
-- @error(25006)
INSERT INTO items (id) VALUES (501);
ROLLBACK;
BEGIN READ ONLY;
-- @error(25006)
UPDATE products SET price = 1;
ROLLBACK;
SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY;
-- @error(25006)
DELETE FROM items WHERE id = 5;
-- @error(25006)
SELECT 1 FROM items WHERE id = 5 FOR UPDATE;
SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE;
DELETE FROM items WHERE id = 302;
SET default_transaction_read_only = on;
-- @error(25006)
INSERT INTO events (item_id, seq) VALUES (1, 99999);
SET default_transaction_read_only = off;

-- chained, deferred, prepared
BEGIN;
INSERT INTO items (id) VALUES (601);
COMMIT AND CHAIN;
INSERT INTO items (id) VALUES (602);
ROLLBACK AND CHAIN;
INSERT INTO items (id) VALUES (603);
COMMIT;
SELECT id FROM items WHERE id > 600;
START TRANSACTION;
END;
-- @error(25P01)
SAVEPOINT outside;
ROLLBACK;
-- @together
INSERT INTO items (id) VALUES (701), (702);
INSERT INTO items (id) VALUES (703);
DELETE FROM items WHERE id = 702;
-- @end
-- @together
-- @error(23505)
INSERT INTO items (id) VALUES (704), (705), (706);
INSERT INTO items (id) VALUES (5);
-- @end
SELECT id FROM items WHERE id > 700;
-- @together
BEGIN;
INSERT INTO items (id) VALUES (707);
COMMIT;
INSERT INTO items (id) VALUES (708);
-- @end
SELECT id FROM items WHERE id > 700;
BEGIN;
-- @together
INSERT INTO items (id) VALUES (709);
SELECT count(*) FROM items WHERE id > 700;
-- @end
ROLLBACK;
SELECT count(*) FROM items WHERE id > 700;
BEGIN;
CREATE TABLE made_in_tx (id int);
INSERT INTO items (id) VALUES (801), (802);
INSERT INTO made_in_tx SELECT id FROM items WHERE id > 800;
SELECT * FROM made_in_tx;
ROLLBACK;
-- @error(42P01)
SELECT * FROM made_in_tx;
SELECT count(*) FROM items WHERE id > 800;
SELECT txid_current_if_assigned() IS NULL, count(*) FROM items;
SET statement_timeout = '200ms';
-- @error(57014)
SELECT count(*), pg_sleep(5) FROM items WHERE id = 5;
-- @error(57014)
SELECT count(pg_sleep(1)) FROM items;
RESET statement_timeout;
SET statement_timeout = '30s';
SELECT count(*) FROM items;
