-- Tables of many shapes are distributed, replicated and brought back, empty and with rows.

-- no key, no rows; rows but no key; dropped columns; odd names
CREATE TABLE plain1 (a int, b text);
-- @distribute(plain1, a, 4)
INSERT INTO plain1 VALUES (1, 'x'), (2, 'y'), (NULL, 'z'), (1, 'x');
SELECT * FROM plain1;
CREATE TABLE dropped (x int, a int, y text, b text DEFAULT 'b', z int);
INSERT INTO dropped SELECT i, i, 'y' || i, 'b' || i, i FROM generate_series(1, 20) i;
ALTER TABLE dropped DROP COLUMN x, DROP COLUMN y;
-- @distribute(dropped, a, 4)
SELECT * FROM dropped WHERE a = 5;
SELECT count(*), max(b) FROM dropped;
INSERT INTO dropped (a) VALUES (21) RETURNING *;
ALTER TABLE dropped DROP COLUMN z, ADD COLUMN w int DEFAULT 9;
SELECT * FROM dropped WHERE a > 18;
UPDATE dropped SET b = 'changed' WHERE a = 3 RETURNING *;
COPY dropped FROM STDIN;
30	copied	1
\.
CREATE TABLE "Odd Table" ("Key ""K""" int PRIMARY KEY, "select" text, "ünï" int, "CamelCase" int DEFAULT 3);
INSERT INTO "Odd Table" SELECT i, 's' || i, i % 3 FROM generate_series(1, 10) i;
-- @cluster
SELECT sharding.distribute_table('"Odd Table"', 'Key "K"', 4);
-- @end
SELECT * FROM "Odd Table" WHERE "Key ""K""" = 3;
SELECT "ünï", count(*), max("select") FROM "Odd Table" GROUP BY "ünï";
UPDATE "Odd Table" SET "CamelCase" = "Key ""K""" + 1 WHERE "select" > 's5' RETURNING "CamelCase";
INSERT INTO "Odd Table" VALUES (11, '%s;--', NULL) ON CONFLICT ("Key ""K""") DO NOTHING;
SELECT a."select", b."select" FROM "Odd Table" a JOIN "Odd Table" b ON a."Key ""K""" = b."ünï";
CREATE TABLE a_table_with_a_name_that_is_as_long_as_a_name_of_63_bytes_can (a_column_with_a_name_that_is_as_long_as_a_name_of_63_bytes_can int PRIMARY KEY, v int);
INSERT INTO a_table_with_a_name_that_is_as_long_as_a_name_of_63_bytes_can VALUES (1, 1), (2, 2);
-- @distribute(a_table_with_a_name_that_is_as_long_as_a_name_of_63_bytes_can, a_column_with_a_name_that_is_as_long_as_a_name_of_63_bytes_can, 4)
SELECT sum(v) FROM a_table_with_a_name_that_is_as_long_as_a_name_of_63_bytes_can;
CREATE INDEX ON a_table_with_a_name_that_is_as_long_as_a_name_of_63_bytes_can (v);

-- the key is not the first column, and has many kinds of neighbours
CREATE TABLE late_key (a text, b int[], c jsonb, d int CHECK (d > 0), e mood DEFAULT 'ok', f point3, g percent, key int, h timestamptz DEFAULT '2024-01-01 00:00:00+00',
    CONSTRAINT late_pk PRIMARY KEY (d, key));
INSERT INTO late_key (a, b, d, f, g, key) SELECT 'a' || i, ARRAY[i, NULL], i, ROW(i, i, 'l')::point3, i, i % 4 FROM generate_series(1, 12) i;
-- @distribute(late_key, key, 4)
SELECT * FROM late_key;
SELECT d, e, f FROM late_key WHERE key = 2;
-- @error(23514)
INSERT INTO late_key (d, key) VALUES (-1, 1);
-- @error(23505)
INSERT INTO late_key (d, key) VALUES (1, 1);

