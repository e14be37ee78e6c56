-- @readonly
-- What is joined on the nodes: colocated tables on the shard key, reference tables, subqueries; and what
-- must not be: reference rows that are preserved, other columns, keys of another group.

SELECT i.id, e.seq, e.amount FROM items i JOIN events e ON e.item_id = i.id WHERE e.amount > 20;
SELECT count(*) FROM items i, events e WHERE e.item_id = i.id AND i.k = 3;
SELECT i.id, e.seq FROM items i LEFT JOIN events e ON e.item_id = i.id;
SELECT i.id, e.seq FROM items i RIGHT JOIN events e ON e.item_id = i.id;
SELECT i.id, e.seq, e.item_id FROM items i FULL JOIN events e ON e.item_id = i.id;
SELECT i.id, e.seq FROM items i LEFT JOIN events e ON e.item_id = i.id AND e.amount > 50 WHERE i.k = 1;
SELECT i.id, count(e.seq) FROM items i LEFT JOIN events e ON e.item_id = i.id GROUP BY i.id;
SELECT e.item_id, count(i.id) FROM items i RIGHT JOIN events e ON e.item_id = i.id GROUP BY e.item_id;
-- NULL keys of the nullable side are on every node: a group of them is not complete there.
SELECT e.item_id, count(*) FROM items i LEFT JOIN events e ON e.item_id = i.id AND e.seq % 2 = 0 GROUP BY e.item_id;
SELECT i.id, count(*) FROM items i FULL JOIN events e ON e.item_id = i.id GROUP BY i.id;
SELECT coalesce(i.id, e.item_id) AS key, count(*) FROM items i FULL JOIN events e ON e.item_id = i.id GROUP BY 1;
SELECT DISTINCT e.item_id FROM items i LEFT JOIN events e ON e.item_id = i.id AND e.amount > 60;
SELECT e.item_id, rank() OVER (PARTITION BY e.item_id ORDER BY i.id) FROM items i LEFT JOIN events e ON e.item_id = i.id AND e.amount > 90;
SELECT count(*) FROM items a LEFT JOIN events b ON b.item_id = a.id LEFT JOIN items c ON c.id = b.item_id;
SELECT count(*), count(c.id) FROM items a LEFT JOIN events b ON b.item_id = a.id AND b.seq < 40 JOIN items c ON c.id = b.item_id;
-- The condition of an outer join says nothing about the preserved side.
SELECT a.id, b.seq, c.id FROM items a LEFT JOIN events b ON b.item_id = a.id AND b.item_id = a.k JOIN items c ON c.id = a.k WHERE a.id < 20;
SELECT a.id, a.k, b.seq FROM items a LEFT JOIN events b ON b.item_id = a.k WHERE a.id < 12;
SELECT count(*) FROM items a JOIN events b ON b.item_id = a.k;
SELECT count(*) FROM items a CROSS JOIN (SELECT 1 FROM events e WHERE e.item_id < 5) b;

-- Reference tables.
SELECT l.tenant_id, l.line, p.name FROM order_lines l JOIN products p ON p.id = l.product_id;
SELECT l.tenant_id, l.line, p.name FROM order_lines l LEFT JOIN products p ON p.id = l.product_id;
SELECT p.name, l.qty FROM products p LEFT JOIN order_lines l ON p.id = l.product_id;
SELECT p.id, l.qty FROM order_lines l RIGHT JOIN products p ON p.id = l.product_id;
SELECT p.id, l.line, l.order_id FROM order_lines l FULL JOIN products p ON p.id = l.product_id;
SELECT count(*) FROM products p LEFT JOIN order_lines l ON p.id = l.product_id;
SELECT p.category, sum(l.qty), count(*) FROM order_lines l JOIN products p ON p.id = l.product_id GROUP BY p.category;
SELECT p.category, count(DISTINCT l.tenant_id), count(DISTINCT l.order_id) FROM order_lines l JOIN products p ON p.id = l.product_id GROUP BY p.category;
SELECT p.name, sum(l.qty) FROM orders o JOIN order_lines l USING (tenant_id, order_id) JOIN products p ON p.id = l.product_id WHERE o.total > 100 GROUP BY p.name;
-- Colocated by way of a column of a reference table.
SELECT count(*) FROM items i, products p, events e WHERE i.id = p.id AND p.id = e.item_id;
SELECT p.id, (SELECT count(*) FROM order_lines l WHERE l.product_id = p.id) FROM products p;
SELECT count(*) FROM products p WHERE NOT EXISTS (SELECT 1 FROM order_lines l WHERE l.product_id = p.id);
SELECT count(*) FROM products p WHERE EXISTS (SELECT 1 FROM order_lines l WHERE l.product_id = p.id);
SELECT count(*) FROM products p WHERE p.id NOT IN (SELECT l.product_id FROM order_lines l WHERE l.product_id IS NOT NULL);
-- @columns-only
SELECT o.order_id FROM orders o, (SELECT id FROM products LIMIT 3) p WHERE p.id = o.tenant_id;

