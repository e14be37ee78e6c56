-- Values of all types on their way out and in, as text, as parameters and in binary.

SELECT * FROM items WHERE id IN (1, 2, 3, 13, 14);
-- @binary
SELECT id, small, k, big, price, free, r4, f8, txt, ctext, vc, ch, raw, ok, d, ts, tstz, tm, iv, u, j, jb, span, ip, bits FROM items;
-- @binary
SELECT ints, texts, id FROM items WHERE id < 20;
-- @binary
SELECT sum(price), avg(k), max(txt), count(*) FROM items;
SELECT id, feel, pt, pct, ARRAY[feel, 'sad'], ARRAY[pt], ROW(pt, feel) FROM items WHERE id < 15;
SELECT id, '(1,2)'::point, '[(0,0),(1,1)]'::lseg, box '((0,0),(1,1))', circle '<(0,0),2>' FROM items WHERE id < 3;
SELECT id, to_tsvector('simple', coalesce(txt, '')), to_tsvector('simple', txt) @@ to_tsquery('simple', 'apple') FROM items;
SELECT id, '12.34'::money, '08:00:2b:01:02:03'::macaddr, '16/B374D848'::pg_lsn FROM items WHERE id < 3;
SELECT id, int4multirange(span), tstzrange(tstz, tstz + interval '1 hour'), daterange(d, NULL) FROM items WHERE id < 15;
SELECT id, 'items'::regclass, 'int4'::regtype FROM items WHERE id < 3;
SELECT id, (ROW(k, txt)::text), (pt).label FROM items WHERE id < 20;
SELECT id, ints[1:2], ints || ARRAY[ARRAY[1, 2, 3]]::int[] FROM items WHERE id = 5;
SELECT id, jb ->> 'tag', jb #> '{deep}', jsonb_path_query_first(jb, '$.deep.n') FROM items;
SELECT r4, f8, r4::text, f8::numeric FROM items WHERE f8 BETWEEN 0 AND 100;
SELECT 0.1::float8 + 0.2::float8 + id, 1e-7::float4 * id, 1.0 / id FROM items WHERE id < 12;

-- settings that change texts
SET extra_float_digits = -3;
SELECT id, r4, f8, f8 / 3 FROM items WHERE id < 12;
SELECT max(f8 / 7) FROM items WHERE f8 < 100;
RESET extra_float_digits;
SET bytea_output = 'escape';
SELECT id, raw FROM items WHERE id < 12;
RESET bytea_output;
SET IntervalStyle = 'iso_8601';
SELECT id, iv, iv * 2 FROM items WHERE id < 12;
SELECT id FROM items WHERE iv = 'P1M1DT1M';
RESET IntervalStyle;
SET TimeZone = 'Asia/Kathmandu';
SELECT id, tstz, tstz::date, tstz::text, date_trunc('day', tstz) FROM items WHERE id < 12;
SELECT count(*) FROM items WHERE tstz > '2024-03-31 12:00';
SELECT tstz::date, count(*) FROM items GROUP BY 1;
SET TimeZone = 'America/New_York';
SELECT id, tstz, extract(hour FROM tstz) FROM items WHERE id < 12;
INSERT INTO stamps VALUES ('2024-11-03 01:30:00', 100), ('2024-11-03 01:30:00 EST', 101);
SELECT at, n FROM stamps WHERE n >= 100;
RESET TimeZone;
SET DateStyle = 'SQL, DMY';
SELECT id, d, ts, tstz FROM items WHERE id < 12;
SELECT id FROM items WHERE d = '01/03/2024';
INSERT INTO days VALUES ('02/03/2024', 200, 'second of March');
RESET DateStyle;
SELECT d FROM days WHERE n = 200;
SET lc_monetary = 'C';
SELECT price::money FROM items WHERE id < 4;
RESET lc_monetary;
SET standard_conforming_strings = off;
SET escape_string_warning = off;
SELECT id FROM items WHERE txt = 'back\\slash';
INSERT INTO accounts (code, owner) VALUES ('std\\off', 'a\\b');
RESET standard_conforming_strings;
RESET escape_string_warning;
SELECT code, owner FROM accounts WHERE code LIKE 'std%';
SET transform_null_equals = on;
SELECT count(*) FROM events WHERE item_id = NULL;
RESET transform_null_equals;
SET array_nulls = off;
SELECT count(*) FROM items WHERE texts @> '{NULL}';
RESET array_nulls;