-- already partitioned by hash
CREATE TABLE parted (k int, v text, PRIMARY KEY (k)) PARTITION BY HASH (k);
CREATE TABLE parted_0 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO parted SELECT i, 'v' || i FROM generate_series(1, 20) i;
-- @distribute(parted, k, 2)
SELECT * FROM parted;
SELECT v FROM parted WHERE k = 7;
INSERT INTO parted VALUES (21, 'new'), (22, 'new');
UPDATE parted SET v = 'changed' WHERE k = 3;
-- @error(23505)
INSERT INTO parted VALUES (7, 'again');
DELETE FROM parted WHERE k > 15;

-- keys of all sorts
CREATE TABLE by_bool (k bool, v int);
CREATE TABLE by_bytea (k bytea, v int);
CREATE TABLE by_timestamp (k timestamp, v int);
CREATE TABLE by_interval (k interval, v int);
CREATE TABLE by_inet (k inet, v int);
CREATE TABLE by_varchar (k varchar(10), v int);
CREATE TABLE by_float (k float8, v int);
CREATE TABLE by_array (k int[], v int);
CREATE TABLE by_c (k text COLLATE "C", v int);
CREATE TABLE by_jsonb (k jsonb, v int);
CREATE TABLE by_domain (k percent, v int);
-- @distribute(by_bool, k, 4)
-- @distribute(by_bytea, k, 4)
-- @distribute(by_timestamp, k, 4)
-- @distribute(by_interval, k, 4)
-- @distribute(by_inet, k, 4)
-- @distribute(by_varchar, k, 4)
-- @distribute(by_float, k, 4)
-- @distribute(by_array, k, 4)
-- @distribute(by_c, k, 4)
-- @distribute(by_jsonb, k, 4)
-- @distribute(by_domain, k, 4)
INSERT INTO by_bool VALUES (true, 1), (false, 2), (NULL, 3), (true, 4);
SELECT v FROM by_bool WHERE k;
SELECT v FROM by_bool WHERE NOT k;
SELECT v FROM by_bool WHERE k = true;
SELECT v FROM by_bool WHERE k IS NOT TRUE;
SELECT v FROM by_bool WHERE k IS NULL;
INSERT INTO by_bytea VALUES ('\x00', 1), ('', 2), ('\xff00ff', 3), (NULL, 4);
SELECT v FROM by_bytea WHERE k = '\xff00ff';
SELECT v FROM by_bytea WHERE k = '';
INSERT INTO by_timestamp VALUES ('2024-03-31 02:30', 1), ('infinity', 2), ('-infinity', 3), ('2024-02-29', 4);
SELECT v FROM by_timestamp WHERE k = '2024-02-29';
SELECT v FROM by_timestamp WHERE k = date '2024-02-29';
SELECT v FROM by_timestamp WHERE k = 'infinity';
INSERT INTO by_interval VALUES ('1 month', 1), ('30 days', 2), ('720 hours', 3), ('1 day', 4), ('24:00:00', 5);
SELECT v FROM by_interval WHERE k = '30 days';
SELECT count(*), sum(v) FROM by_interval GROUP BY k;
SELECT count(*) FROM by_interval a JOIN by_interval b ON a.k = b.k;
INSERT INTO by_inet VALUES ('10.0.0.1', 1), ('10.0.0.1/32', 2), ('10.0.0.0/24', 3), ('::1', 4);
SELECT v FROM by_inet WHERE k = '10.0.0.1';
INSERT INTO by_varchar VALUES ('a', 1), ('a ', 2), ('', 3), (NULL, 4);
SELECT v FROM by_varchar WHERE k = 'a';
SELECT v FROM by_varchar WHERE k = 'a'::text;
SELECT v FROM by_varchar WHERE k = 'a'::char(5);
INSERT INTO by_float VALUES (0.0, 1), ('-0', 2), ('NaN', 3), ('Infinity', 4), (0.1, 5), (1e300, 6);
SELECT v FROM by_float WHERE k = 0;
SELECT v FROM by_float WHERE k = '-0';
SELECT v FROM by_float WHERE k = 'NaN';
SELECT v FROM by_float WHERE k = 0.1;
SELECT v FROM by_float WHERE k = 0.1::float4;
SELECT count(*), sum(v) FROM by_float GROUP BY k;
INSERT INTO by_array VALUES ('{1,2}', 1), ('{}', 2), ('{NULL}', 3), (NULL, 4), ('[0:1]={1,2}', 5);
SELECT v FROM by_array WHERE k = '{1,2}';
SELECT v FROM by_array WHERE k = '{}';
INSERT INTO by_c VALUES ('a', 1), ('A', 2), ('ä', 3), ('', 4);
SELECT v FROM by_c WHERE k = 'ä';
-- @ordered
SELECT k FROM by_c ORDER BY k;
INSERT INTO by_jsonb VALUES ('{"a": 1, "b": 2}', 1), ('1.0', 2), ('null', 3), (NULL, 4), ('1', 5);
SELECT v FROM by_jsonb WHERE k = '{"b": 2, "a": 1}';
SELECT v FROM by_jsonb WHERE k = '1';
INSERT INTO by_domain VALUES (5, 1), (5.00, 2), (99.9, 3), (NULL, 4);
SELECT v FROM by_domain WHERE k = 5;
UPDATE by_domain SET k = k + 0.05 WHERE k < 50;
-- @error(23514)
INSERT INTO by_domain VALUES (101, 1);
SELECT * FROM by_domain;

