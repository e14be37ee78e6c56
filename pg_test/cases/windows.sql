-- @readonly
-- Window functions.

SELECT id, row_number() OVER (ORDER BY id DESC) FROM items;
SELECT id, k, row_number() OVER (PARTITION BY k ORDER BY price, id) FROM items;
SELECT id, k, rank() OVER (ORDER BY k), dense_rank() OVER (ORDER BY k) FROM items;
-- @approx
SELECT id, percent_rank() OVER (ORDER BY k), cume_dist() OVER (ORDER BY k) FROM items;
SELECT id, ntile(4) OVER (ORDER BY id) FROM items;
SELECT id, lag(k) OVER (ORDER BY id), lead(k, 2) OVER (ORDER BY id), lead(k, 1, 0) OVER (ORDER BY id) FROM items;
SELECT id, first_value(txt) OVER (PARTITION BY k ORDER BY id), last_value(txt) OVER (PARTITION BY k ORDER BY id) FROM items;
SELECT id, nth_value(id, 2) OVER (PARTITION BY k ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) FROM items;
SELECT id, sum(price) OVER (ORDER BY id) FROM items;
SELECT id, sum(k) OVER (ORDER BY id ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING) FROM items;
SELECT id, sum(k) OVER (ORDER BY id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW EXCLUDE CURRENT ROW) FROM items;
SELECT id, count(*) OVER (ORDER BY k RANGE BETWEEN 1 PRECEDING AND 1 FOLLOWING) FROM items;
SELECT id, count(*) OVER (ORDER BY k GROUPS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM items;
SELECT id, count(*) OVER (ORDER BY ts RANGE BETWEEN '1 day' PRECEDING AND CURRENT ROW) FROM items;
SELECT id, avg(price) OVER (PARTITION BY feel) FROM items;
SELECT id, max(txt) OVER (), min(d) OVER (), count(*) OVER () FROM items;
SELECT id, price - avg(price) OVER (PARTITION BY ok) FROM items;
SELECT id, count(*) FILTER (WHERE ok) OVER (PARTITION BY k) FROM items;
SELECT id, array_agg(id) OVER (PARTITION BY k ORDER BY id) FROM items WHERE id < 20;
SELECT id, sum(k) OVER w, avg(k) OVER w, rank() OVER (w ORDER BY id) FROM items WINDOW w AS (PARTITION BY small);
SELECT id, sum(k) OVER w FROM items WINDOW w AS (PARTITION BY id);
SELECT item_id, seq, row_number() OVER (PARTITION BY item_id ORDER BY seq) FROM events;
SELECT item_id, seq, amount - lag(amount) OVER (PARTITION BY item_id ORDER BY seq) FROM events;
SELECT item_id, seq, sum(amount) OVER (PARTITION BY item_id) FROM events WHERE item_id = 8;
SELECT tenant_id, order_id, rank() OVER (PARTITION BY tenant_id ORDER BY total DESC NULLS LAST, order_id) FROM orders;
SELECT tenant_id, order_id, count(*) OVER (PARTITION BY tenant_id, status) FROM orders;
SELECT k, count(*), rank() OVER (ORDER BY count(*) DESC, k) FROM items GROUP BY k;
SELECT k, sum(price), sum(sum(price)) OVER (ORDER BY k) FROM items GROUP BY k;
SELECT i.id, e.seq, rank() OVER (PARTITION BY i.k ORDER BY e.seq) FROM items i JOIN events e ON i.id = e.item_id;
SELECT p.id, l.line, sum(l.qty) OVER (PARTITION BY p.id ORDER BY l.order_id, l.line) FROM products p LEFT JOIN order_lines l ON l.product_id = p.id;
SELECT * FROM (SELECT item_id, seq, row_number() OVER (PARTITION BY item_id ORDER BY amount DESC NULLS LAST, seq) AS r FROM events) s WHERE r = 1;
SELECT * FROM (SELECT id, k, sum(k) OVER (ORDER BY id) AS s FROM items) x WHERE id = 30;
SELECT * FROM (SELECT id, k, sum(k) OVER (PARTITION BY id) AS s FROM items) x WHERE id = 30;
-- @ordered
SELECT id, row_number() OVER (ORDER BY price DESC NULLS LAST, id) AS r FROM items ORDER BY r LIMIT 5;
-- @ordered
SELECT id FROM items ORDER BY rank() OVER (ORDER BY k NULLS FIRST), id LIMIT 12;
SELECT DISTINCT k, count(*) OVER (PARTITION BY k) FROM items;
SELECT DISTINCT count(*) OVER () FROM items;
SELECT l.id, lag(i.txt) OVER (ORDER BY l.id) FROM loc l LEFT JOIN items i ON i.id = l.item_id;
SELECT id, count(*) OVER (PARTITION BY id % 3 ORDER BY id % 5) FROM items;
SELECT code, sum(balance) OVER (ORDER BY code COLLATE "C") FROM accounts;
SELECT n, p, count(*) OVER (PARTITION BY p) FROM prices;
-- @error(42P20)
SELECT id FROM items WHERE row_number() OVER () = 1;
-- @error(42703)
SELECT sum(k) OVER (ORDER BY nothing) FROM items;
