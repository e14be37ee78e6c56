-- MERGE into distributed, reference and local tables.

MERGE INTO items t USING (VALUES (1, 'one'), (101, 'new'), (5, 'five')) s (id, txt) ON t.id = s.id
    WHEN MATCHED THEN UPDATE SET txt = s.txt
    WHEN NOT MATCHED THEN INSERT (id, txt) VALUES (s.id, s.txt);
SELECT id, txt FROM items WHERE id IN (1, 5, 101);
MERGE INTO items t USING products p ON t.id = p.id
    WHEN MATCHED AND p.gone THEN DELETE
    WHEN MATCHED THEN UPDATE SET vc = p.category, k = t.k + 1
    WHEN NOT MATCHED THEN DO NOTHING;
SELECT id, k, vc FROM items WHERE id < 25;
MERGE INTO items t USING (SELECT item_id, count(*) AS n, max(amount) AS m FROM events WHERE item_id IS NOT NULL GROUP BY item_id) e ON t.id = e.item_id
    WHEN MATCHED AND e.n > 2 THEN UPDATE SET small = e.n, price = e.m
    WHEN NOT MATCHED AND e.n = 1 THEN INSERT (id, k) VALUES (e.item_id, 1)
    WHEN NOT MATCHED THEN INSERT (id, k, txt) VALUES (e.item_id, e.n, 'many');
SELECT id, k, txt, small, price FROM items;
MERGE INTO items t USING loc l ON t.id = l.item_id AND l.id % 2 = 0
    WHEN MATCHED THEN UPDATE SET txt = l.word
    WHEN NOT MATCHED AND l.id > 20 THEN INSERT (id, txt) VALUES (l.id + 1000, l.word);
MERGE INTO events t USING items i ON t.item_id = i.id AND t.seq = i.id
    WHEN MATCHED THEN DELETE
    WHEN NOT MATCHED AND i.k = 3 THEN INSERT (item_id, seq, note) VALUES (i.id, i.id, i.txt);
MERGE INTO events t USING (SELECT 8 AS id, 900 AS seq) s ON t.item_id = s.id AND t.seq = s.seq AND t.item_id = 8
    WHEN NOT MATCHED THEN INSERT (item_id, seq) VALUES (s.id, s.seq)
    WHEN MATCHED THEN UPDATE SET amount = coalesce(t.amount, 0) + 1;
MERGE INTO events t USING (SELECT 8 AS id, 900 AS seq) s ON t.item_id = s.id AND t.seq = s.seq
    WHEN NOT MATCHED THEN INSERT (item_id, seq) VALUES (s.id, s.seq)
    WHEN MATCHED THEN UPDATE SET amount = coalesce(t.amount, 0) + 1;
MERGE INTO orders o USING (SELECT tenant_id, order_id, sum(qty) AS q FROM order_lines GROUP BY 1, 2) l ON o.tenant_id = l.tenant_id AND o.order_id = l.order_id
    WHEN MATCHED AND l.q > 5 THEN UPDATE SET note = 'q' || l.q
    WHEN MATCHED AND o.tenant_id = 4 THEN DELETE
    WHEN NOT MATCHED THEN DO NOTHING;
SELECT tenant_id, order_id, note FROM orders;
MERGE INTO products p USING (SELECT product_id, sum(qty) AS q FROM order_lines WHERE product_id IS NOT NULL GROUP BY 1) l ON p.id = l.product_id
    WHEN MATCHED THEN UPDATE SET name = p.name || ' x' || l.q
    WHEN NOT MATCHED THEN INSERT (id, name) VALUES (l.product_id, 'none');
MERGE INTO products p USING (VALUES (1, 5.0), (200, 6.0)) v (id, price) ON p.id = v.id
    WHEN MATCHED THEN UPDATE SET price = v.price
    WHEN NOT MATCHED THEN INSERT (id, name, price) VALUES (v.id, 'merged', v.price);
MERGE INTO loc l USING items i ON l.item_id = i.id
    WHEN MATCHED AND i.ok THEN UPDATE SET word = i.txt
    WHEN MATCHED THEN DELETE
    WHEN NOT MATCHED AND i.id IN (3, 6) THEN INSERT (id, item_id) VALUES (i.id + 500, i.id);
MERGE INTO accounts a USING countries c ON a.code = c.code
    WHEN NOT MATCHED THEN INSERT (code, owner) VALUES (c.code, c.name)
    WHEN MATCHED THEN DO NOTHING;
WITH s AS (SELECT code, owner FROM accounts WHERE balance > 200) MERGE INTO accounts a USING s ON a.code = s.code
    WHEN MATCHED THEN UPDATE SET balance = 0;
MERGE INTO bigs b USING (SELECT id FROM items WHERE id < 10) i ON b.id = i.id
    WHEN MATCHED THEN UPDATE SET v = -1 WHEN NOT MATCHED THEN INSERT VALUES (i.id, 0, NULL);
MERGE INTO items t USING (SELECT 1 WHERE false) s ON true WHEN MATCHED THEN DELETE;
PREPARE m (int, text) AS MERGE INTO items t USING (SELECT $1 AS id, $2 AS txt) s ON t.id = s.id
    WHEN MATCHED THEN UPDATE SET txt = s.txt WHEN NOT MATCHED THEN INSERT (id, txt) VALUES (s.id, s.txt);
-- @repeat(6)
EXECUTE m (300, 'prepared');
SELECT id, txt FROM items WHERE id = 300;
-- @error(21000)
MERGE INTO items t USING (VALUES (300, 1), (300, 2)) s (id, k) ON t.id = s.id WHEN MATCHED THEN UPDATE SET k = s.k;
-- @error(23505)
MERGE INTO items t USING (VALUES (400), (400)) s (id) ON t.id = s.id WHEN NOT MATCHED THEN INSERT (id) VALUES (s.id);
-- @error(23505)
MERGE INTO items t USING (VALUES (1), (2)) s (id) ON t.id = s.id + 1000 WHEN NOT MATCHED THEN INSERT (id) VALUES (2);
MERGE INTO items t USING (VALUES (2, 2002)) s (id, n) ON t.id = s.id WHEN MATCHED THEN UPDATE SET id = s.n;
SELECT id FROM items WHERE id IN (2, 2002);
