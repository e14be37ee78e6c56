-- What Postgres 18 has and older ones have not: RETURNING old and new, virtual generated columns,
-- NOT NULL constraints with names, constraints over time and those that are not enforced.
-- @needs(SELECT 1 WHERE current_setting('server_version_num')::int >= 180000)

-- old and new, whole statement on a node
INSERT INTO items (id, k, txt) VALUES (501, 1, 'a') RETURNING old.id, new.id, old.k, new.k, id;
UPDATE items SET k = k + 1 WHERE id = 501 RETURNING old.k, new.k, k, old.k - new.k AS d;
DELETE FROM items WHERE id = 501 RETURNING old.id, new.id, id, old.txt || new.txt;
-- the same in batches
INSERT INTO items (id, k) VALUES (502, 2), (503, 3), (504, 4) RETURNING old.k, new.k, new.id + 1;
INSERT INTO items (id, k) SELECT id + 600, k FROM items WHERE id < 6 RETURNING old.id, new.id, old, new.k;
UPDATE items SET k = k * 2 WHERE id > 500 RETURNING id, old.k, new.k, new.k - old.k;
UPDATE items i SET txt = e.note FROM events e WHERE e.item_id = i.id AND e.seq < 5 RETURNING WITH (OLD AS o, NEW AS n) o.txt, n.txt, e.seq, i.id;
UPDATE items SET k = 7 WHERE id IN (SELECT id FROM items WHERE id BETWEEN 502 AND 503) RETURNING old.*, new.*;
UPDATE items SET id = id + 10000 WHERE id BETWEEN 502 AND 504 RETURNING old.id, new.id, old.k = new.k;
DELETE FROM items USING events e WHERE items.id = e.item_id AND e.seq = 3 RETURNING old.id, new.id, items.k, e.seq;
DELETE FROM items WHERE id > 10000 RETURNING old.id, new.*;
UPDATE items SET k = 1 WHERE id < 4 RETURNING old IS NULL, new IS NULL, (SELECT count(*) FROM events e WHERE e.item_id = old.id);
INSERT INTO items (id, k) VALUES (3, 1), (701, 1) ON CONFLICT (id) DO UPDATE SET k = items.k + 100 RETURNING old.k, new.k, id;
INSERT INTO items (id, k) VALUES (701, 5) ON CONFLICT (id) DO UPDATE SET k = excluded.k RETURNING old.k, new.k, old.id IS NULL;
INSERT INTO items AS t (id, k) SELECT i, i FROM generate_series(700, 705) i ON CONFLICT (id) DO UPDATE SET k = 0 WHERE t.k > 0 RETURNING old.k, new.k, old.id, new.id;
INSERT INTO items (id, k) VALUES (701, 1), (706, 1) ON CONFLICT DO NOTHING RETURNING old.id, new.id;
UPDATE products SET price = price + 1 WHERE id < 5 RETURNING old.price, new.price;
WITH u AS (UPDATE items SET k = 9 WHERE id < 10 RETURNING old.k AS before, new.k AS after) SELECT before, count(*) FROM u GROUP BY before;

-- @columns-only
EXPLAIN (VERBOSE) UPDATE items SET k = 1 WHERE id = 3 RETURNING old.k, new.k;
-- @columns-only
EXPLAIN (VERBOSE, ANALYZE, SERIALIZE, MEMORY, WAL) UPDATE items SET k = 1 WHERE id IN (SELECT item_id FROM events) RETURNING old.k, new.k, old;
-- @columns-only
EXPLAIN (VERBOSE) INSERT INTO items (id, k) VALUES (3, 1), (701, 1) ON CONFLICT (id) DO UPDATE SET k = items.k + 100 RETURNING old.k, new.k, id;
-- @columns-only
EXPLAIN (VERBOSE) MERGE INTO items t USING (VALUES (1, 50), (2, 60), (900, 70)) s (id, k) ON t.id = s.id WHEN MATCHED THEN DELETE WHEN NOT MATCHED BY SOURCE THEN UPDATE SET k = 1 RETURNING merge_action(), old.k, new.k;
-- @columns-only
EXPLAIN (VERBOSE, FORMAT JSON) SELECT k % 3, count(*) FROM items GROUP BY k % 3;
-- @params(5, 1)
UPDATE items SET k = $2 WHERE id = $1 RETURNING old.k, new.k, $1 + old.k;
UPDATE items SET k = old.k FROM (SELECT 5 AS k) old WHERE items.id = 3 RETURNING old.k, items.k;
-- @error(42712)
UPDATE items SET k = 1 WHERE id = 3 RETURNING WITH (OLD AS x, NEW AS x) x.k;
INSERT INTO items (id, k) SELECT 5000 + i, i FROM generate_series(1, 2500) i RETURNING old.k IS NULL, new.k;
UPDATE items SET k = k + 1 WHERE id > 5000 AND k IN (SELECT generate_series(1, 2500)) RETURNING old.k, new.k, id;
INSERT INTO items (id, k) SELECT 5000 + i, i FROM generate_series(1, 3000) i ON CONFLICT (id) DO UPDATE SET k = 0 RETURNING old.k, new.k, id;
DELETE FROM items WHERE id IN (SELECT generate_series(5000, 9000)) RETURNING old.k, new.k, old.id, new IS NULL, old IS NULL, old.tableoid::regclass, new.tableoid;
INSERT INTO items (id, k, txt) VALUES (6000, 1, 'x'), (6001, 2, NULL) RETURNING old.ctid IS NULL, old.tableoid, new.tableoid::regclass, old, new;
UPDATE items SET txt = NULL WHERE id IN (6000, 6001) RETURNING old.txt, new.txt, to_jsonb(old) ->> 'txt', row_to_json(new) IS NULL;
UPDATE items SET id = id + 77 WHERE id IN (6000, 6001) RETURNING old, new;
DO $$
DECLARE a int; b int;
BEGIN
  UPDATE items SET k = 99 WHERE id = 4 RETURNING old.k, new.k INTO a, b;
  RAISE NOTICE '% %', a, b;
  UPDATE items SET k = 98 WHERE id = (SELECT 4) RETURNING old.k, new.k INTO a, b;
  RAISE NOTICE '% %', a, b;
