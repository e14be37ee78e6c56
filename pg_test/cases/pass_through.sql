-- Results that are sent on as the nodes sent them: whole tables and single keys, in text and in binary, in
-- portions, and where something stands in the way.

SELECT * FROM items WHERE id = 7;
SELECT id, small, k, big, price, free, r4, f8, txt, ctext, vc, ch, raw, ok, d, ts, tstz, tm, iv, u, j, jb, ints, texts, feel, pct, span, ip, bits
FROM items WHERE id = 7;
SELECT id, small, k, big, price, free, r4, f8, txt, ctext, vc, ch, raw, ok, d, ts, tstz, tm, iv, u, j, jb, ints, texts, feel, pct, span, ip, bits
FROM items;
-- @binary
SELECT id, small, k, big, price, free, r4, f8, txt, ctext, vc, ch, raw, ok, d, ts, tstz, tm, iv, u, j, jb, ints, texts, pct, span, ip, bits
FROM items;
SELECT id, txt FROM items WHERE id = 11;
-- @binary
SELECT * FROM items WHERE id = 7;
-- @binary
SELECT id, k FROM items;
-- @portal(3)
SELECT id FROM items WHERE id IN (1, 2, 3, 4, 5, 6, 7, 8);
-- @params(7)
-- @binary
SELECT id FROM items WHERE id = $1;
-- @params(7)
-- @repeat(7)
SELECT id FROM items WHERE id = $1;

-- Settings change what a node writes.
SET datestyle = 'SQL, DMY';
SELECT id, d, ts, tstz FROM items WHERE id = 7;
SET datestyle = 'German';
SET timezone = 'Asia/Tokyo';
SET bytea_output = 'escape';
SET intervalstyle = 'sql_standard';
SET extra_float_digits = 0;
SELECT id, d, ts, tstz, raw, iv, r4, f8 FROM items;
RESET datestyle;
RESET timezone;
RESET bytea_output;
RESET intervalstyle;
RESET extra_float_digits;

-- The client reads another encoding than the database has.
SET client_encoding = 'LATIN1';
SELECT id, txt FROM items WHERE id = 7;
RESET client_encoding;

-- A column of the table's row type, its OID, a value for each row.
SELECT i FROM items i WHERE id = 7;
SELECT tableoid::regclass, id FROM items WHERE id = 7;
SELECT id, random() < 2 FROM items;

-- Cursors over the same.
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM items WHERE id = 7;
FETCH 1 FROM c;
FETCH 1 FROM c;
CLOSE c;
DECLARE d SCROLL CURSOR FOR SELECT id FROM items WHERE id = 7;
FETCH ALL FROM d;
FETCH BACKWARD ALL FROM d;
COMMIT;

-- Errors in the middle, on one node and on all.
-- @error(22012)
SELECT 1 / (id - 7) FROM items WHERE id = 7;
-- @error(22012)
SELECT 1 / (id - id) FROM items;
SELECT count(*) FROM items;