-- Semi and anti joins.
SELECT id FROM items i WHERE EXISTS (SELECT 1 FROM events e WHERE e.item_id = i.id AND e.amount > 70);
SELECT id FROM items i WHERE NOT EXISTS (SELECT 1 FROM events e WHERE e.item_id = i.id AND e.amount > 70);
SELECT id FROM items i WHERE id IN (SELECT item_id FROM events WHERE score > 4);
SELECT id FROM items i WHERE id IN (SELECT item_id FROM events GROUP BY item_id HAVING count(*) > 2);
SELECT count(*) FROM items i WHERE id NOT IN (SELECT item_id FROM events WHERE score > 4);
SELECT count(*) FROM items i WHERE id NOT IN (SELECT item_id FROM events WHERE item_id IS NOT NULL AND score > 4);
SELECT count(*) FROM items i WHERE (id IN (SELECT item_id FROM events WHERE score > 4)) IS NOT TRUE;
SELECT count(*) FROM items i WHERE k IN (SELECT item_id FROM events);
SELECT count(*) FROM items i WHERE (id, k) IN (SELECT item_id, seq % 10 FROM events);
SELECT count(*) FROM items i WHERE EXISTS (SELECT 1 FROM events e WHERE e.item_id = i.k);
SELECT count(*) FROM items i WHERE EXISTS (SELECT 1 FROM events e WHERE e.amount > 99);
SELECT count(*) FROM items i WHERE EXISTS (SELECT 1 FROM products p WHERE p.id = i.k);
SELECT count(*) FROM items i WHERE NOT EXISTS (SELECT 1 FROM products p WHERE p.id = i.k);
SELECT id, (SELECT max(e.amount) FROM events e WHERE e.item_id = i.id) FROM items i;
SELECT id, (SELECT e.seq FROM events e WHERE e.item_id = i.id ORDER BY e.seq LIMIT 1) FROM items i;
SELECT id, ARRAY(SELECT e.seq FROM events e WHERE e.item_id = i.id ORDER BY 1) FROM items i WHERE i.id < 15;
SELECT id FROM items i WHERE price > (SELECT avg(amount) FROM events e WHERE e.item_id = i.id);
SELECT id FROM items i WHERE price > (SELECT avg(amount) FROM events);
SELECT sum((SELECT count(*) FROM events e WHERE e.item_id = i.id)) FROM items i;
-- One value for the statement: a parameter of the nodes' query, if it is one row by construction.
SELECT id FROM items WHERE price > (SELECT avg(amount) * 0.5 FROM events WHERE seq > (SELECT min(id) FROM loc));
SELECT k, count(*), (SELECT max(seq) FROM events) - count(*) FROM items WHERE id <= 1.5 * (SELECT avg(order_id) FROM orders) GROUP BY k;
SELECT k, max(id + (SELECT count(*) FROM events WHERE amount < 0)) FROM items GROUP BY k;
SELECT id, (SELECT sum(qty) FROM order_lines) FROM items WHERE id < 4;
SELECT count(*) FROM items WHERE k = (SELECT max(k) FROM items WHERE id < 0);
SELECT count(*) FROM items WHERE id = (SELECT max(item_id) FROM events WHERE item_id < 50);
-- @error(21000)
SELECT count(*) FROM items WHERE k = (SELECT k FROM items WHERE k IS NOT NULL);
SELECT count(*) FROM items i JOIN events e ON e.item_id = i.id WHERE e.amount > (SELECT avg(amount) FROM events) AND i.price < (SELECT max(price) FROM items);
SELECT s.k, s.n FROM (SELECT k, count(*) AS n FROM items WHERE price < (SELECT max(amount) FROM events) GROUP BY k) s WHERE s.n > (SELECT min(tenant_id) FROM orders);
WITH top AS (SELECT max(price) AS p FROM items) SELECT count(*) FROM items WHERE price < (SELECT max(p) FROM top);
-- @params(5)
-- @params(NULL)
SELECT count(*) FROM items WHERE id > (SELECT min(item_id) + $1::int FROM events) AND k > $1::int - 4;
SELECT k, sum((SELECT count(*) FROM events e WHERE e.item_id = i.id)) FROM items i GROUP BY k;
SELECT id, k = ANY (SELECT tenant_id FROM orders) FROM items WHERE id < 10;

