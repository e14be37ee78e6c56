-- Savepoints and subtransactions on one and several nodes.

BEGIN;
INSERT INTO items (id) VALUES (101);
SAVEPOINT a;
INSERT INTO items (id) VALUES (102);
SAVEPOINT b;
INSERT INTO items (id) VALUES (103);
ROLLBACK TO b;
SELECT id FROM items WHERE id > 100;
INSERT INTO items (id) VALUES (104);
ROLLBACK TO a;
SELECT id FROM items WHERE id > 100;
INSERT INTO items (id) VALUES (105);
RELEASE a;
SELECT id FROM items WHERE id > 100;
COMMIT;
SELECT id FROM items WHERE id > 100;

-- errors inside
BEGIN;
SAVEPOINT a;
-- @error(23505)
INSERT INTO items (id) VALUES (201), (5);
ROLLBACK TO a;
INSERT INTO items (id) VALUES (202);
SAVEPOINT b;
-- @error(22012)
UPDATE items SET k = 1 / (k - k);
ROLLBACK TO b;
-- @error(42703)
SELECT nothing FROM items;
ROLLBACK TO SAVEPOINT a;
INSERT INTO items (id) VALUES (203);
COMMIT;
SELECT id FROM items WHERE id > 200;

-- the first access to a node comes after the savepoint
BEGIN;
SELECT k FROM items WHERE id = 1;
SAVEPOINT a;
UPDATE items SET k = 1000;
SELECT count(*) FROM items WHERE k = 1000;
ROLLBACK TO a;
SELECT count(*) FROM items WHERE k = 1000;
UPDATE items SET k = 1001 WHERE id = 7;
COMMIT;
SELECT count(*) FROM items WHERE k > 999;
BEGIN;
SAVEPOINT a;
SAVEPOINT b;
INSERT INTO items (id) VALUES (301), (302), (303), (304);
RELEASE b;
SAVEPOINT c;
DELETE FROM items WHERE id > 300 AND id < 303;
RELEASE c;
ROLLBACK TO a;
SELECT count(*) FROM items WHERE id > 300;
INSERT INTO items (id) VALUES (305);
COMMIT;
SELECT id FROM items WHERE id > 300;

-- the same name again
BEGIN;
SAVEPOINT s;
INSERT INTO items (id) VALUES (401);
SAVEPOINT s;
INSERT INTO items (id) VALUES (402);
ROLLBACK TO s;
INSERT INTO items (id) VALUES (403);
RELEASE s;
ROLLBACK TO s;
SELECT id FROM items WHERE id > 400;
INSERT INTO items (id) VALUES (404);
COMMIT;
SELECT id FROM items WHERE id > 400;

-- mixed with local and reference tables, DDL
BEGIN;
INSERT INTO loc (id) VALUES (100);
SAVEPOINT a;
UPDATE products SET price = 1 WHERE id = 1;
DELETE FROM loc WHERE id = 100;
INSERT INTO items (id) VALUES (501);
ROLLBACK TO a;
SELECT (SELECT count(*) FROM loc WHERE id = 100), (SELECT price FROM products WHERE id = 1), (SELECT count(*) FROM items WHERE id = 501);
SAVEPOINT d;
ALTER TABLE items ADD COLUMN added int DEFAULT 3;
SELECT count(added) FROM items;
ROLLBACK TO d;
-- @error(42703)
SELECT count(added) FROM items;
ROLLBACK TO d;
SELECT count(*) FROM items;
COMMIT;
BEGIN;
SAVEPOINT a;
LOCK TABLE items;
SELECT id FROM items WHERE id < 5 FOR UPDATE;
ROLLBACK TO a;
-- @session(b)
SELECT id FROM items WHERE id < 5 FOR UPDATE NOWAIT;
-- @session(a)
ROLLBACK;
BEGIN;
-- @error(3B001)
ROLLBACK TO nothing;
ROLLBACK;
BEGIN;
INSERT INTO items (id) VALUES (601);
SAVEPOINT a;
-- @error(23505)
INSERT INTO items (id) VALUES (5);
-- @error(25P02)
SAVEPOINT b;
ROLLBACK;
SELECT count(*) FROM items WHERE id = 601;

-- subtransactions of PL/pgSQL, many
DO $$
BEGIN
    FOR i IN 1..40 LOOP
        BEGIN
            INSERT INTO items (id, k) VALUES (700 + i, i);
            IF i % 3 = 0 THEN RAISE EXCEPTION 'no'; END IF;
            IF i % 5 = 0 THEN INSERT INTO items (id) VALUES (5); END IF;
        EXCEPTION WHEN raise_exception OR unique_violation THEN NULL;
        END;
    END LOOP;
END $$;
SELECT id, k FROM items WHERE id > 700;
BEGIN;
SAVEPOINT x;
INSERT INTO items (id) VALUES (801), (802), (803);
RELEASE x;
ROLLBACK;
SELECT count(*) FROM items WHERE id > 800;
