-- @readonly
-- Joins of every kind, between distributed, reference and local tables.

-- on the key, colocated
SELECT i.id, i.k, e.seq, e.amount FROM items i JOIN events e ON e.item_id = i.id;
SELECT i.id, e.seq FROM items i JOIN events e ON e.item_id = i.id WHERE i.id = 8;
SELECT i.id, e.seq FROM items i JOIN events e ON e.item_id = i.id WHERE e.item_id = 8 AND e.amount > 10;
SELECT i.id, e.seq FROM items i, events e WHERE i.id = e.item_id AND i.k = e.seq % 10;
SELECT i.id, e.seq FROM items i LEFT JOIN events e ON e.item_id = i.id;
SELECT i.id, e.seq FROM items i LEFT JOIN events e ON e.item_id = i.id AND e.amount > 50;
SELECT i.id, e.seq FROM items i LEFT JOIN events e ON e.item_id = i.id WHERE e.seq IS NULL;
SELECT i.id, e.seq, e.item_id FROM items i RIGHT JOIN events e ON e.item_id = i.id;
SELECT i.id, e.seq, e.item_id FROM items i FULL JOIN events e ON e.item_id = i.id;
SELECT count(*) FROM items i FULL JOIN events e ON e.item_id = i.id AND i.k = 3;
SELECT o.tenant_id, o.order_id, l.line, l.qty FROM orders o JOIN order_lines l USING (tenant_id, order_id);
SELECT o.order_id, l.line FROM orders o NATURAL JOIN order_lines l;
SELECT o.tenant_id, sum(l.qty * l.price) FROM orders o JOIN order_lines l USING (tenant_id, order_id) GROUP BY o.tenant_id;
SELECT * FROM orders o JOIN order_lines l USING (tenant_id, order_id) WHERE tenant_id = 3;
SELECT a.id, b.id FROM items a JOIN items b USING (id) WHERE a.k < b.small;
SELECT count(*) FROM items a JOIN items b ON a.id = b.id JOIN events e ON e.item_id = b.id;
SELECT e1.seq, e2.seq FROM events e1 JOIN events e2 ON e1.item_id = e2.item_id AND e1.seq < e2.seq;
SELECT i.id FROM items i JOIN orders o ON i.id = o.tenant_id;
SELECT count(*) FROM items i JOIN order_lines l ON i.id = l.tenant_id AND i.k = l.line;

-- on the key, not colocated, and other types
SELECT i.id, b.v FROM items i JOIN bigs b ON b.id = i.id;
SELECT i.id, s.v FROM items i JOIN smalls s ON s.id = i.id;
SELECT p.p, i.id FROM prices p JOIN items i ON p.p = i.id;
SELECT a.p, a.n, b.n FROM prices a JOIN prices b ON a.p = b.p;
SELECT a.n, b.n FROM prices a LEFT JOIN prices b ON a.p = b.p AND a.n < b.n;
SELECT d.n, i.id FROM days d JOIN items i ON d.d = i.d;
SELECT x.id, y.id FROM docs x JOIN items y ON x.id = y.u;
SELECT l.n, m.n FROM labels l JOIN labels m ON l.c = m.c WHERE l.n < m.n;

