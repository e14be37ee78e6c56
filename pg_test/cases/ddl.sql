-- Changes of distributed and reference tables.

-- columns
ALTER TABLE items ADD COLUMN c1 int;
ALTER TABLE items ADD COLUMN c2 text DEFAULT 'two', ADD COLUMN c3 numeric(5,2) NOT NULL DEFAULT 1.5;
ALTER TABLE items ADD COLUMN IF NOT EXISTS c1 int;
-- @error(42701)
ALTER TABLE items ADD COLUMN c1 int;
SELECT id, c1, c2, c3 FROM items WHERE id < 5;
UPDATE items SET c1 = id WHERE id < 5;
INSERT INTO items (id) VALUES (101) RETURNING c1, c2, c3;
-- @error(23502)
ALTER TABLE items ALTER COLUMN c2 SET DEFAULT 'other', ALTER COLUMN c1 SET NOT NULL;
ALTER TABLE items ALTER COLUMN c2 SET DEFAULT 'other';
INSERT INTO items (id) VALUES (102) RETURNING c2;
ALTER TABLE items ALTER c2 DROP DEFAULT, ALTER c3 DROP NOT NULL;
INSERT INTO items (id, c3) VALUES (103, NULL) RETURNING c2, c3;
ALTER TABLE items ALTER COLUMN c1 TYPE bigint;
ALTER TABLE items ALTER COLUMN c1 TYPE text USING 'n' || c1;
SELECT id, c1 FROM items WHERE id < 5;
-- @error(42804)
ALTER TABLE items ALTER COLUMN c1 TYPE int;
-- @error(22P02)
ALTER TABLE items ALTER COLUMN c1 TYPE int USING c1::int;
ALTER TABLE items RENAME COLUMN c1 TO renamed;
SELECT renamed FROM items WHERE id = 3;
-- @error(42703)
SELECT c1 FROM items;
ALTER TABLE items ALTER COLUMN c2 SET STATISTICS 200, ALTER COLUMN c2 SET STORAGE EXTERNAL;
ALTER TABLE items DROP COLUMN c3;
ALTER TABLE items DROP COLUMN IF EXISTS c3;
-- @error(42703)
ALTER TABLE items DROP COLUMN c3;
INSERT INTO items (id, k, c2) VALUES (104, 4, 'after drop') RETURNING id, k, c2;
SELECT * FROM items WHERE id IN (3, 104);
ALTER TABLE items ADD COLUMN gen int GENERATED ALWAYS AS (id * 2) STORED;
SELECT id, gen FROM items WHERE id < 4;
UPDATE items SET k = 1 WHERE id = 3 RETURNING gen;
-- @error(428C9)
UPDATE items SET gen = 1 WHERE id = 3;
ALTER TABLE items DROP COLUMN gen;
ALTER TABLE events ADD COLUMN doubled numeric GENERATED ALWAYS AS (amount * 2) STORED, ADD COLUMN at2 timestamptz DEFAULT '2024-01-01 00:00:00+00';
SELECT sum(doubled), count(at2) FROM events;
ALTER TABLE products ADD COLUMN weight int DEFAULT 3;
UPDATE products SET weight = 4 WHERE id = 1;
ALTER TABLE products RENAME COLUMN weight TO mass;
SELECT sum(mass) FROM products;
ALTER TABLE products ALTER COLUMN mass TYPE numeric, DROP COLUMN gone;
SELECT * FROM products WHERE id < 3;
INSERT INTO products (id, name) VALUES (50, 'fifty') RETURNING *;
-- @error(23502)
ALTER TABLE prices ALTER COLUMN label SET NOT NULL;

