-- @readonly
-- Aggregates in two steps, groups that are complete on the nodes and groups that are not.

SELECT count(*), count(k), count(NULL), sum(k), avg(k), min(k), max(k) FROM items;
SELECT count(*), count(k), sum(k), avg(k), min(txt), max(d), bool_and(ok), bit_or(k) FROM items WHERE id < 0;
SELECT sum(small), sum(big), sum(price), sum(pct), avg(small), avg(big), avg(price), avg(pct) FROM items;
SELECT k, sum(small), sum(big), sum(price), avg(small), avg(big), avg(price) FROM items GROUP BY k;
SELECT k, count(*), count(txt), sum(id), avg(id), min(id), max(id) FROM items GROUP BY k;
-- Scales: of the sum, of the quotient.
SELECT avg(p), sum(p) FROM prices WHERE p < 100 AND p > -100;
SELECT label IS NULL, avg(p), sum(p), count(p) FROM prices WHERE abs(p) < 1e40 GROUP BY 1;
SELECT n % 3, avg(p) FROM prices GROUP BY 1;
SELECT avg(n), avg(n::numeric), avg(n::numeric / 3), avg(n * 1e15::numeric), avg(n * 1e-15::numeric) FROM prices;
SELECT avg(x), sum(x) FROM (SELECT (id * 0.001)::numeric(10,5) AS x FROM items) s;
SELECT avg(id::int2), avg(id::int8), avg(id), avg(id::numeric) FROM items WHERE id % 7 = 3;
SELECT sum(free), avg(free) FROM items;
SELECT k, sum(free), avg(free), min(free), max(free) FROM items GROUP BY k;
-- @approx
SELECT sum(r4), avg(r4), sum(f8), avg(f8) FROM items WHERE f8 BETWEEN -100 AND 100;
SELECT sum(f8), avg(f8), min(f8), max(f8) FROM items;
SELECT sum(iv), avg(iv), min(iv), max(iv) FROM items;
SELECT sum(amount::money), min(amount::money) FROM events;
SELECT sum(big), avg(big), max(id), min(id) FROM items, (VALUES (1), (2)) v (x);
SELECT sum(id), avg(id) FROM bigs;
SELECT avg(other), sum(other), count(other) FROM bigs GROUP BY v;
SELECT min(txt), max(txt), min(txt COLLATE "C"), max(ctext), min(vc), max(ch), min(raw::text) FROM items;
SELECT k, min(txt), max(txt COLLATE "C") FROM items GROUP BY k;
SELECT min(d), max(d), min(ts), max(tstz), min(tm), max(feel), min(feel), max(ip), min(ints), max(texts) FROM items;
SELECT bool_and(ok), bool_or(ok), every(ok), bit_and(k), bit_or(k), bit_xor(k), bit_and(bits), bit_xor(bits) FROM items;
SELECT k, bool_and(ok), bool_or(ok), bit_and(id), bit_or(id), bit_xor(id) FROM items GROUP BY k;
-- @approx
SELECT k, stddev(id), variance(price), var_pop(small), stddev_pop(f8), corr(id, k) FROM items WHERE f8 BETWEEN 0 AND 100 GROUP BY k;
SELECT string_agg(txt, ',' ORDER BY id), array_agg(id ORDER BY id DESC), count(*) FROM items;
SELECT i.k, array_agg(e.seq ORDER BY e.seq), count(*), avg(e.amount) FROM items i JOIN events e ON e.item_id = i.id GROUP BY i.k;
SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY e.amount), mode() WITHIN GROUP (ORDER BY i.ok) FROM items i JOIN events e ON e.item_id = i.id;

