-- @readonly
-- Variances, deviations, covariances, regressions in two steps: exact numbers to the digit, floats nearly.

SELECT variance(small), var_samp(small), var_pop(small), stddev(small), stddev_samp(small), stddev_pop(small) FROM items;
SELECT variance(k), var_pop(k), stddev(k), stddev_pop(k) FROM items;
SELECT variance(big), var_pop(big), stddev(big), stddev_pop(big) FROM items;
SELECT variance(price), var_pop(price), stddev(price), stddev_pop(price) FROM items;
SELECT variance(pct), stddev(pct) FROM items;
SELECT k, variance(id), var_pop(id), stddev(id), stddev_pop(id), count(*) FROM items GROUP BY k;
SELECT k, variance(price), var_pop(price), stddev(price), stddev_pop(price), avg(price), sum(price) FROM items GROUP BY k;
SELECT small, stddev(big), var_pop(big), stddev_pop(k) FROM items GROUP BY small;
SELECT stddev(id), stddev_pop(id) FROM bigs;
SELECT stddev(other), var_pop(other), stddev(v) FROM bigs;
-- Scales: of small numbers, of large ones, of many decimals.
SELECT stddev(id * 1e-9::numeric), variance(id * 1e-9::numeric) FROM items;
SELECT stddev(id * 1e12::numeric), stddev_pop(id * 123456789012345678::numeric), var_pop(id * 1e30::numeric) FROM items;
SELECT stddev(id / 3::numeric), var_samp(id / 7.000000000000000000000000000001) FROM items;
SELECT stddev(1.5), var_pop(7), stddev(0) FROM items;
SELECT k % 3, stddev(id * id * 1000003::numeric), stddev_pop(id * 0.1) FROM items GROUP BY 1;
-- NaN, infinity.
SELECT stddev(free), variance(free), var_pop(free), stddev_pop(free) FROM items;
SELECT k, stddev(free), var_pop(free) FROM items GROUP BY k;
SELECT id % 9, stddev(free), var_pop(free), count(free) FROM items GROUP BY 1;
SELECT stddev(p), variance(p) FROM prices WHERE p <> 'NaN' AND abs(p) < 1e20;
SELECT stddev(p), variance(p) FROM prices;
-- None, one, two.
SELECT stddev(k), var_pop(price), stddev(f8), corr(f8, k), regr_count(f8, k) FROM items WHERE id < 0;
SELECT stddev(k), var_pop(price), stddev_pop(price), stddev(f8), stddev_pop(f8), corr(f8, k), covar_pop(f8, k), regr_sxx(f8, k), regr_count(f8, k) FROM items WHERE id = 6 OR id = 7 AND false;
SELECT id, stddev(k), stddev_pop(k), var_pop(price) FROM items GROUP BY id;
SELECT k, small, stddev(id), var_pop(id), stddev(f8) IS NULL, regr_count(f8, id) FROM items GROUP BY k, small;
-- @approx
SELECT k, small, stddev(r4), var_pop(f8) FROM items WHERE f8 BETWEEN -1e9 AND 1e9 GROUP BY k, small;
SELECT stddev(free) FILTER (WHERE id < 0), stddev(price) FILTER (WHERE ok), var_pop(small) FILTER (WHERE k > 3) FROM items;
SELECT k, stddev(price) FILTER (WHERE ok), variance(id) FILTER (WHERE id > 20) FROM items GROUP BY k HAVING stddev(id) > 10;
SELECT round(stddev(id) * 2, 5), stddev(id) + avg(id), coalesce(variance(id) FILTER (WHERE false), -1) FROM items;
SELECT k FROM items GROUP BY k HAVING variance(id) > 200 AND stddev(price) IS NOT NULL;
SELECT k, ok, stddev(id), var_pop(price) FROM items GROUP BY ROLLUP (k, ok);
SELECT k, ok, stddev(id), count(DISTINCT small) FROM items GROUP BY GROUPING SETS ((k), (ok), ());
-- @ordered
SELECT k, stddev(id) FROM items GROUP BY k ORDER BY stddev(id) DESC NULLS LAST, k LIMIT 4;
SELECT variance(DISTINCT k), stddev(DISTINCT id), var_pop(DISTINCT id), count(DISTINCT id) FROM items;
SELECT ok, variance(DISTINCT k), stddev(DISTINCT id), count(DISTINCT id) FILTER (WHERE k > 2) FROM items GROUP BY ok;
SELECT c.region, stddev(a.balance), var_pop(a.balance) FROM accounts a JOIN countries c ON c.code = a.country GROUP BY c.region;
SELECT i.k, stddev(e.amount), variance(e.seq) FROM items i JOIN events e ON e.item_id = i.id GROUP BY i.k;
SELECT max(s), min(s), avg(n) FROM (SELECT k, stddev(id) AS s, count(*) AS n FROM items GROUP BY k) x;
SELECT k, stddev(id) OVER (PARTITION BY k) FROM items;

