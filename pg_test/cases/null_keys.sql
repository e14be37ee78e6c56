-- Rows whose shard key is NULL, and keys of types with several spellings of one value.

SELECT count(*) FROM events WHERE item_id IS NULL;
SELECT seq FROM events WHERE item_id IS NULL AND amount > 20;
SELECT count(*) FROM events WHERE item_id IS NOT NULL;
SELECT count(*) FROM events WHERE item_id = NULL;
SELECT count(*) FROM events WHERE item_id <> NULL;
SELECT count(*) FROM events WHERE item_id IN (NULL);
SELECT count(*) FROM events WHERE item_id IN (8, NULL);
SELECT count(*) FROM events WHERE item_id NOT IN (8, NULL);
SELECT count(*) FROM events WHERE item_id = 8 OR item_id IS NULL;
SELECT count(*) FROM events WHERE item_id IS NOT DISTINCT FROM NULL;
SELECT count(*) FROM events WHERE item_id IS DISTINCT FROM 8;
SELECT count(*) FROM events WHERE coalesce(item_id, 8) = 8;
SELECT count(*) FROM events WHERE item_id = ANY (ARRAY[8, NULL]);
SELECT count(*) FROM events WHERE item_id = ANY (NULL::int[]);
SELECT count(*) FROM events WHERE NOT (item_id = 8);
SELECT item_id, count(*) FROM events GROUP BY item_id HAVING item_id IS NULL;
SELECT a.seq, b.seq FROM events a JOIN events b ON a.item_id = b.item_id WHERE a.item_id IS NULL;
SELECT d, n FROM days WHERE d IS NULL;
SELECT d, n FROM days WHERE d = 'infinity';
SELECT d, n FROM days WHERE d = '0044-03-15 BC';
SELECT d, n FROM days WHERE d = '2024-02-29'::timestamp;
SELECT d, n FROM days WHERE d = '2024-02-29'::timestamptz;
SELECT d, n FROM days WHERE d IN ('2024-02-29', '2024-03-01', NULL);
SELECT p, n FROM prices WHERE p = 1;
SELECT p, n FROM prices WHERE p = 1.000;
SELECT p, n FROM prices WHERE p = 7.50;
SELECT p, n FROM prices WHERE p = 'NaN';
SELECT p, n FROM prices WHERE p = 0;
SELECT p, n FROM prices WHERE p = '-Infinity';
SELECT p, n FROM prices WHERE p = 1::int8;
SELECT p, n FROM prices WHERE p = 7.5::float8;
SELECT p, n FROM prices WHERE p IS NULL;
SELECT code FROM accounts WHERE code = '';
SELECT code FROM accounts WHERE code = ' ';
SELECT code FROM accounts WHERE code = E'line\nbreak';
SELECT code FROM accounts WHERE code = E'a\\b';
SELECT code FROM accounts WHERE code = 'NULL';
SELECT code FROM accounts WHERE code = '"quoted"';
SELECT code FROM accounts WHERE code = 'acc9'::varchar;
SELECT code FROM accounts WHERE code = 'acc9'::char(8);
SELECT code FROM accounts WHERE code = 'acc9'::name;
SELECT code FROM accounts WHERE code LIKE 'acc9';
SELECT code FROM accounts WHERE code COLLATE "C" = 'acc9';
SELECT c, n FROM labels WHERE c = 'l3';
SELECT c, n FROM labels WHERE c = 'l3    ';
SELECT c, n FROM labels WHERE c = 'l3'::text;
SELECT c, n FROM labels WHERE c = 'l3 '::varchar;
SELECT id FROM bigs WHERE id = 5;
SELECT id FROM bigs WHERE id = 9223372036854775807;
SELECT id FROM bigs WHERE id = 4294967297::numeric;
SELECT id FROM bigs WHERE id = 5.0;
SELECT id FROM bigs WHERE id = 9223372036854775808;
SELECT id, v FROM smalls WHERE id = 3;
SELECT id, v FROM smalls WHERE id = 3::int8;
SELECT id, v FROM smalls WHERE id = -32768;
SELECT id, v FROM smalls WHERE id = 100000;
SELECT id, v FROM smalls WHERE id IS NULL;
SELECT n FROM stamps WHERE at = '2024-10-27 03:00:00+00';
SELECT n FROM stamps WHERE at = '2024-10-27 04:00:00+01';
SELECT n FROM stamps WHERE at IS NULL;
SELECT title FROM docs WHERE id = md5('doc3')::uuid;
SELECT title FROM docs WHERE id = 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11';
SELECT title FROM docs WHERE id = (SELECT id FROM docs WHERE title = 'title 3' ORDER BY id LIMIT 1);
SET TimeZone = 'Europe/Berlin';
SELECT n, at FROM stamps WHERE at = '2024-10-27 02:20:00';
SELECT n, at FROM stamps WHERE at >= '2024-10-27 02:00:00' AND at < '2024-10-27 03:00:00';
SELECT d, n FROM days WHERE d = '2024-02-29'::timestamptz;
RESET TimeZone;
SET DateStyle = 'German, DMY';
SELECT d, n FROM days WHERE d = '01.03.2024';
SELECT at FROM stamps WHERE at = '27.10.2024 03:00:00+00';
RESET DateStyle;

-- writes
INSERT INTO events (item_id, seq) VALUES (NULL, 7001), (NULL, 7001), (3, 7001);
-- @error(23505)
INSERT INTO events (item_id, seq) VALUES (3, 7001);
INSERT INTO events (seq) VALUES (7002);
INSERT INTO events (item_id, seq) SELECT nullif(i, 2), 7100 + i FROM generate_series(1, 3) i;
UPDATE events SET amount = 1 WHERE item_id IS NULL AND seq > 7000;
UPDATE events SET item_id = 4 WHERE item_id IS NULL AND seq = 7002;
UPDATE events SET item_id = NULL WHERE item_id = 3 AND seq = 7001;
UPDATE events SET item_id = NULL WHERE item_id = 8 RETURNING item_id, seq;
DELETE FROM events WHERE item_id IS NULL AND seq = 7001;
DELETE FROM events WHERE coalesce(item_id, -1) = -1 AND seq < 50 RETURNING seq;
INSERT INTO prices VALUES (1.000, 'again', 20), ('NaN', 'again', 21), (-0.0, NULL, 22);
DELETE FROM prices WHERE p = 1;
UPDATE prices SET n = n + 100 WHERE p = 'NaN';
UPDATE prices SET p = 1.50 WHERE p IS NULL;
INSERT INTO labels VALUES ('x ', 90), ('x', 91), (NULL, 92);
DELETE FROM labels WHERE c = 'x';
-- @error(22001)
INSERT INTO labels VALUES ('too long', 93);
INSERT INTO accounts (code) VALUES (E'tab\t'), ('new "one"'), ('\N'), ('{}');
-- @error(23505)
INSERT INTO accounts (code) VALUES ('');
UPDATE accounts SET balance = balance + 1 WHERE code IN ('', ' ', '\N');
DELETE FROM accounts WHERE code = ' ';
INSERT INTO days VALUES ('2024-02-29', 99, 'leap'), (NULL, 98, NULL);
UPDATE days SET n = n + 1 WHERE d = '2024-02-29';
DELETE FROM days WHERE d IS NULL;
-- @error(22003)
INSERT INTO smalls VALUES (32768, 'too big');
-- @error(22008)
INSERT INTO days VALUES ('2023-02-29', 1);
-- @error(22P02)
INSERT INTO docs (id) VALUES ('not a uuid');