-- constraints
ALTER TABLE items ADD CONSTRAINT positive CHECK (id > -100);
-- @error(23514)
INSERT INTO items (id) VALUES (-200);
-- @error(23514)
ALTER TABLE items ADD CONSTRAINT wrong CHECK (id > 5);
ALTER TABLE items ADD CONSTRAINT later CHECK (id > 5) NOT VALID;
-- @error(23514)
INSERT INTO items (id) VALUES (4);
-- @error(23514)
ALTER TABLE items VALIDATE CONSTRAINT later;
ALTER TABLE items DROP CONSTRAINT later;
ALTER TABLE items RENAME CONSTRAINT positive TO large_enough;
ALTER TABLE items DROP CONSTRAINT large_enough;
INSERT INTO items (id) VALUES (-200);
ALTER TABLE items ADD CONSTRAINT items_uk UNIQUE (id, txt);
INSERT INTO items (id, txt) VALUES (105, 'u') ON CONFLICT (id, txt) DO NOTHING;
INSERT INTO items (id, txt) VALUES (105, 'u') ON CONFLICT (id, txt) DO UPDATE SET k = 1;
ALTER TABLE items DROP CONSTRAINT items_uk;
-- @error(23505)
ALTER TABLE prices ADD UNIQUE (p);
ALTER TABLE events DROP CONSTRAINT events_item_id_seq_key;
INSERT INTO events (item_id, seq) VALUES (1, 1), (1, 1);
ALTER TABLE order_lines DROP CONSTRAINT order_lines_product_id_fkey;
INSERT INTO order_lines (tenant_id, order_id, line, product_id) VALUES (2, 1, 30, 12345);
-- @error(23503)
ALTER TABLE order_lines ADD CONSTRAINT fk FOREIGN KEY (product_id) REFERENCES products;
DELETE FROM order_lines WHERE product_id = 12345;
ALTER TABLE order_lines ADD CONSTRAINT fk FOREIGN KEY (product_id) REFERENCES products;
-- @error(23503)
INSERT INTO order_lines (tenant_id, order_id, line, product_id) VALUES (2, 1, 31, 12345);
ALTER TABLE countries DROP CONSTRAINT countries_pkey;
INSERT INTO countries VALUES ('DE', 'again');
DELETE FROM countries WHERE code = 'DE';
ALTER TABLE countries ADD PRIMARY KEY (code);
ALTER TABLE products ADD CHECK (price >= 0);
-- @error(23514)
UPDATE products SET price = -1 WHERE id = 1;

-- indexes
CREATE INDEX ON items (small, k);
CREATE INDEX by_txt ON items USING hash (txt);
CREATE INDEX partial ON items (price) WHERE ok;
CREATE INDEX by_expr ON items ((k + 1), lower(txt) DESC NULLS LAST) INCLUDE (small);
CREATE INDEX gin_jb ON items USING gin (jb);
CREATE INDEX gist_span ON items USING gist (span);
CREATE INDEX brin_d ON items USING brin (d);
CREATE UNIQUE INDEX uniq ON items (id, k);
CREATE INDEX IF NOT EXISTS by_txt ON items (txt);
-- @error(42P07)
CREATE INDEX by_txt ON items (txt);
SELECT id FROM items WHERE jb @> '{"i": 3}';
SELECT id FROM items WHERE k + 1 = 4 AND ok;
ALTER INDEX by_txt RENAME TO by_txt2;
DROP INDEX by_txt2;
DROP INDEX IF EXISTS by_txt2;
-- @error(42704)
DROP INDEX by_txt2;
DROP INDEX partial, gin_jb;
CREATE UNIQUE INDEX products_name ON products (name);
-- @error(23505)
INSERT INTO products (id, name) VALUES (51, 'fifty');
REINDEX TABLE items;
REINDEX INDEX uniq;

