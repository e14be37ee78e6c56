-- TRUNCATE.

TRUNCATE events;
SELECT count(*) FROM events;
INSERT INTO events (item_id, seq) VALUES (1, 1), (NULL, 2);
SELECT * FROM events;
-- @error(0A000)
TRUNCATE orders;
SELECT count(*) FROM orders;
TRUNCATE orders CASCADE;
SELECT count(*) FROM order_lines;
BEGIN;
TRUNCATE items;
SELECT count(*) FROM items;
INSERT INTO items (id) VALUES (1);
SELECT count(*) FROM items;
ROLLBACK;
SELECT count(*) FROM items;
TRUNCATE loc, accounts, prices;
SELECT (SELECT count(*) FROM loc), (SELECT count(*) FROM accounts), (SELECT count(*) FROM prices);
-- @error(0A000)
TRUNCATE products;
TRUNCATE countries;
SELECT count(*) FROM countries;
INSERT INTO countries VALUES ('AA', 'again');
CREATE TABLE numbered (id int, n int GENERATED ALWAYS AS IDENTITY, s serial);
-- @distribute(numbered, id, 4)
INSERT INTO numbered (id) VALUES (1), (2), (3);
TRUNCATE numbered;
INSERT INTO numbered (id) VALUES (4);
SELECT * FROM numbered;
TRUNCATE numbered RESTART IDENTITY;
INSERT INTO numbered (id) VALUES (5);
SELECT * FROM numbered;
BEGIN;
SAVEPOINT s;
TRUNCATE numbered CONTINUE IDENTITY;
ROLLBACK TO s;
SELECT count(*) FROM numbered;
COMMIT;
TRUNCATE TABLE days;
SELECT count(*) FROM days;
-- @error(42P01)
TRUNCATE nothing;
