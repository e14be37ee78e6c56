-- DELETE with everything in it.

DELETE FROM items WHERE id = 5;
DELETE FROM items WHERE id = 5 RETURNING id;
DELETE FROM items WHERE id IN (6, 7, 61) RETURNING id, k, txt;
DELETE FROM items WHERE k = 4 AND ok;
DELETE FROM items WHERE false;
DELETE FROM items i USING events e WHERE e.item_id = i.id AND e.amount > 95 RETURNING i.id, e.seq;
DELETE FROM items USING products p WHERE p.id = items.id AND p.gone RETURNING p.name;
DELETE FROM items USING loc WHERE loc.item_id = items.id AND loc.amt > 50 RETURNING items.id, loc.id;
DELETE FROM items a USING items b WHERE b.id = a.id + 1 AND b.k = 9 RETURNING a.id;
DELETE FROM items WHERE id IN (SELECT item_id FROM events WHERE kind = 'Ecstatic');
DELETE FROM items WHERE NOT EXISTS (SELECT 1 FROM events e WHERE e.item_id = items.id) AND id > 30;
DELETE FROM items WHERE price < (SELECT avg(price) / 4 FROM items) RETURNING id;
DELETE FROM items WHERE id = (SELECT min(id) FROM items);
DELETE FROM items WHERE id = ANY (ARRAY(SELECT id FROM items ORDER BY id DESC LIMIT 3));
WITH gone AS (SELECT id FROM items ORDER BY id LIMIT 2) DELETE FROM items USING gone WHERE items.id = gone.id RETURNING items.id;
DELETE FROM events WHERE item_id IS NULL RETURNING seq;
DELETE FROM events WHERE item_id = 8;
DELETE FROM events e WHERE NOT EXISTS (SELECT 1 FROM items i WHERE i.id = e.item_id) AND seq % 2 = 0;
DELETE FROM events WHERE seq IN (SELECT order_id FROM orders WHERE tenant_id = 3);
DELETE FROM events WHERE (item_id, seq) IN (SELECT item_id, max(seq) FROM events GROUP BY item_id HAVING count(*) > 1) RETURNING item_id, seq;
DELETE FROM orders WHERE tenant_id = 2;
SELECT count(*) FROM order_lines WHERE tenant_id = 2;
DELETE FROM orders WHERE tenant_id = 3 AND order_id = 2 RETURNING *;
DELETE FROM orders o USING order_lines l WHERE l.tenant_id = o.tenant_id AND l.order_id = o.order_id AND l.qty = 4;
SELECT count(*), sum(qty) FROM order_lines;
-- @error(23503)
DELETE FROM products WHERE id < 10;
UPDATE order_lines SET product_id = NULL WHERE product_id < 4;
DELETE FROM products WHERE id < 4 RETURNING id;
DELETE FROM loc WHERE item_id IN (SELECT id FROM items) RETURNING id;
DELETE FROM loc USING items i WHERE i.k = loc.id;
DELETE FROM accounts WHERE code IN ('', ' ', 'acc9') RETURNING code;
DELETE FROM accounts a USING countries c WHERE c.code = a.country AND c.region = 'Europe';
DELETE FROM days WHERE d < '2024-03-01';
DELETE FROM prices WHERE p IN (1, 'NaN');
DELETE FROM stamps WHERE at IS NULL OR n > 15;
DELETE FROM labels WHERE c = 'l3';
DELETE FROM docs WHERE id IN (SELECT u FROM items) OR body IS NULL;
DELETE FROM bigs WHERE id % 2 = 0 AND v IS NULL;
DELETE FROM smalls WHERE id = 3 OR v = 'v1';
-- @error(22012)
DELETE FROM items WHERE 1 / (id - 15) = 5;
-- @error(42703)
DELETE FROM items WHERE nothing = 1;
DELETE FROM events;
SELECT count(*) FROM events;
DELETE FROM items RETURNING id;
SELECT count(*) FROM items;
INSERT INTO items (id) VALUES (5);
DELETE FROM countries;