END $$;
WITH m AS (MERGE INTO items t USING (SELECT 4 AS id UNION ALL SELECT 7000) s ON t.id = s.id WHEN MATCHED THEN UPDATE SET k = -1 WHEN NOT MATCHED THEN INSERT (id, k) VALUES (s.id, 3) RETURNING merge_action() AS a, old.k AS o, new.k AS n) SELECT a, o, n FROM m;
MERGE INTO items t USING (SELECT i AS id FROM generate_series(1, 3000) i) s ON t.id = s.id WHEN MATCHED THEN UPDATE SET k = t.k + 1 WHEN NOT MATCHED THEN INSERT (id, k) VALUES (s.id, 3) RETURNING merge_action(), old.k, new.k, s.id;
MERGE INTO items t USING generate_series(1, 2900) i ON t.id = i WHEN NOT MATCHED BY SOURCE THEN DELETE WHEN MATCHED AND i > 100 THEN DELETE RETURNING merge_action(), old.id, new.id;
MERGE INTO items t USING (SELECT NULL::int AS id) i ON t.id = i.id WHEN NOT MATCHED BY SOURCE AND t.id > 50 THEN DELETE RETURNING merge_action() || '!', old.id, new.id, i.id;
WITH x AS (INSERT INTO items (id, k) VALUES (3, 3), (8000, 4) ON CONFLICT (id) DO UPDATE SET k = excluded.k RETURNING old.k AS o, new.k AS n) SELECT o, n FROM x;

-- MERGE with RETURNING
MERGE INTO items t USING (VALUES (1, 50), (2, 60), (900, 70)) s (id, k) ON t.id = s.id
    WHEN MATCHED AND s.id = 2 THEN DELETE
    WHEN MATCHED THEN UPDATE SET k = s.k
    WHEN NOT MATCHED THEN INSERT (id, k) VALUES (s.id, s.k)
    RETURNING merge_action(), s.id, old.id, old.k, new.id, new.k, t.id, t.k;
MERGE INTO items t USING (VALUES (1, 20001)) s (id, n) ON t.id = s.id
    WHEN MATCHED THEN UPDATE SET id = s.n RETURNING lower(merge_action()), old.id, new.id;

-- views
CREATE VIEW doubled AS SELECT id, k, k * 2 AS twice, 'const' AS word FROM items WHERE id < 1000;
UPDATE doubled SET k = 3 WHERE id = 5 RETURNING old.twice, new.twice, old.word, new.word;
INSERT INTO doubled (id, k) VALUES (801, 4) RETURNING old.twice, new.twice, old.word, new.word, twice;
DELETE FROM doubled WHERE id = 801 RETURNING old.twice, new.twice, old.word, new.word;
UPDATE doubled SET k = k + 1 WHERE id < 8 RETURNING old.twice, new.twice, new.word;
DROP VIEW doubled;

