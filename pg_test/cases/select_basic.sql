-- @readonly
-- Filters, expressions and functions in plain SELECTs.

SELECT * FROM items WHERE id = 5;
SELECT * FROM items WHERE id = 61;
SELECT * FROM items WHERE id IN (3, 17, 42);
SELECT * FROM items;
SELECT * FROM events;
SELECT * FROM accounts;
SELECT * FROM docs;
SELECT * FROM days;
SELECT * FROM prices;
SELECT * FROM bigs;
SELECT * FROM smalls;
SELECT * FROM stamps;
SELECT * FROM labels;
SELECT * FROM products;
SELECT * FROM countries;
SELECT * FROM orders;
SELECT * FROM order_lines;
SELECT items FROM items WHERE id < 4;
SELECT i.*, i FROM (SELECT id, k FROM items WHERE id < 4) i;
SELECT (items).id, (items).pt FROM items WHERE id < 4;
SELECT (pt).x, (pt).label, (pt).y + 1 FROM items WHERE id < 9;
SELECT count(*) FROM items i WHERE i IS NULL;
SELECT id FROM items WHERE pt IS NULL;
SELECT id FROM items WHERE pt IS NOT NULL AND id < 20;
SELECT FROM items;
SELECT count(*) FROM (SELECT FROM items WHERE k = 1) s;
SELECT 1 AS one, 'x' AS x FROM items WHERE k = 1;
SELECT id AS "Ident", k AS "select" FROM items WHERE id = 2;
SELECT "items"."id" FROM "t"."items" WHERE "t"."items"."id" = 4;
SELECT id, k FROM t.items AS x (id, s) WHERE k = 2 AND s IS NOT NULL;

-- predicates
SELECT id FROM items WHERE k = 3 AND ok;
SELECT id FROM items WHERE NOT ok;
SELECT id FROM items WHERE ok IS NOT TRUE;
SELECT id FROM items WHERE ok IS UNKNOWN;
SELECT id FROM items WHERE txt LIKE 'p%';
SELECT id FROM items WHERE txt ILIKE 'P%';
SELECT id FROM items WHERE txt ~ '^[a-z]+$';
SELECT id FROM items WHERE txt SIMILAR TO '(apple|Pear)';
SELECT id FROM items WHERE txt LIKE '%\%' OR txt LIKE E'%\t%' OR txt LIKE '%\\\\%';
SELECT id FROM items WHERE txt = 'O''Neil';
SELECT id FROM items WHERE txt = E'back\\slash';
SELECT id FROM items WHERE txt = '';
SELECT id FROM items WHERE txt = '東京';
SELECT id FROM items WHERE txt IN ('NULL', 'pear ', NULL);
SELECT id FROM items WHERE vc = 'vc2' OR ch = 'c3';
SELECT id FROM items WHERE ch = 'c3   ';
SELECT id FROM items WHERE k BETWEEN 2 AND 4;
SELECT id FROM items WHERE k BETWEEN SYMMETRIC 4 AND 2;
SELECT id FROM items WHERE k NOT BETWEEN 2 AND 4;
SELECT id FROM items WHERE d > '2024-03-01';
SELECT id FROM items WHERE d = 'infinity' OR d = '-infinity';
SELECT id FROM items WHERE tstz < '2024-03-31 02:00:00+02';
SELECT id FROM items WHERE iv > interval '2 months';
SELECT id FROM items WHERE feel > 'ok';
SELECT id FROM items WHERE feel = 'Ecstatic';
SELECT id FROM items WHERE feel IN ('sad', 'happy');
SELECT id FROM items WHERE span @> 4;
SELECT id FROM items WHERE span && int4range(2, 5);
SELECT id FROM items WHERE jb @> '{"i": 3}';
SELECT id FROM items WHERE jb ->> 'tag' = 't1' AND (jb -> 'deep' ->> 'n')::int > 2;
SELECT id FROM items WHERE jb ? 'deep' AND jb #>> '{deep,n}' = '0';
SELECT id FROM items WHERE ints @> ARRAY[2];
SELECT id FROM items WHERE 'b,c' = ANY (texts);
SELECT id FROM items WHERE cardinality(texts) = 0;
SELECT id FROM items WHERE ip << '10.0.1.0/24';
SELECT id FROM items WHERE bits & B'00000001' = B'00000001';
SELECT id FROM items WHERE raw > '\x00ffff';
SELECT id FROM items WHERE free = 'NaN' OR f8 = 'NaN';
SELECT id FROM items WHERE f8 < 1;
SELECT id FROM items WHERE r4 = 0.5 OR r4 > 7;
SELECT id FROM items WHERE pct > 50;
SELECT id FROM items WHERE u = md5('u7')::uuid;
SELECT id FROM items WHERE pt = ROW(1, 3.5, 'p,3')::point3;
SELECT id FROM items WHERE (pt).x = 3;
SELECT id FROM items WHERE ROW(k, small) < ROW(3, 4);
SELECT id FROM items WHERE (k, small) IS NULL;
SELECT id FROM items WHERE k IS NOT DISTINCT FROM small;
SELECT id FROM items WHERE coalesce(k, small, -1) = -1;
SELECT id FROM items WHERE nullif(k, 3) IS NULL;
SELECT id FROM items WHERE greatest(k, small) = 6;
SELECT id FROM items WHERE 3 = k;
SELECT id FROM items WHERE false;
SELECT id FROM items WHERE NULL;
SELECT id FROM items WHERE NULL = k OR id = 2;
SELECT id FROM items WHERE k = 1 OR (k = 2 AND id > 30) OR txt IS NULL AND ok;
SELECT id FROM items WHERE length(txt) > 5 AND position('p' IN txt) > 0;
SELECT id FROM items WHERE to_char(ts, 'HH24') = '06';
SELECT id FROM items WHERE extract(dow FROM d) = 0;
SELECT id FROM items WHERE CASE k WHEN 1 THEN small > 3 WHEN 2 THEN true END;