-- FILTER, expressions, HAVING, dependent columns.
SELECT count(*) FILTER (WHERE k > 3), sum(price) FILTER (WHERE ok), avg(price) FILTER (WHERE NOT ok), avg(k) FILTER (WHERE false) FROM items;
SELECT k, count(*) FILTER (WHERE ok), avg(price) FILTER (WHERE ok), max(txt) FILTER (WHERE id < 10) FROM items GROUP BY k;
SELECT sum(price) / count(*), round(avg(price) * 100, 2)::text || '%', coalesce(sum(k) FILTER (WHERE id < 0), -1) FROM items;
SELECT k + 1, k % 2, sum(price) * k, -max(id) FROM items GROUP BY k;
SELECT k % 3, count(*) FROM items GROUP BY k % 3 HAVING count(*) > 10 AND sum(id) > 100;
SELECT lower(txt), count(*), max(id) FROM items GROUP BY lower(txt) HAVING max(id) > 20 OR lower(txt) IS NULL;
SELECT CASE WHEN k > 5 THEN 'many' ELSE 'few' END AS class, count(*), avg(price) FROM items GROUP BY 1;
SELECT d, ok, feel, count(*) FROM items GROUP BY d, ok, feel;
SELECT pct, count(*), sum(pct) FROM items GROUP BY pct;
SELECT vc, ch, u, raw, count(*) FROM items GROUP BY vc, ch, u, raw;
SELECT texts, ints, count(*) FROM items GROUP BY texts, ints;
SELECT (pt).x, count(*) FROM items GROUP BY (pt).x;
SELECT pt, count(*) FROM items GROUP BY pt;
SELECT jb, count(*), min(id) FROM items GROUP BY jb;
SELECT 'x' AS c, 1 AS n, count(*) FROM items GROUP BY 1, 2;
SELECT count(*) FROM items GROUP BY ();
SELECT count(*) FROM items WHERE id < 0 GROUP BY ();
SELECT 1 FROM items HAVING count(*) > 1000;
SELECT 1 FROM items HAVING count(*) > 1;
SELECT max(id) FROM items HAVING false;
SELECT p.id, p.name, p.price, sum(l.qty) FROM products p JOIN order_lines l ON l.product_id = p.id GROUP BY p.id;
SELECT p.id, p.name, p.gone, l.tenant_id, sum(l.qty) FROM products p JOIN order_lines l ON l.product_id = p.id GROUP BY p.id, l.tenant_id;
SELECT id, txt, count(*) FROM items GROUP BY id;
SELECT txt, count(*) FROM items GROUP BY id HAVING count(*) = 1;
SELECT count(*) > 5, sum(k) IS NULL, (SELECT max(id) FROM products), max(id) FROM items;
SELECT k, count(*) FROM items GROUP BY k HAVING count(*) > (SELECT count(*) FROM loc) / 5;
SELECT k, sum(price) FROM items GROUP BY k HAVING sum(price) > (SELECT sum(price) * 0.1 FROM items);
SELECT k, (SELECT count(*) FROM products p WHERE p.id = i.k) FROM items i GROUP BY k;
SELECT k, sum(count(*)) OVER (ORDER BY k NULLS FIRST), rank() OVER (ORDER BY sum(id) DESC) FROM items GROUP BY k;

-- Grouping sets.
SELECT k % 2, ok, count(*), sum(price), avg(id) FROM items GROUP BY ROLLUP (k % 2, ok);
SELECT k % 2, ok, feel, count(*), grouping(k % 2, ok, feel) FROM items GROUP BY CUBE (k % 2, ok, feel);
SELECT k, ok, count(*) FROM items GROUP BY GROUPING SETS ((k), (ok), ());
SELECT k, count(*), sum(id) FROM items WHERE id < 0 GROUP BY GROUPING SETS ((k), ());
SELECT k, count(*), avg(id) FROM items WHERE id < 0 GROUP BY ROLLUP (k);
SELECT id, k, count(*) FROM items GROUP BY GROUPING SETS ((id), (k));
SELECT k, count(DISTINCT ok), count(DISTINCT id) FROM items GROUP BY ROLLUP (k);