-- generated columns that are not stored
CREATE TABLE virt (id int PRIMARY KEY, a int, b int GENERATED ALWAYS AS (a * 2) VIRTUAL, c int GENERATED ALWAYS AS (a + 1) STORED, d int GENERATED ALWAYS AS (a - 1));
INSERT INTO virt (id, a) SELECT i, i FROM generate_series(1, 20) i;
-- @distribute(virt, id, 4)
SELECT * FROM virt;
SELECT * FROM virt WHERE id = 3;
SELECT id FROM virt WHERE b > 20;
SELECT sum(b), max(d), count(*) FROM virt WHERE b % 4 = 0;
SELECT v.id, w.b FROM virt v JOIN virt w ON v.b = w.a;
SELECT v FROM virt v WHERE id < 4;
INSERT INTO virt (id, a) VALUES (30, 1) RETURNING *;
INSERT INTO virt (id, a) VALUES (31, 1), (32, 2) RETURNING old.b, new.b, b, d;
UPDATE virt SET a = a + 1 WHERE id = 30 RETURNING old.b, new.b, b;
UPDATE virt SET a = a + 1 WHERE b < 10 RETURNING old.b, new.b, virt;
UPDATE virt SET id = id + 100 WHERE id > 29 RETURNING id, b;
DELETE FROM virt WHERE b = 42 OR id = 131 RETURNING *;
-- @error(428C9)
INSERT INTO virt (id, b) VALUES (40, 1);
COPY virt (id, a) FROM STDIN;
50	5
51	\N
\.
COPY (SELECT * FROM virt WHERE id > 40) TO STDOUT;
ALTER TABLE virt ADD e int GENERATED ALWAYS AS (id + 1000);
SELECT id, e FROM virt WHERE id < 5;
ALTER TABLE virt ALTER COLUMN b SET EXPRESSION AS (a * 3);
SELECT id, b FROM virt WHERE b < 20;
-- @ordered
SELECT * FROM virt ORDER BY id;
CREATE TABLE ref_virt (id int PRIMARY KEY, a text, up text GENERATED ALWAYS AS (upper(a)) VIRTUAL);
-- @replicate(ref_virt)
INSERT INTO ref_virt (id, a) VALUES (1, 'x'), (2, 'y') RETURNING up;
SELECT v.id, r.up FROM virt v JOIN ref_virt r ON r.id = v.id;
UPDATE ref_virt SET a = 'z' WHERE up = 'X' RETURNING old.up, new.up;
SELECT * FROM ref_virt;

CREATE TABLE a (id int, v int, g int GENERATED ALWAYS AS (v + 1) VIRTUAL, PRIMARY KEY (id));
-- @distribute(a, id, 4)
INSERT INTO a (id, v) SELECT i, i FROM generate_series(1, 50) i;
CREATE VIEW av AS SELECT id, g, g + id AS s FROM a WHERE g > 3;
SELECT * FROM av WHERE s < 10;
SELECT * FROM av WHERE id = 5;
UPDATE av SET id = id WHERE s < 12 RETURNING old.s, new.s;
DELETE FROM av WHERE g = 9 RETURNING old.s, new.s;
SELECT x.id, y.g FROM a x LEFT JOIN a y ON y.id = x.v + 40;
SELECT x.id, y.g, y FROM (VALUES (1), (100)) x (id) LEFT JOIN a y ON y.id = x.id;
SELECT g, count(*) FROM a GROUP BY GROUPING SETS ((g), ()) HAVING count(*) > 0;
SELECT row_to_json(a) FROM a WHERE id < 3;
MERGE INTO a USING (VALUES (1, 100), (99, 1)) s (id, v) ON a.id = s.id WHEN MATCHED THEN UPDATE SET v = s.v WHEN NOT MATCHED THEN INSERT (id, v) VALUES (s.id, s.v) RETURNING merge_action(), old.g, new.g, a.*;
INSERT INTO a (id, v) VALUES (1, 5), (200, 5) ON CONFLICT (id) DO UPDATE SET v = a.g RETURNING old.g, new.g;
ALTER TABLE a ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON a USING (g < 20);
ALTER TABLE a ADD CONSTRAINT g_big CHECK (g < 1000);
-- @error(23514)
UPDATE a SET v = 2000 WHERE id = 1;
CREATE INDEX ON a ((v + 1));
SELECT count(*) FROM a WHERE g = 10;
ANALYZE a;
VACUUM a;
ANALYZE ONLY a;
VACUUM (ANALYZE) ONLY a;
CREATE STATISTICS a_s ON v, id FROM a;
ANALYZE a;

-- COPY that skips bad rows up to a limit
CREATE TABLE cp (id int PRIMARY KEY, v int DEFAULT 7);
-- @distribute(cp, id, 4)
COPY cp FROM STDIN (ON_ERROR ignore, REJECT_LIMIT 2, LOG_VERBOSITY silent);
1	x
2	5
y	5
3	6
\.
-- @error(22P02)
COPY cp FROM STDIN (ON_ERROR ignore, REJECT_LIMIT 1);
11	x
12	5
y	5
13	6
\.
SELECT * FROM cp;