-- with reference tables
SELECT l.tenant_id, l.line, p.name FROM order_lines l JOIN products p ON p.id = l.product_id;
SELECT l.tenant_id, l.line, p.name FROM order_lines l LEFT JOIN products p ON p.id = l.product_id AND NOT p.gone;
SELECT p.id, l.line FROM order_lines l RIGHT JOIN products p ON p.id = l.product_id AND l.qty > 3;
SELECT p.id, l.line FROM order_lines l FULL JOIN products p ON p.id = l.product_id AND l.tenant_id = 3;
SELECT p.category, count(*) FROM order_lines l JOIN products p ON p.id = l.product_id GROUP BY 1;
SELECT a.code, c.region, p.id FROM accounts a JOIN countries c ON c.code = a.country JOIN products p ON p.id = length(a.owner);
SELECT c.name, p.name FROM countries c CROSS JOIN products p WHERE p.id < 3;
SELECT c.code, p.id FROM countries c LEFT JOIN products p ON p.id = c.people % 7;
SELECT i.id, c.code FROM items i CROSS JOIN countries c WHERE i.id < 4;
SELECT i.id, c.code FROM countries c LEFT JOIN items i ON i.id = length(c.name);
SELECT count(*) FROM products p LEFT JOIN (items i JOIN events e ON i.id = e.item_id) ON i.id = p.id;
SELECT count(*) FROM (products p LEFT JOIN items i ON i.id = p.id) JOIN events e ON e.item_id = i.id;
SELECT o.order_id, p.id FROM orders o LEFT JOIN products p ON p.id = o.order_id LEFT JOIN countries c ON c.code = o.customer;

-- with local tables
SELECT l.id, i.txt FROM loc l JOIN items i ON i.id = l.item_id;
SELECT l.id, i.txt FROM loc l LEFT JOIN items i ON i.id = l.item_id;
SELECT l.id, i.id FROM loc l RIGHT JOIN items i ON i.id = l.item_id AND l.amt > 20;
SELECT l.id, i.id FROM loc l FULL JOIN items i ON i.id = l.item_id;
SELECT w.w, i.id FROM words w JOIN items i ON i.txt = w.w;
SELECT w.w, i.id FROM words w LEFT JOIN items i ON i.txt = w.w AND i.id < 20;
SELECT w.n, p.id, i.id FROM words w JOIN products p ON p.id = w.n JOIN items i ON i.id = p.id;
SELECT count(*) FROM loc, items, products WHERE loc.item_id = items.id AND products.id = loc.id;
SELECT i.id FROM items i JOIN empty_local e ON e.id = i.id;
SELECT count(*) FROM items i LEFT JOIN empty_local e ON e.id = i.id;
SELECT l.id, i.id FROM loc l JOIN items i ON i.feel = l.feel WHERE i.id < 15;

-- semi and anti joins
SELECT id FROM items i WHERE EXISTS (SELECT 1 FROM events e WHERE e.item_id = i.id AND e.amount > 80);
SELECT id FROM items i WHERE NOT EXISTS (SELECT 1 FROM events e WHERE e.item_id = i.id);
SELECT id FROM items WHERE id IN (SELECT item_id FROM events WHERE kind = 'sad');
SELECT id FROM items WHERE id NOT IN (SELECT item_id FROM events WHERE item_id IS NOT NULL);
SELECT id FROM items WHERE k IN (SELECT seq FROM events);
SELECT seq FROM events e WHERE NOT EXISTS (SELECT 1 FROM items i WHERE i.id = e.item_id);
SELECT id FROM loc l WHERE EXISTS (SELECT 1 FROM items i WHERE i.id = l.item_id AND i.ok);
SELECT id FROM loc l WHERE NOT EXISTS (SELECT 1 FROM items i WHERE i.id = l.item_id);
SELECT id FROM items i WHERE EXISTS (SELECT 1 FROM loc l WHERE l.item_id = i.id);
SELECT order_id FROM orders o WHERE EXISTS (SELECT 1 FROM order_lines l WHERE l.tenant_id = o.tenant_id AND l.order_id = o.order_id AND l.qty = 4);
SELECT order_id FROM orders o WHERE NOT EXISTS (SELECT 1 FROM order_lines l WHERE l.order_id = o.order_id);
SELECT id FROM items WHERE (id, k) IN (SELECT item_id, seq % 10 FROM events);