-- parameters
-- @params(5)
-- @params(6)
-- @params(NULL)
SELECT id, k, txt FROM items WHERE id = $1;
-- @params(5, 6)
-- @params(6, 99)
SELECT id FROM items WHERE id IN ($1::int, $2::int);
-- @params({1;2})
-- @error(22P02)
SELECT id FROM items WHERE id = ANY ($1::int[]);
-- @params({1,2,NULL,7})
SELECT id FROM items WHERE id = ANY ($1);
-- @params(happy)
-- @params(sad)
-- @params(NULL)
SELECT id FROM items WHERE feel = $1;
-- @params((1,3.5,"p,3"))
SELECT id FROM items WHERE pt = $1::point3;
-- @params(2024-02-29)
SELECT id FROM items WHERE d = $1;
-- @params(2024-03-31 01:00:00+00)
SELECT id FROM items WHERE tstz > $1;
-- @params({"i": 3})
SELECT id FROM items WHERE jb @> $1;
-- @params(\x00ffff)
SELECT id FROM items WHERE raw > $1;
-- @params(apple)
-- @params(O'Neil)
-- @params(back\slash)
SELECT id FROM items WHERE txt = $1;
-- @params(NaN)
SELECT id FROM items WHERE f8 = $1;
-- @params(1.00)
-- @params(7.5)
SELECT n FROM prices WHERE p = $1;
-- @params(acc9)
-- @params(O'Neil)
SELECT owner FROM accounts WHERE code = $1;
-- @params([3,6))
SELECT id FROM items WHERE span = $1;
-- @params(3 days)
SELECT id FROM items WHERE iv > $1;
-- @params(12.5)
SELECT id FROM items WHERE pct > $1;
-- @params(10.0.1.0/24)
SELECT id FROM items WHERE ip << $1;
-- @params(0, 5)
SELECT id, $1::int + k FROM items WHERE id < $2;
-- @params(x)
SELECT $1 AS what, count(*) FROM items GROUP BY 1;
-- @params(3)
-- @ordered
SELECT id FROM items ORDER BY id LIMIT $1;
-- @params(61, 1.5, 2.5e10, text with 'quotes' and \ and ", \x0a0b, t, 2024-02-29, happy, (1;2))
-- @error(22P02)
INSERT INTO items (id, price, f8, txt, raw, ok, d, feel, pt) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9);
-- @params(61, 1.5, 2.5e10, text with 'quotes' and \ and ", \x0a0b, t, 2024-02-29, happy)
INSERT INTO items (id, price, f8, txt, raw, ok, d, feel) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING *;
-- @params((1,2,"x"), {NULL,"a b"}, [1,2], 3 days)
UPDATE items SET pt = $1, texts = $2, span = $3::text::int4range, iv = $4 WHERE id = 61 RETURNING pt, texts, span, iv;
-- @params(61)
DELETE FROM items WHERE id = $1;
-- @portal(7)
-- @ordered
SELECT id, txt FROM items ORDER BY id;
-- @portal(1)
-- @params(10)
SELECT id FROM items WHERE id < $1;
-- @portal(10)
SELECT e.seq, i.txt FROM events e LEFT JOIN items i ON i.id = e.item_id;
-- @portal(5)
INSERT INTO words SELECT txt, id FROM items WHERE id < 4 RETURNING w, n;

-- values in
INSERT INTO items VALUES (62, 1, 2, 3, 4.5678, 'NaN', 1.5, '-Infinity', E'multi\nline\t"x"', 'c', 'vc', 'ch', '\xdeadbeef', true,
    '0044-03-15 BC', 'infinity', '-infinity', '24:00:00', '1 year 2 mons -3 days 04:05:06.789', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
    '{"a": 1,  "a": 2}', '{"b": 1, "a": [1, {"x": null}]}', '{{1,2},{3,NULL}}', '[0:1]={x,y}', 'sad', '(1,2.50,"a ""b"" \\ c")', 99.99,
    '(,5]', '::1/64', B'10101010');
SELECT * FROM items WHERE id = 62;
SELECT price, ch, vc, length(ch), ints[2][1], texts[0] FROM items WHERE id = 62;
UPDATE items SET ints[1][1] = 5, texts = texts || 'z'::text, jb = jb - 'b', pt.y = 7 WHERE id = 62 RETURNING ints, texts, jb, pt;
UPDATE items SET ints[5:6] = '{7,8}', pt.label = NULL WHERE id = 3 RETURNING ints, pt;
-- @error(23514)
UPDATE items SET pct = 101 WHERE id = 62;
-- @error(22001)
UPDATE items SET vc = repeat('x', 21) WHERE id = 62;
UPDATE items SET vc = rpad('x', 25) WHERE id = 62 RETURNING vc;
-- @error(22026)
UPDATE items SET bits = B'1' WHERE id = 62;
-- @error(22003)
UPDATE items SET price = 10000000000 WHERE id = 62;
-- @error(22003)
UPDATE items SET small = 40000 WHERE id = 62;
-- @error(22P02)
UPDATE items SET feel = 'angry' WHERE id = 62;
-- @error(42804)
UPDATE items SET k = 'x'::text WHERE id = 62;
UPDATE items SET raw = decode('00ff', 'hex') || raw, u = NULL, ip = '10.0.0.1', bits = ~bits WHERE id = 62 RETURNING raw, ip, bits;
INSERT INTO items (id, txt, raw) VALUES (63, repeat('long ', 20000), decode(repeat('ab', 50000), 'hex'));
SELECT id, length(txt), md5(txt), md5(raw) FROM items WHERE length(txt) > 100;
SELECT txt FROM items WHERE id = 63;