-- expressions
SELECT id, k + small, k * 1.5, price / 3, -k, id ^ 2, |/ id::float8, id % 7 FROM items WHERE id < 12;
SELECT id, txt || '-' || vc, upper(txt), initcap(txt), reverse(txt), md5(txt) FROM items;
SELECT id, substring(txt FROM 2 FOR 3), left(txt, -1), lpad(txt, 8, '*'), split_part(txt, 'p', 2) FROM items;
SELECT id, d + 1, ts + iv, tstz - interval '1 day', age(ts), d - date '2024-01-01' FROM items WHERE d > '2000-01-01' AND d < 'infinity' AND id = 0;
SELECT id, ts + iv, tstz + iv, justify_interval(iv), date_trunc('hour', tstz) FROM items;
SELECT id, extract(epoch FROM tstz), extract(year FROM d), to_char(ts, 'YYYY-MM-DD Day') FROM items WHERE id < 30;
SELECT id, CASE WHEN k IS NULL THEN 'none' WHEN k < 5 THEN 'low' ELSE 'high' END FROM items;
SELECT id, coalesce(txt, vc, 'neither'), nullif(txt, ''), num_nulls(txt, vc, ch) FROM items;
SELECT id, jb || '{"new": [1, null]}', jb -> 'deep', jsonb_typeof(jb), j -> 'list' -> 0 FROM items;
SELECT id, ints || 9, ints[1], ints[2:3], array_length(texts, 1), array_to_string(texts, '|', '?') FROM items;
SELECT id, lower(span), upper(span), isempty(span), span * int4range(3, 6) FROM items;
SELECT id, host(ip), masklen(ip), bits::int, get_bit(bits, 0), encode(raw, 'base64') FROM items;
SELECT id, feel::text, feel > 'ok', enum_range(feel, 'Ecstatic') FROM items WHERE feel IS NOT NULL;
SELECT id, k::text, price::int, ok::int, '7'::int + id, id::numeric(10, 2), f8::text FROM items WHERE price < 60;
SELECT id, row_to_json(items) ->> 'txt', to_jsonb(pt) FROM items WHERE id < 10;
SELECT id, format('%s-%I-%L', k, txt, vc) FROM items WHERE txt IS NOT NULL;
SELECT id, ROW(id, k, txt), ARRAY[k, small], ROW(NULL) FROM items WHERE id < 6;
SELECT id, k IN (1, 2), k = ANY ('{3,4}'), txt IS NULL, ok AND k > 2, ok OR NULL FROM items;
SELECT pg_typeof(id), pg_typeof(feel), pg_typeof(pt), pg_typeof(pct) FROM items WHERE id = 1;
SELECT current_user, current_database(), current_schema() FROM items WHERE id = 1;
SELECT current_setting('server_version_num')::int > 100000 FROM items WHERE id < 3;
SELECT generate_series(1, 3), id FROM items WHERE id < 3;
SELECT id, unnest(ints) FROM items WHERE id < 5;
SELECT id, unnest(ints), generate_series(1, 2) FROM items WHERE id < 5;
SELECT tableoid::regclass, id FROM items WHERE id < 3;
SELECT tableoid = 'items'::regclass FROM items WHERE id = 3;
-- @error(22012)
SELECT id / (k - 3) FROM items;
-- @error(22P02)
SELECT txt::int FROM items;
-- @error(42703)
SELECT nothing FROM items;
-- @error(42P01)
SELECT 1 FROM nothing;
-- @error(42883)
SELECT nothing(id) FROM items;
-- @error(21000)
SELECT (SELECT id FROM items WHERE k = 3);
-- @error(42803)
SELECT id, count(*) FROM items GROUP BY k;
-- @error(22003)
SELECT sum(id * 1000000000) FROM items;
-- @error(42702)
SELECT id FROM items, products;

