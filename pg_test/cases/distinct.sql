-- @readonly
-- DISTINCT and DISTINCT ON.

SELECT DISTINCT k FROM items;
SELECT DISTINCT id FROM items;
SELECT DISTINCT k, ok FROM items;
SELECT DISTINCT txt FROM items WHERE id < 30;
SELECT DISTINCT item_id FROM events;
SELECT DISTINCT item_id, kind FROM events WHERE item_id = 8;
SELECT DISTINCT item_id FROM events WHERE item_id IN (8, 9);
SELECT DISTINCT feel FROM items;
SELECT DISTINCT pt FROM items;
SELECT DISTINCT jb FROM items;
SELECT DISTINCT ints, texts FROM items;
SELECT DISTINCT f8, free FROM items;
SELECT DISTINCT trim_scale(p) FROM prices;
SELECT DISTINCT c FROM labels;
SELECT DISTINCT k % 3 AS m, ok FROM items;
SELECT DISTINCT 1 FROM items;
SELECT DISTINCT i.k, p.category FROM items i LEFT JOIN products p ON p.id = i.k;
SELECT DISTINCT e.kind FROM items i JOIN events e ON e.item_id = i.id WHERE i.ok;
SELECT DISTINCT i.id FROM items i JOIN events e ON e.item_id = i.id;
SELECT count(*) FROM (SELECT DISTINCT item_id, kind FROM events) s;
SELECT DISTINCT tenant_id FROM orders;
SELECT DISTINCT tenant_id, customer FROM orders;
SELECT DISTINCT l.word, i.ok FROM loc l LEFT JOIN items i ON i.id = l.item_id;
-- @ordered
SELECT DISTINCT k FROM items ORDER BY k DESC NULLS LAST;
-- @ordered
SELECT DISTINCT k FROM items ORDER BY k LIMIT 3;
-- @ordered
SELECT DISTINCT k, small FROM items ORDER BY small NULLS FIRST, k DESC LIMIT 9 OFFSET 2;
-- @ordered
SELECT DISTINCT upper(txt) AS u FROM items ORDER BY u;
-- @ordered
SELECT DISTINCT ON (k) id, k, txt FROM items ORDER BY k, price DESC NULLS LAST, id;
-- @ordered
SELECT DISTINCT ON (id) id, k FROM items ORDER BY id DESC LIMIT 5;
-- @ordered
SELECT DISTINCT ON (item_id) * FROM events ORDER BY item_id, seq DESC;
-- @ordered
SELECT DISTINCT ON (item_id, kind) item_id, kind, seq FROM events ORDER BY item_id, kind, seq DESC LIMIT 30;
-- @ordered
SELECT DISTINCT ON (k % 2) k, id FROM items WHERE k IS NOT NULL ORDER BY k % 2, id;
-- @ordered
SELECT DISTINCT ON (tenant_id) tenant_id, order_id FROM orders ORDER BY tenant_id, placed DESC NULLS LAST, order_id;
-- @ordered
SELECT DISTINCT ON (i.k) i.k, e.seq FROM items i JOIN events e ON e.item_id = i.id ORDER BY i.k, e.seq;
-- @ordered
SELECT DISTINCT ON (k) k, count(*) OVER (PARTITION BY k) FROM items ORDER BY k;
SELECT * FROM (SELECT DISTINCT ON (k) k, id FROM items ORDER BY k, id DESC) s WHERE k > 3;
-- @error(42601)
SELECT DISTINCT ON (true) count(*) FROM items;
-- @error(42P10)
SELECT DISTINCT ON (k) k, id FROM items ORDER BY id;
-- @error(42P10)
SELECT DISTINCT k FROM items ORDER BY id;
-- @error(42883)
SELECT DISTINCT j FROM items;