-- LATERAL
SELECT i.id, e.seq FROM items i, LATERAL (SELECT seq FROM events e WHERE e.item_id = i.id ORDER BY seq DESC LIMIT 1) e;
SELECT i.id, e.* FROM items i LEFT JOIN LATERAL (SELECT count(*), max(amount) FROM events e WHERE e.item_id = i.id) e ON true WHERE i.id < 20;
SELECT p.id, x.* FROM products p, LATERAL (SELECT order_id, line FROM order_lines l WHERE l.product_id = p.id ORDER BY order_id, line LIMIT 2) x;
SELECT l.id, x.id FROM loc l, LATERAL (SELECT id FROM items i WHERE i.k = l.id ORDER BY id LIMIT 2) x;
SELECT i.id, g FROM items i, generate_series(1, i.k) g WHERE i.id < 10;
SELECT i.id, u.v, u.ord FROM items i, unnest(i.texts) WITH ORDINALITY u (v, ord) WHERE i.id < 15;
SELECT i.id, x.key, x.value FROM items i, jsonb_each(i.jb) x WHERE i.id < 10;
SELECT i.id, r.a FROM items i CROSS JOIN LATERAL jsonb_to_record(i.jb) AS r (i int, a text) WHERE i.id < 5;
SELECT i.id, s.x FROM items i LEFT JOIN LATERAL (SELECT i.k + 1 AS x WHERE i.ok) s ON true;
SELECT i.id, a.b FROM items i JOIN LATERAL (SELECT e.seq AS b FROM events e JOIN orders o ON o.order_id = e.seq WHERE o.tenant_id = i.k) a ON true WHERE i.id < 20;

-- unequal joins, products, many tables
SELECT a.id, b.id FROM items a JOIN items b ON a.id < b.id AND b.id < a.k;
SELECT count(*) FROM items, events;
SELECT count(*) FROM items i JOIN events e ON e.amount BETWEEN i.price AND i.price + 5;
SELECT count(*) FROM items i LEFT JOIN events e ON e.amount > i.price AND e.seq < 20;
SELECT i.id, e.seq, p.id, l.id FROM items i JOIN events e ON e.item_id = i.id JOIN products p ON p.id = i.k JOIN loc l ON l.id = e.seq % 25;
SELECT count(*) FROM items a JOIN items b ON a.k = b.small JOIN items c ON c.id = b.k;
SELECT a.id FROM items a JOIN (items b LEFT JOIN events e ON b.id = e.item_id) ON a.id = b.id AND a.k = e.seq % 7;
SELECT x.id, y.n FROM (SELECT id, k FROM items WHERE k > 3) x JOIN (SELECT item_id, count(*) AS n FROM events GROUP BY 1) y ON x.id = y.item_id;
SELECT x.k, y.n FROM (SELECT DISTINCT k FROM items) x LEFT JOIN (SELECT id % 10 AS m, count(*) AS n FROM items GROUP BY 1) y ON x.k = y.m;
SELECT j.id, j.seq FROM (items i JOIN events e ON i.id = e.item_id) AS j WHERE j.k = 1;
SELECT i.id FROM items i JOIN items j ON i.id = j.id AND i.id = 7;
SELECT i.id, e.seq FROM items i JOIN events e ON e.item_id = i.id WHERE i.id IN (1, 8, 15) AND e.item_id IN (8, 15, 22);
SELECT i.id, e.seq FROM items i JOIN events e ON e.item_id = i.id AND e.item_id = 8 JOIN items z ON z.id = e.item_id;
SELECT count(*) FROM items i JOIN events e ON i.id = e.item_id OR i.k = e.seq;
SELECT count(*) FROM items i JOIN events e ON coalesce(i.id, 0) = coalesce(e.item_id, 0);
SELECT count(*) FROM events a JOIN events b ON a.item_id IS NOT DISTINCT FROM b.item_id;
SELECT o.tenant_id, o.order_id, l.line, p.name, c.name FROM orders o JOIN order_lines l USING (tenant_id, order_id) LEFT JOIN products p ON p.id = l.product_id LEFT JOIN countries c ON c.code = 'DE' WHERE o.tenant_id IN (2, 5);
-- @error(42P01)
SELECT 1 FROM items i JOIN events e ON x.id = 1;
-- @error(0A000)
SELECT 1 FROM items i FULL JOIN events e ON i.id < e.item_id;
