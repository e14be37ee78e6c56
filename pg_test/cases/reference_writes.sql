-- Writes to reference tables: every copy must get the same.

-- @ignore-table(vol)

INSERT INTO products (id, name) VALUES (101, 'a'), (102, 'b') RETURNING *;
INSERT INTO products SELECT i, 'gen ' || i, 'cat' || i % 2, i * 1.5 FROM generate_series(110, 120) i;
INSERT INTO products (id, name, price) SELECT id + 200, txt, price FROM items WHERE txt IS NOT NULL AND id < 20;
INSERT INTO products (id, name) SELECT id + 300, name FROM products WHERE id < 10;
INSERT INTO countries SELECT DISTINCT upper(left(md5(code), 2)), 'made', NULL, 1 FROM accounts ON CONFLICT DO NOTHING;
UPDATE products SET price = price * 2 WHERE category = 'cat1' RETURNING id, price;
UPDATE products SET category = (SELECT max(txt) FROM items WHERE items.k = products.id) WHERE id < 10;
UPDATE products SET category = l.word FROM loc l WHERE l.id = products.id;
UPDATE products SET name = c.name FROM countries c WHERE c.code = 'DE' AND products.id = 20;
UPDATE products SET id = id + 1000 WHERE id > 300;
DELETE FROM products WHERE id > 1000 AND id % 2 = 0 RETURNING id;
DELETE FROM products p USING items i WHERE i.id = p.id - 100 AND i.id BETWEEN 12 AND 15;
DELETE FROM products WHERE id IN (SELECT id + 200 FROM items WHERE k = 3);
-- @error(23503)
DELETE FROM products WHERE id = 5;
-- @error(23505)
INSERT INTO products (id, name) VALUES (150, 'x'), (1, 'dup');
-- @error(23502)
UPDATE products SET name = NULL WHERE id = 101;
SELECT count(*), sum(id), sum(price) FROM products;

-- volatile functions are evaluated once for all copies
CREATE TABLE vol (id int PRIMARY KEY, n serial, r float8 DEFAULT random(), u uuid DEFAULT gen_random_uuid(), at timestamptz DEFAULT clock_timestamp(), x xid8 DEFAULT pg_current_xact_id());
-- @replicate(vol)
INSERT INTO vol (id) VALUES (1);
INSERT INTO vol (id) VALUES (2), (3), (4);
INSERT INTO vol (id) SELECT generate_series(5, 9);
INSERT INTO vol (id, r, u, at) VALUES (10, random() * 10, gen_random_uuid(), now());
INSERT INTO vol (id, r) SELECT 11, random() FROM items WHERE id = 5;
UPDATE vol SET r = random();
UPDATE vol SET r = random(), u = gen_random_uuid() WHERE id % 2 = 0;
UPDATE vol SET n = nextval('vol_n_seq') WHERE id = 3 RETURNING id, n;
UPDATE vol SET at = now(), r = r + random() WHERE id = (SELECT 5 + floor(random())::int);
-- @columns-only
DELETE FROM vol WHERE random() < 0.5 AND id BETWEEN 9 AND 11;
INSERT INTO vol (id) VALUES (1), (50) ON CONFLICT (id) DO UPDATE SET r = random() RETURNING id;
WITH new AS (INSERT INTO vol (id) VALUES (60) RETURNING id, r) SELECT count(*) FROM new JOIN items ON items.id = new.id - 55;
COPY vol (id) FROM STDIN;
70
71
\.
SELECT id FROM vol WHERE id BETWEEN 1 AND 8 OR id >= 50;
SELECT id, n FROM vol WHERE id < 8;
SELECT count(*) = count(DISTINCT r), count(*) = count(DISTINCT u) FROM vol;
MERGE INTO vol USING (SELECT generate_series(70, 75) AS id) s ON vol.id = s.id WHEN MATCHED THEN UPDATE SET r = random() WHEN NOT MATCHED THEN INSERT (id, r) VALUES (s.id, random());
SELECT id FROM vol WHERE id >= 70;

-- in transactions with other tables
BEGIN;
INSERT INTO products (id, name) VALUES (500, 'five hundred');
INSERT INTO order_lines (tenant_id, order_id, line, product_id) VALUES (2, 1, 50, 500);
SELECT p.name, l.line FROM products p JOIN order_lines l ON l.product_id = p.id WHERE p.id = 500;
SELECT p.name, l.word FROM products p JOIN loc l ON l.id = p.id - 490;
UPDATE products SET price = 5 WHERE id = 500;
SAVEPOINT s;
DELETE FROM products WHERE id = 101;
ROLLBACK TO s;
SELECT id, price FROM products WHERE id IN (101, 500);
COMMIT;
BEGIN;
UPDATE products SET price = 0;
ROLLBACK;
SELECT sum(price) FROM products;
BEGIN;
-- @columns-only
DELETE FROM vol;
SELECT count(*) FROM vol;
ROLLBACK;
SELECT count(*) > 10 FROM vol;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM countries;
INSERT INTO countries VALUES ('ZZ', 'nowhere', NULL, NULL);
SELECT count(*) FROM countries;
COMMIT;

-- a reference table without a key
CREATE TABLE bare (a int, b text);
INSERT INTO bare VALUES (1, 'x'), (1, 'x'), (NULL, NULL);
-- @replicate(bare)
INSERT INTO bare VALUES (1, 'x'), (2, 'y');
UPDATE bare SET b = 'z' WHERE a = 2;
DELETE FROM bare WHERE a IS NULL;
SELECT * FROM bare;
UPDATE bare SET a = a + 1 WHERE a = 1 RETURNING *;
DELETE FROM bare;
INSERT INTO bare SELECT id, txt FROM items WHERE k = 1;
SELECT bare.a, i.id FROM bare JOIN items i ON i.id = bare.a;
TRUNCATE bare;
SELECT count(*) FROM bare;
INSERT INTO bare DEFAULT VALUES;