-- LATERAL.
SELECT i.id, l.seq FROM items i, LATERAL (SELECT seq FROM events e WHERE e.item_id = i.id ORDER BY seq DESC LIMIT 2) l;
SELECT i.id, l.n FROM items i LEFT JOIN LATERAL (SELECT count(*) AS n FROM events e WHERE e.item_id = i.id) l ON true;
SELECT i.id, l.n FROM items i LEFT JOIN LATERAL (SELECT e.seq AS n FROM events e WHERE e.item_id = i.id AND e.seq < 30) l ON l.n > 10 WHERE i.id < 30;
SELECT i.id, l.n FROM items i, LATERAL (SELECT count(*) AS n FROM events e WHERE e.item_id < i.id) l WHERE i.id < 9;
SELECT p.id, l.n FROM products p, LATERAL (SELECT count(*) AS n FROM order_lines o WHERE o.product_id = p.id) l;
SELECT i.id, g FROM items i, LATERAL generate_series(1, i.k) g WHERE i.id < 15;
SELECT i.id, t FROM items i, unnest(i.texts) t;
SELECT count(*), count(t) FROM items i LEFT JOIN LATERAL unnest(i.texts) t ON true;

-- Subqueries and CTEs.
SELECT s.item_id, s.n, i.k FROM (SELECT item_id, count(*) AS n FROM events GROUP BY item_id) s JOIN items i ON i.id = s.item_id;
SELECT s.k, s.n, i.id FROM (SELECT k, count(*) AS n FROM items GROUP BY k) s JOIN items i ON i.id = s.k;
SELECT sum(s.n) FROM (SELECT item_id, count(*) AS n FROM events GROUP BY item_id) s;
SELECT s.n, count(*) FROM (SELECT item_id, count(*) AS n FROM events GROUP BY item_id) s GROUP BY s.n;
SELECT s.id, s.r FROM (SELECT i.id, row_number() OVER (PARTITION BY i.id ORDER BY e.seq) AS r FROM items i JOIN events e ON e.item_id = i.id) s WHERE s.r = 1;
WITH big AS (SELECT id, price FROM items WHERE price > 30), e AS (SELECT item_id, amount FROM events)
    SELECT count(*), sum(e.amount) FROM big JOIN e ON e.item_id = big.id;
WITH b AS MATERIALIZED (SELECT id, k FROM items) SELECT count(*) FROM b x JOIN b y ON x.id = y.id;
WITH b AS (SELECT id, k FROM items) SELECT count(*) FROM b x JOIN b y ON x.k = y.id;
WITH b AS (SELECT item_id, max(seq) AS last FROM events GROUP BY item_id)
    SELECT i.id, b.last FROM items i LEFT JOIN b ON b.item_id = i.id;
WITH unused AS (SELECT * FROM loc) SELECT count(*) FROM items;
WITH b AS (SELECT id FROM items WHERE id < 20) SELECT (SELECT count(*) FROM b), count(*) FROM events;
WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT i.id, r.n FROM r JOIN items i ON i.id = r.n;
WITH RECURSIVE r AS (SELECT id FROM items WHERE id = 1 UNION ALL SELECT i.id FROM r JOIN items i ON i.id = r.id * 2) SELECT * FROM r;
SELECT i.id, v.w FROM items i JOIN (VALUES (1, 'a'), (2, 'b'), (2, 'c')) v (id, w) ON v.id = i.id;
SELECT v.id, i.k FROM (VALUES (1), (2), (999)) v (id) LEFT JOIN items i ON v.id = i.id;
SELECT * FROM order_totals;
SELECT customer, sum(lines), sum(amount) FROM order_totals GROUP BY customer;
SELECT count(*) FROM item_names n JOIN events e ON e.item_id = n.id WHERE n.name <> '(none)';

-- Other groups, and a table of the coordinator.
SELECT count(*) FROM items i JOIN orders o ON o.tenant_id = i.id;
SELECT count(*) FROM items i JOIN bigs b ON b.id = i.id;
SELECT l.word, count(*) FROM loc l JOIN items i ON i.id = l.item_id GROUP BY l.word;
SELECT l.id, s.n FROM loc l LEFT JOIN (SELECT k, count(*) AS n FROM items GROUP BY k) s ON s.k = l.id;
SELECT x.tenant_id, y.n FROM (SELECT tenant_id, count(*) AS n FROM orders GROUP BY tenant_id) x JOIN (SELECT k, count(*) AS n FROM items GROUP BY k) y ON y.k = x.tenant_id;

-- Key lists choose the nodes.
SELECT i.id, e.seq FROM items i JOIN events e ON e.item_id = i.id WHERE i.id IN (3, 14, 15);
SELECT count(*) FROM items WHERE id IN (NULL);
SELECT count(*), sum(k) FROM items WHERE id = ANY ('{}'::int[]);
SELECT count(*) FROM items i JOIN events e ON e.item_id = i.id WHERE e.item_id IN (1, 2, NULL);
SELECT count(*) FROM items a LEFT JOIN events b ON a.id = b.item_id WHERE b.item_id = 12;
SELECT count(*) FROM items a LEFT JOIN events b ON a.id = b.item_id AND b.item_id IN (12, 13);
-- @params(3)
-- @params(8)
SELECT k, count(*) FROM items i JOIN events e ON e.item_id = i.id WHERE i.k > $1::int GROUP BY k;
