-- @readonly
-- Aggregates: built-in, ordered, ordered-set, hypothetical, with FILTER and DISTINCT, of one's own.

SELECT count(*), count(k), count(DISTINCT k), count(DISTINCT txt) FROM items;
SELECT sum(small), sum(k), sum(big), sum(price), sum(pct) FROM items;
-- @approx
SELECT sum(r4), sum(f8) FILTER (WHERE f8 < 100 AND f8 > -100), avg(r4), avg(f8) FILTER (WHERE f8 BETWEEN 0 AND 100) FROM items;
SELECT sum(f8), avg(f8), max(f8), min(f8) FROM items;
SELECT sum(free), avg(free), max(free), min(free) FROM items;
SELECT sum(free) FROM items WHERE free < 10 AND free > 0;
SELECT avg(small), avg(k), avg(big), avg(price) FROM items;
SELECT avg(iv), sum(iv), max(iv), min(iv) FROM items;
SELECT min(txt), max(txt), min(txt COLLATE "C"), max(ctext), min(vc), max(ch) FROM items;
SELECT min(d), max(d), min(ts), max(tstz), min(tm), max(tm) FROM items;
SELECT min(feel), max(feel), max(ip), min(ints), max(texts) FROM items;
SELECT bool_and(ok), bool_or(ok), every(ok IS NOT NULL) FROM items;
SELECT bit_and(k), bit_or(k), bit_xor(k), bit_and(bits), bit_or(bits) FROM items;
-- @approx
SELECT stddev(k), stddev_pop(k), stddev_samp(price), variance(price), var_pop(small), var_samp(big) FROM items;
-- @approx
SELECT stddev(r4), variance(r4), stddev_pop(f8), var_pop(f8) FROM items WHERE f8 > 0 AND f8 < 100;
-- @approx
SELECT corr(k, id), covar_pop(k, id), covar_samp(k, id), regr_slope(k, id), regr_intercept(k, id), regr_r2(k, id) FROM items;
-- @approx
SELECT regr_count(k, id), regr_avgx(k, id), regr_avgy(k, id), regr_sxx(k, id), regr_syy(k, id), regr_sxy(k, id) FROM items;
SELECT array_agg(id ORDER BY id DESC) FROM items;
SELECT array_agg(DISTINCT k ORDER BY k NULLS FIRST) FROM items;
SELECT array_agg(ints ORDER BY id) FROM items WHERE ints IS NOT NULL AND id < 10;
SELECT string_agg(txt, '; ' ORDER BY id) FROM items;
SELECT string_agg(DISTINCT txt, '; ' ORDER BY txt) FROM items;
SELECT string_agg(raw, '\x2c' ORDER BY id) FROM items;
SELECT json_agg(k ORDER BY id) FROM items WHERE id < 9;
SELECT jsonb_agg(pt ORDER BY id) FROM items WHERE id < 9;
SELECT jsonb_object_agg(id, k) FROM items;
SELECT json_object_agg(id, txt ORDER BY id) FROM items WHERE id < 9;
SELECT range_agg(span ORDER BY id) FROM items;
SELECT range_intersect_agg(span ORDER BY id) FROM items WHERE id IN (3, 4);
SELECT mode() WITHIN GROUP (ORDER BY k) FROM items WHERE k IN (1, 2) OR id = 21;
SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY price) FROM items;
SELECT percentile_cont(0.25) WITHIN GROUP (ORDER BY k) FROM items;
SELECT percentile_cont(ARRAY[0.1, 0.5, 0.9]) WITHIN GROUP (ORDER BY id) FROM items;
SELECT percentile_disc(ARRAY[0.1, 0.9]) WITHIN GROUP (ORDER BY txt) FROM items;
SELECT rank(5) WITHIN GROUP (ORDER BY k), dense_rank(5) WITHIN GROUP (ORDER BY k) FROM items;
-- @approx
SELECT percent_rank(5) WITHIN GROUP (ORDER BY k), cume_dist(5) WITHIN GROUP (ORDER BY k) FROM items;
SELECT k, percentile_disc(0.5) WITHIN GROUP (ORDER BY id) FROM items GROUP BY k;
SELECT count(*) FILTER (WHERE k = 3), sum(id) FILTER (WHERE ok), max(txt) FILTER (WHERE id < 10) FROM items;
SELECT k, count(*) FILTER (WHERE ok), count(*) FILTER (WHERE NOT ok), count(*) FILTER (WHERE false) FROM items GROUP BY k;
SELECT sum(DISTINCT k), avg(DISTINCT small), count(DISTINCT (k, small)) FROM items;
SELECT item_id, count(DISTINCT kind), sum(DISTINCT amount) FROM events GROUP BY item_id;
SELECT kind, count(DISTINCT item_id) FROM events GROUP BY kind;
SELECT count(DISTINCT f8), count(DISTINCT free), count(DISTINCT pt), count(DISTINCT jb) FROM items;
SELECT count(DISTINCT 5), avg(k) FROM items;
SELECT count(DISTINCT 5), string_agg(DISTINCT 'x'::text, ','), avg(k), count(*) FROM items WHERE k < -1000;
SELECT sum(DISTINCT 5) FILTER (WHERE k > 3), count(DISTINCT 5) FILTER (WHERE k < -1000), avg(k) FROM items;
SELECT k, count(DISTINCT 5), avg(price) FROM items GROUP BY k;
SELECT count(DISTINCT p) FROM prices;
SELECT count(DISTINCT c) FROM labels;
SELECT count(*) + sum(k) * 2 - max(id), -min(id), abs(min(k) - 10) FROM items;
SELECT sum(k * 2 + 1), sum(k) * 2, max(id % 7), count(k > 3 OR NULL) FROM items;
SELECT coalesce(sum(k), 0), coalesce(max(txt), '?') FROM items WHERE id > 1000;
SELECT sum(CASE WHEN ok THEN price ELSE 0 END), count(CASE WHEN k > 4 THEN 1 END) FROM items;
SELECT max(id) FROM items WHERE id = 8;
SELECT sum(amount) FROM events WHERE item_id = 8;
SELECT max(i.id) + max(e.seq) FROM items i JOIN events e ON i.id = e.item_id;
SELECT sum(i.k), sum(e.amount), count(p.id) FROM items i JOIN events e ON e.item_id = i.id LEFT JOIN products p ON p.id = i.k;
SELECT max(id), (SELECT max(seq) FROM events) FROM items;
SELECT any_k FROM (SELECT min(k) AS any_k FROM items GROUP BY k) s;
SELECT count(*) FROM (SELECT sum(k) FROM items GROUP BY small) s;
SELECT sum(count(*)) OVER (), k FROM items GROUP BY k;
SELECT count(i) FROM items i;
SELECT count(pt), count((pt).x) FROM items;
SELECT array_agg(DISTINCT feel ORDER BY feel) FROM items;
SELECT min(x), max(x) FROM (SELECT unnest(ints) AS x FROM items) s;
SELECT sum(n) FROM (SELECT generate_series(1, k) AS n FROM items) s;
SELECT count(*), sum(p) FROM prices WHERE p < 100 AND p > -100;
SELECT max(p), min(p) FROM prices WHERE p <> 'NaN';
SELECT sum(id), avg(id), max(id) FROM bigs WHERE id < 9223372036854775807 AND id > -9223372036854775808;
SELECT sum(other), count(other) FROM bigs;
-- @ordered
SELECT k, sum(price) AS s FROM items GROUP BY k ORDER BY s DESC NULLS LAST LIMIT 4;
-- @error(42883)
SELECT sum(txt) FROM items;
-- @error(42803)
SELECT sum(count(*)) FROM items;

-- of one's own, created in a transaction that goes away
BEGIN;
CREATE FUNCTION t.add_squares(acc numeric, x numeric) RETURNS numeric LANGUAGE sql IMMUTABLE
    AS $$ SELECT acc + coalesce(x, 0) * coalesce(x, 0) $$;
CREATE AGGREGATE t.sum_squares(numeric) (SFUNC = t.add_squares, STYPE = numeric, INITCOND = '0');
SELECT sum_squares(k) FROM items;
SELECT k, sum_squares(price) FROM items GROUP BY k;
SELECT sum_squares(DISTINCT k) FILTER (WHERE ok) FROM items;
SELECT id, sum_squares(k) OVER (ORDER BY id) FROM items WHERE id < 10;
ROLLBACK;