-- ordering
-- @ordered
SELECT id, txt FROM items ORDER BY txt, id;
-- @ordered
SELECT id, ctext FROM items ORDER BY ctext DESC, id DESC;
-- @ordered
SELECT id FROM items ORDER BY price DESC NULLS LAST, id LIMIT 10;
-- @ordered
SELECT id, k, small FROM items ORDER BY 2, 3 DESC, 1;
-- @ordered
SELECT id, d FROM items ORDER BY d DESC NULLS LAST, id;
-- @ordered
SELECT id, iv FROM items ORDER BY iv, id;
-- @ordered
SELECT id, u FROM items ORDER BY u NULLS FIRST, id DESC;
-- @ordered
SELECT id, jb FROM items ORDER BY jb, id;
-- @ordered
SELECT id, ints FROM items ORDER BY ints, id;
-- @ordered
SELECT id, texts FROM items ORDER BY texts DESC, id;
-- @ordered
SELECT id, span FROM items ORDER BY span, id;
-- @ordered
SELECT id, ip FROM items ORDER BY ip, id;
-- @ordered
SELECT id, bits, raw FROM items ORDER BY bits DESC, raw, id;
-- @ordered
SELECT id, pt FROM items ORDER BY pt DESC, id;
-- @ordered
SELECT id, ok FROM items ORDER BY ok DESC, tm, id;
-- @ordered
SELECT code FROM accounts ORDER BY code;
-- @ordered
SELECT code FROM accounts ORDER BY code COLLATE "C" DESC LIMIT 7;
-- @ordered
SELECT d, n FROM days ORDER BY d, n;
-- @ordered
SELECT p, n FROM prices ORDER BY p DESC, n;
-- @ordered
SELECT id, k + small AS s FROM items ORDER BY s, id;
-- @ordered
SELECT * FROM events ORDER BY at, seq;
-- @ordered
SELECT seq FROM events ORDER BY abs(amount - 50), seq LIMIT 10;
-- @error(42883)
SELECT id FROM items ORDER BY j;

-- TABLESAMPLE of everything is everything
SELECT count(*) FROM items TABLESAMPLE BERNOULLI (100);
SELECT id FROM events e TABLESAMPLE SYSTEM (100) JOIN items i ON i.id = e.item_id WHERE i.k = 2;
SELECT count(*) FROM items TABLESAMPLE BERNOULLI (0);
SELECT count(*) <= 60 FROM items TABLESAMPLE BERNOULLI (50) REPEATABLE (1);
-- @error(2202H)
SELECT count(*) FROM items TABLESAMPLE BERNOULLI (101);

-- ONLY and TABLE
TABLE countries;
-- @ordered
TABLE accounts ORDER BY code LIMIT 3;
VALUES (1, 'x'), (2, NULL);
SELECT * FROM (VALUES (1), (5), (77)) v (id) JOIN items USING (id);