-- Floats.
-- @approx
SELECT stddev(f8), stddev_pop(f8), variance(f8), var_pop(f8), stddev(r4), var_pop(r4) FROM items WHERE f8 BETWEEN -1e9 AND 1e9;
SELECT stddev(f8), stddev_pop(f8), variance(f8), var_pop(f8) FROM items;
SELECT id % 11, stddev(f8), var_pop(f8) FROM items WHERE id % 11 < 5 GROUP BY 1;
-- @approx
SELECT k, stddev(f8), var_pop(r4), avg(f8), sum(f8), count(f8) FROM items WHERE f8 BETWEEN -1e9 AND 1e9 GROUP BY k;
-- @approx
SELECT stddev(f8 + 1e3), variance(f8 - 1e3) FROM items WHERE f8 BETWEEN -1e9 AND 1e9;
SELECT stddev(5.5::float8), var_pop(0::float8) FROM items;
-- @approx
SELECT corr(f8, id), covar_pop(f8, id), covar_samp(f8, id), regr_r2(f8, id), regr_slope(f8, id), regr_intercept(f8, id) FROM items WHERE f8 BETWEEN -1e9 AND 1e9;
-- @approx
SELECT regr_sxx(f8, k), regr_syy(f8, k), regr_sxy(f8, k), regr_avgx(f8, k), regr_avgy(f8, k), regr_count(f8, k) FROM items WHERE f8 BETWEEN -1e9 AND 1e9;
SELECT corr(f8, k), covar_pop(f8, k), regr_syy(f8, k), regr_avgy(f8, k), regr_count(f8, k) FROM items;
-- @approx
SELECT ok, corr(price, id), regr_slope(price, k), regr_count(price, k), regr_avgx(price, k) FROM items GROUP BY ok;
-- @approx
SELECT ok, corr(price, id) FILTER (WHERE k > 3), regr_avgx(price, k) FILTER (WHERE id > 30), count(*) FROM items GROUP BY ok HAVING regr_count(price, k) > 3;
SELECT corr(1, id), regr_slope(id, 1), regr_count(NULL, id), regr_avgy(3, id) FROM items;
-- @approx
SELECT i.k, corr(e.amount, e.seq), stddev(i.f8) FROM items i JOIN events e ON e.item_id = i.id WHERE i.f8 BETWEEN -1e9 AND 1e9 GROUP BY i.k;

-- Aggregates that collect.
SELECT k, (SELECT array_agg(u ORDER BY u) FROM unnest(a) u) FROM (SELECT k, array_agg(txt) AS a FROM items GROUP BY k) s;
SELECT (SELECT array_agg(u ORDER BY u) FROM unnest(a) u) FROM (SELECT array_agg(id) FILTER (WHERE ok) AS a FROM items) s;
SELECT array_agg(id), string_agg(txt, ','), jsonb_agg(id), jsonb_object_agg(id, k), array_agg(feel) FROM items WHERE id < 0;
SELECT array_agg(id) IS NULL, jsonb_agg(k) FILTER (WHERE false) FROM items;
SELECT ok, (SELECT string_agg(u, '|' ORDER BY u) FROM regexp_split_to_table(a, ', ') u) FROM (SELECT ok, string_agg(vc, ', ') AS a FROM items GROUP BY ok) s;
SELECT k, length(string_agg(txt, '')), length(string_agg(raw, '\x00')), count(txt) FROM items GROUP BY k;
SELECT length(string_agg(txt, NULL)), length(string_agg('', ',')) FROM items;
SELECT length(string_agg(txt, vc)) FROM items WHERE vc IS NOT NULL;
-- @params(+)
SELECT length(string_agg(txt, $1::text)) FROM items;
SELECT ok, cardinality(array_agg(k)), array_length(array_agg(id), 1), array_lower(array_agg(id), 1), (array_agg(ok))[1] FROM items GROUP BY ok;
SELECT cardinality(array_agg(ARRAY[id, k])), array_ndims(array_agg(ARRAY[id, k])), array_length(array_agg(ARRAY[k, 1, 2]), 2) FROM items;
-- @error(2202E)
SELECT array_agg(CASE WHEN id % 2 = 0 THEN ARRAY[1] ELSE ARRAY[1, 2] END) FROM items;
SELECT (SELECT array_agg(u ORDER BY u) FROM unnest(a) u) FROM (SELECT array_agg(feel) AS a FROM items) s;
SELECT (SELECT array_agg(u ORDER BY u) FROM unnest(a) u) FROM (SELECT array_agg(pct) AS a FROM items) s;
SELECT cardinality(array_agg(pt)) FROM items;
SELECT ok, (SELECT jsonb_agg(u ORDER BY u) FROM jsonb_array_elements(a) u) FROM (SELECT ok, jsonb_agg(jb) AS a FROM items GROUP BY ok) s;
SELECT jsonb_object_agg(id, txt), jsonb_object_agg(vc, 1) FILTER (WHERE vc IS NOT NULL) FROM items;
-- @error(22023)
SELECT jsonb_object_agg(vc, 1) FROM items;
SELECT range_agg(span), range_intersect_agg(span) FROM items;
SELECT k, range_agg(span), range_intersect_agg(span) FILTER (WHERE id > 20), count(*) FROM items GROUP BY k;
SELECT range_agg(m), range_intersect_agg(m) FROM (SELECT int4multirange(span) AS m FROM items WHERE span IS NOT NULL) s;
SELECT range_agg(span) FROM items WHERE id < 0;