-- there and back
CREATE TABLE round_trip (id int PRIMARY KEY, v text UNIQUE, n numeric DEFAULT 1.5);
INSERT INTO round_trip SELECT i, 'v' || i FROM generate_series(1, 20) i;
-- @replicate(round_trip)
UPDATE round_trip SET n = id WHERE id < 5;
SELECT count(*), sum(n) FROM round_trip;
-- @undistribute(round_trip)
UPDATE round_trip SET n = n + 1;
SELECT count(*), sum(n) FROM round_trip;
ALTER TABLE round_trip DROP CONSTRAINT round_trip_v_key;
-- @distribute(round_trip, id, 4)
INSERT INTO round_trip VALUES (21, 'v1'), (22, 'v2');
SELECT * FROM round_trip;
-- @undistribute(round_trip)
SELECT count(*), sum(n) FROM round_trip;
-- @error(23505)
INSERT INTO round_trip VALUES (21, 'v1');
-- @undistribute(items)
SELECT count(*), sum(k) FROM items;
UPDATE items SET k = 5 WHERE id = 5;
SELECT i.id, e.seq FROM items i JOIN events e ON e.item_id = i.id WHERE i.id = 8;
-- @distribute(items, id, 8, events)
SELECT * FROM item_names WHERE id = 8;
SELECT id, feel, pt FROM items WHERE k = 5;
-- a temporary table and an unlogged one beside them
CREATE TEMP TABLE tmp AS SELECT id FROM items WHERE id < 10;
SELECT count(*) FROM tmp JOIN items USING (id);
-- in a transaction that rolls back, and in one that commits
CREATE TABLE tx1 (id int PRIMARY KEY, v int);
INSERT INTO tx1 SELECT i, i FROM generate_series(1, 10) i;
BEGIN;
-- @distribute(tx1, id, 4)
SELECT count(*) FROM tx1;
INSERT INTO tx1 VALUES (11, 11);
ROLLBACK;
SELECT count(*) FROM tx1;
BEGIN;
-- @distribute(tx1, id, 4)
INSERT INTO tx1 VALUES (11, 11), (12, 12);
SELECT count(*) FROM tx1;
COMMIT;
SELECT count(*), sum(v) FROM tx1;
BEGIN;
CREATE TABLE tx2 (id int PRIMARY KEY, v int);
-- @distribute(tx2, id, 4)
INSERT INTO tx2 SELECT i, i FROM generate_series(1, 10) i;
SELECT count(*) FROM tx2 JOIN tx1 USING (id);
COMMIT;
SELECT count(*) FROM tx2;