-- DISTINCT.
SELECT count(DISTINCT k), sum(DISTINCT k), avg(DISTINCT k), min(DISTINCT k), count(*) FROM items;
SELECT count(DISTINCT id), sum(DISTINCT id), avg(DISTINCT id) FROM items;
SELECT count(DISTINCT item_id), count(DISTINCT kind), count(*) FROM events;
SELECT count(DISTINCT item_id) FILTER (WHERE amount > 50), count(DISTINCT item_id), sum(amount) FROM events;
SELECT kind, count(DISTINCT item_id), count(DISTINCT note), count(*), sum(amount), avg(amount), max(seq) FROM events GROUP BY kind;
SELECT kind, count(DISTINCT note) FILTER (WHERE amount > 30), count(*) FILTER (WHERE amount > 30) FROM events GROUP BY kind;
SELECT count(DISTINCT txt), count(DISTINCT lower(txt)), count(DISTINCT ch), count(DISTINCT (k, ok)) FROM items;
SELECT count(DISTINCT k) FROM items WHERE id < 0;
SELECT string_agg(DISTINCT note, ',' ORDER BY note), array_agg(DISTINCT kind ORDER BY kind) FROM events;
SELECT kind, string_agg(DISTINCT note, '+'), count(*) FROM events GROUP BY kind;
SELECT count(DISTINCT e.note), count(DISTINCT i.id), count(DISTINCT e.item_id), count(*) FROM items i JOIN events e ON e.item_id = i.id;
SELECT count(DISTINCT b.item_id), count(DISTINCT a.id) FROM items a LEFT JOIN events b ON b.item_id = a.id;
SELECT DISTINCT k FROM items;
SELECT DISTINCT k, ok FROM items;
SELECT DISTINCT id, k FROM items WHERE id < 9;
SELECT DISTINCT sum(id) % 5 FROM items GROUP BY k;
SELECT DISTINCT count(*) FROM items GROUP BY id;
SELECT DISTINCT i.k, p.category FROM items i JOIN products p ON p.id = i.k;
SELECT DISTINCT feel, pct FROM items;

-- Complete groups: everything happens on the nodes.
SELECT item_id, count(*), string_agg(note, ',' ORDER BY seq), array_agg(seq ORDER BY seq), count(DISTINCT kind) FROM events GROUP BY item_id;
SELECT item_id, kind, sum(amount) FROM events GROUP BY item_id, kind HAVING sum(amount) > 50;
SELECT item_id, percentile_cont(0.5) WITHIN GROUP (ORDER BY amount) FROM events GROUP BY item_id;
SELECT item_id + 0, count(*) FROM events GROUP BY item_id + 0;
SELECT item_id, seq, rank() OVER w, sum(amount) OVER w FROM events WINDOW w AS (PARTITION BY item_id ORDER BY seq);
SELECT seq, row_number() OVER (ORDER BY seq) FROM events;
SELECT item_id, seq, lag(seq) OVER (PARTITION BY item_id ORDER BY seq), count(*) OVER (PARTITION BY kind) FROM events;
SELECT item_id, count(*), rank() OVER (ORDER BY count(*), item_id) FROM events GROUP BY item_id;
SELECT item_id, kind, count(*), max(count(*)) OVER (PARTITION BY item_id) FROM events GROUP BY item_id, kind;
SELECT c, count(*) FROM labels GROUP BY c;
SELECT p, count(*) FROM (SELECT p FROM prices WHERE p IS NULL OR p IN (0, 1) OR p > 1) s GROUP BY p HAVING count(*) < 3;
SELECT d, count(*), max(n) FROM days GROUP BY d;
SELECT at, count(*) FROM stamps GROUP BY at;
SELECT id, count(*) FROM smalls GROUP BY id;
SELECT country, sum(balance), avg(balance), count(DISTINCT code) FROM accounts GROUP BY country;
SELECT c.region, sum(a.balance), avg(a.balance), count(*) FROM accounts a JOIN countries c ON c.code = a.country GROUP BY c.region;

-- Parameters and functions of the session.
-- @params(3)
-- @params(NULL)
SELECT k, count(*), sum(id + $1::int) FROM items GROUP BY k HAVING count(*) > $1::int;
-- @params(2)
SELECT k % $1::int, count(*) FROM items GROUP BY k % $1::int;
-- @params(2, 2)
SELECT count(*) FROM items WHERE k % $1::int = 0 GROUP BY k % $2::int;
SELECT count(*) FROM items WHERE d < now();
SELECT date_trunc('month', tstz), count(*) FROM items GROUP BY 1;
SELECT extract(year FROM ts), count(*), max(ts) FROM items GROUP BY 1;
SELECT to_char(tstz, 'YYYY-MM'), count(*) FROM items GROUP BY 1;
SELECT count(*), now() IS NOT NULL FROM items;
SELECT current_user IS NULL, count(*) FROM items GROUP BY 1;
SELECT item_id, random() < 2, count(*) FROM events GROUP BY item_id;
SELECT kind, count(*), random() < 2 FROM events GROUP BY kind;
