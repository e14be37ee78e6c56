-- UPDATE, DELETE and MERGE by a join or subquery: of colocated rows, which the nodes do themselves, and of others.

-- UPDATE ... FROM
UPDATE items i SET txt = e.note, k = e.seq FROM events e WHERE e.item_id = i.id AND e.seq = (SELECT max(x.seq) FROM events x WHERE x.item_id = i.id);
SELECT id, k, txt FROM items;
UPDATE events e SET note = i.txt || '/' || coalesce(p.name, '-') FROM items i LEFT JOIN products p ON p.id = i.k WHERE i.id = e.item_id AND i.k < 90;
SELECT item_id, seq, note FROM events;
UPDATE orders o SET total = l.amount FROM (SELECT tenant_id, order_id, sum(qty * price) AS amount FROM order_lines GROUP BY 1, 2) l
    WHERE l.tenant_id = o.tenant_id AND l.order_id = o.order_id AND l.amount >= 0 RETURNING o.tenant_id, o.order_id, total, l.amount;
UPDATE items i SET small = v.n FROM (VALUES (1, 11), (2, 12), (77, 13)) v (id, n) WHERE v.id = i.id RETURNING i.id, i.small, v.n;
UPDATE items i SET vc = p.category FROM products p WHERE p.id = i.k RETURNING i.id, i.vc;
UPDATE items i SET k = j.k + 1 FROM items j WHERE j.id = i.id AND j.k IS NOT NULL;
SELECT id, k FROM items;
WITH m AS (SELECT item_id, count(*) AS n FROM events WHERE item_id IS NOT NULL GROUP BY item_id)
    UPDATE items i SET big = m.n FROM m WHERE m.item_id = i.id RETURNING i.id, i.big;
-- not on the key, another group, a table of the coordinator, the key itself
UPDATE items i SET small = 1 FROM events e WHERE e.seq = i.id;
UPDATE items i SET txt = b.v::text FROM bigs b WHERE b.id = i.id;
UPDATE items i SET txt = l.word FROM (SELECT item_id, min(word) AS word FROM loc GROUP BY item_id) l WHERE l.item_id = i.id;
UPDATE events e SET item_id = i.id + 100 FROM items i WHERE i.id = e.item_id AND i.id < 4;
SELECT item_id, seq FROM events WHERE item_id > 100;
UPDATE items i SET k = (SELECT max(seq) FROM events) FROM events e WHERE e.item_id = i.id AND i.id < 9;
UPDATE items i SET k = (SELECT count(*) FROM events e WHERE e.item_id = i.id) WHERE EXISTS (SELECT FROM events e WHERE e.item_id = i.id AND e.amount > 20);
SELECT id, small, k, txt FROM items;
-- a value of this session
-- @params(5)
UPDATE items i SET txt = 'p' || $1::int FROM events e WHERE e.item_id = i.id AND e.seq > $1::int * 10;
UPDATE items i SET tstz = now() FROM events e WHERE e.item_id = i.id AND i.id < 10;
SELECT count(DISTINCT tstz) FROM items WHERE id < 10 AND id IN (SELECT item_id FROM events);
UPDATE items SET tstz = NULL WHERE id < 10;
-- nothing is evaluated where no row is
UPDATE items i SET k = 1 / (i.id - i.id) FROM events e WHERE e.item_id = i.id AND i.id > 1000;
-- @error(22012)
UPDATE items i SET k = 1 / (i.id - i.id) FROM events e WHERE e.item_id = i.id;
-- @error(23514)
UPDATE orders o SET total = -1 FROM order_lines l WHERE l.tenant_id = o.tenant_id AND l.order_id = o.order_id;
SELECT id, k, txt FROM items;