-- names, owners, comments, storage
ALTER TABLE loc RENAME TO loc2;
ALTER TABLE days RENAME TO dates;
SELECT count(*) FROM dates WHERE d = '2024-02-29';
INSERT INTO dates VALUES ('2024-02-29', 5);
-- @error(42P01)
SELECT * FROM days;
CREATE TABLE days (d int);
ALTER TABLE products RENAME TO goods;
SELECT l.line, g.name FROM order_lines l JOIN goods g ON g.id = l.product_id WHERE l.tenant_id = 3;
UPDATE goods SET price = price + 1;
ALTER TABLE goods RENAME TO products;
CREATE SCHEMA other;
ALTER TABLE stamps SET SCHEMA other;
SELECT count(*) FROM other.stamps;
INSERT INTO other.stamps VALUES (NULL, 99);
ALTER TABLE other.stamps SET SCHEMA t;
ALTER SCHEMA other RENAME TO other2;
ALTER SCHEMA other2 RENAME TO other;
DROP SCHEMA other;
COMMENT ON TABLE items IS 'changed';
COMMENT ON COLUMN items.k IS 'a column';
SELECT obj_description('items'::regclass), col_description('items'::regclass, 3);
COMMENT ON TABLE items IS NULL;
COMMENT ON TABLE products IS 'reference';
ALTER TABLE products SET (autovacuum_enabled = false);
ALTER TABLE accounts REPLICA IDENTITY FULL;

-- types and functions under the tables
ALTER TYPE mood ADD VALUE 'furious' AFTER 'sad';
INSERT INTO items (id, feel) VALUES (106, 'furious');
-- @ordered
SELECT feel, count(*) FROM items GROUP BY feel ORDER BY feel;
ALTER TYPE mood RENAME VALUE 'furious' TO 'angry';
SELECT feel FROM items WHERE id = 106;
ALTER TYPE mood RENAME TO temper;
SELECT count(*) FROM items WHERE feel = 'ok'::temper;
ALTER TYPE temper RENAME TO mood;
ALTER DOMAIN percent ADD CONSTRAINT not_13 CHECK (VALUE <> 13);
-- @error(23514)
UPDATE items SET pct = 13 WHERE id = 1;
ALTER DOMAIN percent DROP CONSTRAINT not_13;
UPDATE items SET pct = 13 WHERE id = 1;

-- in transactions
BEGIN;
ALTER TABLE items ADD COLUMN tx int DEFAULT 1;
UPDATE items SET tx = id WHERE id < 10;
SELECT sum(tx) FROM items;
CREATE INDEX tx_i ON items (tx);
ROLLBACK;
-- @error(42703)
SELECT tx FROM items;
BEGIN;
ALTER TABLE items ADD COLUMN tx int DEFAULT 1;
INSERT INTO items (id, tx) VALUES (107, 5);
COMMIT;
SELECT sum(tx) FROM items;
BEGIN;
INSERT INTO items (id) VALUES (108);
DROP TABLE events CASCADE;
SELECT count(*) FROM items;
ROLLBACK;
SELECT count(*) FROM events;
BEGIN;
TRUNCATE bigs;
DROP TABLE smalls;
ALTER TABLE bigs ADD COLUMN extra int;
COMMIT;
SELECT * FROM bigs;
INSERT INTO bigs VALUES (1, 2, 3, 4);
-- @error(42P01)
SELECT * FROM smalls;
CREATE TABLE smalls (id int, new text);
-- @distribute(smalls, id, 4)
INSERT INTO smalls VALUES (1, 'a'), (NULL, 'b');
SELECT * FROM smalls;

-- statistics and maintenance
ANALYZE items;
ANALYZE;
VACUUM items;
VACUUM (ANALYZE) items, products, loc2;
VACUUM FULL products;
CREATE STATISTICS both_k ON k, small FROM items;
ANALYZE items;
DROP STATISTICS both_k;
BEGIN;
-- @error(25001)
VACUUM items;
ROLLBACK;

-- drops
DROP TABLE accounts;
-- @error(42P01)
SELECT * FROM accounts;
DROP TABLE IF EXISTS accounts, prices;
-- @error(2BP01)
DROP TABLE orders;
DROP TABLE orders CASCADE;
SELECT count(*) FROM order_lines;
-- @error(42P01)
SELECT * FROM order_totals;
INSERT INTO order_lines (tenant_id, order_id, line) VALUES (1234, 1, 1);
DROP TABLE countries, docs;
DROP VIEW item_names;
-- @error(2BP01)
DROP TYPE mood;
CREATE TABLE accounts (code int);
INSERT INTO accounts VALUES (1);
