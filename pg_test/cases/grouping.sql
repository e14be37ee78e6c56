-- @readonly
-- GROUP BY, GROUPING SETS, HAVING.

SELECT k, count(*) FROM items GROUP BY k;
SELECT k, ok, count(*), sum(price) FROM items GROUP BY k, ok;
SELECT item_id, count(*), sum(amount), min(at), max(note) FROM events GROUP BY item_id;
SELECT item_id, kind, count(*) FROM events GROUP BY item_id, kind;
SELECT id, count(*) FROM items GROUP BY id;
SELECT id, txt, k FROM items GROUP BY id;
SELECT i.id, i.txt, count(e.seq) FROM items i LEFT JOIN events e ON e.item_id = i.id GROUP BY i.id;
SELECT item_id, max(seq) FROM events WHERE item_id = 8 GROUP BY item_id;
SELECT kind, count(*) FROM events WHERE item_id = 8 GROUP BY kind;
SELECT item_id, count(*) FROM events WHERE item_id IN (8, 9, 10) GROUP BY item_id;
SELECT tenant_id, status, count(*), sum(total) FROM orders GROUP BY tenant_id, status;
SELECT customer, count(DISTINCT tenant_id) FROM orders GROUP BY customer;
SELECT feel, count(*), max(feel), min(feel) FROM items GROUP BY feel;
SELECT pt, count(*) FROM items GROUP BY pt;
SELECT ints, count(*) FROM items GROUP BY ints;
SELECT span, u, count(*) FROM items GROUP BY span, u;
SELECT jb, count(*) FROM items GROUP BY jb;
SELECT ch, vc, count(*) FROM items GROUP BY ch, vc;
SELECT f8, count(*) FROM items GROUP BY f8;
SELECT free, count(*) FROM items GROUP BY free;
SELECT round(min(p), 3), count(*) FROM prices GROUP BY p;
SELECT c, count(*) FROM labels GROUP BY c;
SELECT d, count(*), sum(n) FROM days GROUP BY d;
SELECT date_trunc('month', d), count(*) FROM days WHERE d > '2000-01-01' AND d < '3000-01-01' GROUP BY 1;
SELECT lower(txt), length(txt), count(*) FROM items GROUP BY 1, 2;
SELECT k + 1 AS k1, (k + 1) * 2, count(*) FROM items GROUP BY k + 1;
SELECT k % 2 = 0 AS even, sum(id) FROM items GROUP BY even;
SELECT CASE WHEN price > 40 THEN 'dear' ELSE 'cheap' END AS c, count(*) FROM items GROUP BY c;
SELECT k, count(*) FROM items GROUP BY 1 HAVING count(*) > 3 AND min(id) > 1;
SELECT k FROM items GROUP BY k HAVING bool_or(ok) AND NOT bool_and(ok);
SELECT k, small FROM items GROUP BY k, small HAVING k < small;
SELECT k FROM items GROUP BY k HAVING count(*) FILTER (WHERE ok) > 2;
SELECT count(*) FROM items WHERE id = 1000 GROUP BY k;
SELECT count(*), sum(k), max(k), avg(k) FROM items WHERE id = 1000;
SELECT count(*), sum(k), max(k), avg(k) FROM items WHERE k = 1000;
SELECT 'x' AS x, count(*) FROM items GROUP BY 'x'::text;
SELECT k, array_agg(id ORDER BY id), string_agg(txt, ',' ORDER BY id) FROM items GROUP BY k;
SELECT DISTINCT count(*) FROM items GROUP BY k;
SELECT DISTINCT k % 2 FROM items GROUP BY k;
SELECT i.k, p.category, count(*) FROM items i JOIN products p ON p.id = i.k GROUP BY i.k, p.category;
SELECT p.category, sum(l.qty * p.price) FROM order_lines l JOIN products p ON p.id = l.product_id GROUP BY p.category;
SELECT p.id, p.name, count(*) FROM order_lines l JOIN products p ON p.id = l.product_id GROUP BY p.id;
SELECT l.word, count(i.id) FROM loc l LEFT JOIN items i ON i.id = l.item_id GROUP BY l.word;
SELECT a.k, count(*) FROM items a JOIN items b ON a.k = b.small GROUP BY a.k;
SELECT g.n, count(*) FROM (SELECT k, count(*) AS n FROM items GROUP BY k) g GROUP BY g.n;
SELECT tenant_id, order_id, lines, amount FROM order_totals;
SELECT tenant_id, sum(lines) FROM order_totals GROUP BY tenant_id;

-- grouping sets
SELECT k, ok, count(*) FROM items GROUP BY GROUPING SETS ((k), (ok), ());
SELECT k, ok, count(*), grouping(k, ok) FROM items GROUP BY ROLLUP (k, ok);
SELECT k, ok, feel, count(*), sum(price) FROM items GROUP BY CUBE (k, ok, feel);
SELECT item_id, kind, sum(amount) FROM events GROUP BY ROLLUP (item_id, kind);
SELECT k, ok, count(*) FROM items GROUP BY k, ROLLUP (ok);
SELECT k, ok, count(*) FROM items GROUP BY GROUPING SETS ((k, ok), (k), (k));
SELECT k, ok, count(*) FROM items GROUP BY DISTINCT GROUPING SETS ((k, ok), (k), (k));
SELECT grouping(k), k, count(*) FROM items GROUP BY ROLLUP (k) HAVING grouping(k) = 1 OR count(*) > 5;
SELECT count(*) FROM items GROUP BY GROUPING SETS ((), ());
SELECT count(*) FROM items WHERE false GROUP BY GROUPING SETS ((), (k));
-- @ordered
SELECT k, ok, sum(id) FROM items GROUP BY CUBE (k, ok) ORDER BY grouping(k, ok), k NULLS FIRST, ok LIMIT 20;
SELECT k, rank() OVER (ORDER BY sum(price) DESC NULLS LAST, k), sum(price) FROM items GROUP BY ROLLUP (k);

-- @ordered
SELECT k, count(*) AS n FROM items GROUP BY k ORDER BY n DESC, k DESC;
-- @ordered
SELECT k FROM items GROUP BY k ORDER BY max(price) DESC NULLS LAST LIMIT 3;
-- @ordered
SELECT tenant_id FROM orders GROUP BY tenant_id ORDER BY sum(total) DESC NULLS LAST, tenant_id OFFSET 2 LIMIT 3;
-- @ordered
SELECT feel, k, count(*) FROM items GROUP BY feel, k ORDER BY feel DESC, k NULLS FIRST LIMIT 11;
-- @error(42803)
SELECT k, txt FROM items GROUP BY k;
-- @error(42803)
SELECT k FROM items WHERE count(*) > 1 GROUP BY k;