-- constraints
CREATE TABLE con (id int CONSTRAINT id_there NOT NULL, v int CONSTRAINT v_there NOT NULL, w int, CONSTRAINT w_small CHECK (w < 10) NOT ENFORCED);
INSERT INTO con VALUES (1, 1, 100);
-- @distribute(con, id, 4)
INSERT INTO con VALUES (2, 2, 200), (3, 3, 300);
-- @error(23502)
INSERT INTO con VALUES (4, NULL, 1);
ALTER TABLE con DROP CONSTRAINT v_there;
INSERT INTO con VALUES (4, NULL, 1), (5, 5, NULL);
-- @error(23502)
ALTER TABLE con ADD CONSTRAINT v_again NOT NULL v;
ALTER TABLE con ADD CONSTRAINT v_later NOT NULL v NOT VALID;
-- @error(23502)
INSERT INTO con VALUES (6, NULL, 1);
UPDATE con SET v = 4 WHERE id = 4;
ALTER TABLE con VALIDATE CONSTRAINT v_later;
SELECT conname, contype, convalidated FROM pg_constraint WHERE conrelid = 'con'::regclass;
ALTER TABLE con RENAME CONSTRAINT v_later TO v_now;
ALTER TABLE con DROP CONSTRAINT v_now;
INSERT INTO con VALUES (7, NULL, 1);
ALTER TABLE con ADD NOT NULL v NOT VALID;
-- @error(23502)
INSERT INTO con VALUES (8, NULL, 1);
ALTER TABLE con ALTER COLUMN v DROP NOT NULL;
ALTER TABLE con ADD COLUMN x int CONSTRAINT x_there NOT NULL DEFAULT 5, ADD COLUMN y serial CONSTRAINT y_there NOT NULL;
ALTER TABLE con ADD COLUMN z serial, ADD CONSTRAINT w_there NOT NULL w NOT VALID;
ALTER TABLE con DROP CONSTRAINT x_there, DROP CONSTRAINT y_there, DROP CONSTRAINT w_there;
INSERT INTO con (id, x, y, w) VALUES (9, NULL, NULL, NULL);
SELECT id, v, w, x FROM con;
-- rows are numbered node by node
ALTER TABLE con DROP COLUMN y, DROP COLUMN z;
-- @undistribute(con)
SELECT id, v, w, x FROM con;
SELECT conname, contype, conenforced FROM pg_constraint WHERE conrelid = 'con'::regclass;
CREATE TABLE spans (r int4range, during daterange, PRIMARY KEY (r, during WITHOUT OVERLAPS));
CREATE TABLE uses (id int4range, r int4range, during daterange, FOREIGN KEY (r, PERIOD during) REFERENCES spans (r, PERIOD during));
INSERT INTO spans VALUES ('[1,2)', '[2024-01-01,2024-06-01)'), ('[2,3)', '[2024-01-01,2025-01-01)');
-- @distribute(spans, r, 4)
-- @distribute(uses, r, 4)
INSERT INTO spans VALUES ('[1,2)', '[2024-06-01,2025-01-01)'), ('[3,4)', '[2024-01-01,2024-02-01)');
-- @error(23P01)
INSERT INTO spans VALUES ('[2,3)', '[2024-05-01,2024-06-01)');
INSERT INTO uses VALUES ('[1,2)', '[1,2)', '[2024-03-01,2024-09-01)');
-- @error(23503)
INSERT INTO uses VALUES ('[2,3)', '[3,4)', '[2024-01-15,2024-03-01)');
SELECT * FROM spans;
CREATE TABLE firm (id int PRIMARY KEY);
CREATE TABLE loose (id int REFERENCES firm (id) NOT ENFORCED, v int);
INSERT INTO loose VALUES (1, 1);
-- @distribute(firm, id, 4)
-- @distribute(loose, id, 4)
INSERT INTO loose VALUES (2, 2), (3, 3);
SELECT * FROM loose;

-- grouping by expressions that 18 keeps in the range table
SELECT k % 3 AS g, count(*) FROM items GROUP BY k % 3 HAVING k % 3 > 0;
SELECT k % 3 AS g, id, count(*) FROM items WHERE id < 20 GROUP BY GROUPING SETS ((k % 3), (id), ());
SELECT upper(txt), (SELECT count(*) FROM events e WHERE e.item_id = items.id) FROM items WHERE id = 3 GROUP BY items.id, upper(txt);
SELECT i.id, x.n FROM items i, LATERAL (SELECT count(*) AS n FROM events e WHERE e.item_id = i.id GROUP BY e.item_id + 1) x;
SELECT id, reverse(txt::bytea), casefold(txt), array_sort(ARRAY[k, 1]), crc32('x'), gamma(5.0) FROM items WHERE id < 3;
SELECT uuidv7() IS NULL, uuidv4() IS NULL FROM items WHERE id = 3;