-- DELETE ... USING
DELETE FROM events e USING items i WHERE i.id = e.item_id AND i.ok RETURNING e.item_id, e.seq, i.txt;
DELETE FROM events e USING products p WHERE p.id = e.seq AND p.gone;
DELETE FROM events WHERE item_id IN (SELECT id FROM items WHERE small = 3);
DELETE FROM events e WHERE NOT EXISTS (SELECT FROM items i WHERE i.id = e.item_id);
SELECT item_id, seq FROM events;
DELETE FROM order_lines WHERE (tenant_id, order_id) IN (SELECT tenant_id, order_id FROM orders WHERE note = 'urgent');
DELETE FROM order_lines l USING orders o WHERE o.tenant_id = l.tenant_id AND o.order_id = l.order_id AND o.total IS NULL;
DELETE FROM orders o WHERE NOT EXISTS (SELECT FROM order_lines l WHERE l.tenant_id = o.tenant_id AND l.order_id = o.order_id) RETURNING tenant_id, order_id;
DELETE FROM order_lines WHERE product_id IN (SELECT id FROM products WHERE price > 100);
DELETE FROM order_lines WHERE line > ALL (SELECT line FROM order_lines x WHERE x.tenant_id = order_lines.tenant_id AND x.qty = 2);
DELETE FROM items WHERE id IN (SELECT seq FROM events);
DELETE FROM items WHERE id NOT IN (SELECT item_id FROM events WHERE item_id IS NOT NULL) AND id > 55;
SELECT tenant_id, order_id, line FROM order_lines;
SELECT id FROM items;

-- MERGE
MERGE INTO orders o USING (SELECT tenant_id, order_id, sum(qty) AS q FROM order_lines GROUP BY 1, 2) l ON o.tenant_id = l.tenant_id AND o.order_id = l.order_id
    WHEN MATCHED AND l.q > 6 THEN UPDATE SET note = 'q' || l.q
    WHEN MATCHED AND l.q > 5 THEN DELETE
    WHEN NOT MATCHED THEN INSERT (tenant_id, order_id, customer) VALUES (l.tenant_id, l.order_id, 'new');
SELECT tenant_id, order_id, note, customer FROM orders;
MERGE INTO items t USING (SELECT item_id, max(seq) AS seq, min(note) AS note FROM events GROUP BY item_id) e ON t.id = e.item_id
    WHEN MATCHED AND e.seq % 2 = 0 THEN UPDATE SET txt = e.note
    WHEN NOT MATCHED AND e.item_id IS NOT NULL THEN INSERT (id, txt) VALUES (e.item_id, e.note);
MERGE INTO events t USING items i ON t.item_id = i.id
    WHEN MATCHED AND t.seq > 100 THEN DELETE
    WHEN NOT MATCHED AND i.id % 3 = 0 THEN INSERT (item_id, seq, note) VALUES (i.id, i.id + 1000, 'made');
SELECT item_id, seq, note FROM events;
MERGE INTO events t USING events s ON t.item_id = s.item_id AND t.seq = s.seq + 1000
    WHEN NOT MATCHED THEN INSERT (item_id, seq) VALUES (s.item_id, s.seq + 1000);
MERGE INTO events t USING products p ON t.seq = p.id WHEN MATCHED AND p.gone THEN UPDATE SET note = p.name;
MERGE INTO items t USING events e ON t.id = e.item_id AND e.seq < 40
    WHEN MATCHED THEN DO NOTHING
    WHEN NOT MATCHED AND e.seq BETWEEN 40 AND 42 THEN INSERT (id, k) VALUES (e.seq + 500, e.item_id);
MERGE INTO items t USING events e ON t.id = e.seq WHEN NOT MATCHED AND e.seq = 1 THEN INSERT (id) VALUES (e.seq) WHEN MATCHED THEN UPDATE SET k = 5;
MERGE INTO items t USING (SELECT id, k FROM items WHERE id < 5) s ON t.id = s.id WHEN MATCHED THEN UPDATE SET id = s.id + 2000;
-- @error(21000)
MERGE INTO items t USING (SELECT item_id FROM events UNION ALL SELECT item_id FROM events) e ON t.id = e.item_id WHEN MATCHED THEN UPDATE SET k = 1;
MERGE INTO items t USING (SELECT i.id, p.name FROM items i JOIN products p ON p.id = i.id) s ON t.id = s.id
    WHEN MATCHED THEN UPDATE SET txt = s.name WHEN NOT MATCHED THEN INSERT (id) VALUES (s.id);
SELECT id, k, txt FROM items;
SELECT item_id, seq, note FROM events;
-- in a transaction, undone
BEGIN;
UPDATE items i SET k = 0 FROM events e WHERE e.item_id = i.id;
SAVEPOINT s;
DELETE FROM events e USING items i WHERE i.id = e.item_id AND i.k = 0;
SELECT count(*) FROM events;
ROLLBACK TO s;
SELECT count(*) FROM events;
ROLLBACK;
SELECT count(*) FROM items WHERE k = 0;