-- Collected in an order.
SELECT array_agg(x), string_agg(x::text, ',') FROM (SELECT id AS x FROM items ORDER BY id DESC) s;
SELECT json_agg(id ORDER BY id), jsonb_agg(id ORDER BY id DESC), json_object_agg(id, k ORDER BY id) FROM items;
SELECT k, string_agg(txt, '/' ORDER BY txt COLLATE "C", id), array_agg(id ORDER BY price DESC NULLS LAST, id) FILTER (WHERE ok), count(*), sum(id) FROM items GROUP BY k;
SELECT k, array_agg(DISTINCT small ORDER BY small DESC NULLS LAST), string_agg(DISTINCT txt, ',') FROM items GROUP BY k;
SELECT ok, array_agg(DISTINCT id), stddev(id) FROM items GROUP BY ok;
SELECT kind, array_agg(seq ORDER BY seq), array_agg(e.item_id ORDER BY seq) FROM events e GROUP BY kind HAVING count(*) > 2;
SELECT i.ok, string_agg(e.note, ',' ORDER BY e.seq, i.id) FROM items i JOIN events e ON e.item_id = i.id GROUP BY i.ok;
SELECT k, percentile_cont(0.5) WITHIN GROUP (ORDER BY f8), percentile_disc(0.25) WITHIN GROUP (ORDER BY id), mode() WITHIN GROUP (ORDER BY ok) FROM items WHERE f8 <> 'NaN' GROUP BY k;
SELECT percentile_cont(ARRAY[0, 0.3, 1]) WITHIN GROUP (ORDER BY id), rank(17) WITHIN GROUP (ORDER BY id) FROM items;

-- DISTINCT before the aggregate.
SELECT count(DISTINCT k), sum(DISTINCT k), avg(DISTINCT k), min(DISTINCT k), max(DISTINCT k) FROM items;
SELECT count(DISTINCT txt) FROM items;
SELECT count(DISTINCT free), count(DISTINCT f8) FROM items;
SELECT count(DISTINCT free) FROM items;
SELECT count(DISTINCT f8) FROM items;
SELECT ok, count(DISTINCT txt), max(DISTINCT txt) FROM items GROUP BY ok;
-- @ordered
SELECT ok, feel, count(DISTINCT small) FROM items GROUP BY ok, feel ORDER BY feel DESC, ok;
SELECT k + 1, count(DISTINCT small) + 1 FROM items GROUP BY k HAVING count(DISTINCT small) > 2;
SELECT count(DISTINCT lower(txt)), count(DISTINCT lower(txt)) * 2 FROM items;
SELECT count(DISTINCT k) FROM items HAVING count(DISTINCT k) > 100;
SELECT k, count(DISTINCT small) FROM items WHERE id < 0 GROUP BY k;
SELECT count(DISTINCT e.note) FROM items i JOIN events e ON e.item_id = i.id WHERE i.ok;
SELECT (SELECT count(DISTINCT small) FROM items), count(*) FROM products;
SELECT i.k, count(DISTINCT i.small), (SELECT count(*) FROM products) FROM items i GROUP BY i.k;
