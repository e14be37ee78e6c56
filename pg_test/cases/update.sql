-- UPDATE with everything in it.

UPDATE items SET k = 100 WHERE id = 5;
UPDATE items SET k = k + 1, txt = upper(txt) WHERE id IN (6, 7, 8) RETURNING id, k, txt;
UPDATE items SET k = NULL WHERE id = 1000;
UPDATE items SET small = small + 1;
UPDATE items SET price = price * 1.1 WHERE k = 3;
UPDATE items SET ok = NOT ok WHERE ok IS NOT NULL RETURNING id, ok;
UPDATE items SET k = id, id = id WHERE id = 9 RETURNING id, k;
UPDATE items SET (k, txt) = (1, 'both') WHERE id = 10;
UPDATE items SET (k, txt) = ROW(2, 'row') WHERE id = 11;
UPDATE items SET (k, txt) = (SELECT seq, note FROM events WHERE seq = 3) WHERE id = 12 RETURNING k, txt;
UPDATE items SET k = DEFAULT, feel = DEFAULT WHERE id = 13 RETURNING k, feel;
UPDATE items SET k = (SELECT count(*) FROM events e WHERE e.item_id = items.id);
UPDATE items SET txt = (SELECT name FROM products p WHERE p.id = items.id) WHERE id < 25;
UPDATE items SET txt = (SELECT word FROM loc l WHERE l.item_id = items.id ORDER BY l.id LIMIT 1) WHERE id BETWEEN 20 AND 40;
UPDATE items SET small = 5 WHERE id IN (SELECT item_id FROM events WHERE kind = 'sad');
UPDATE items SET small = 6 WHERE id IN (SELECT item_id FROM loc);
UPDATE items SET small = 7 WHERE NOT EXISTS (SELECT 1 FROM events e WHERE e.item_id = items.id);
UPDATE items SET small = 8 WHERE price > (SELECT avg(price) FROM items);
UPDATE items SET small = 9 WHERE id = (SELECT max(id) FROM items) RETURNING id;
UPDATE items SET vc = 'f' || e.seq FROM events e WHERE e.item_id = items.id AND e.kind = 'happy' AND e.seq = (SELECT max(seq) FROM events x WHERE x.item_id = items.id);
UPDATE items AS i SET vc = p.category FROM products p WHERE p.id = i.id RETURNING i.id, p.name, i.vc;
UPDATE items i SET vc = l.word FROM loc l WHERE l.item_id = i.id AND l.id = (SELECT min(id) FROM loc y WHERE y.item_id = i.id) RETURNING i.id, l.id;
UPDATE items a SET k = b.k FROM items b WHERE b.id = a.id + 1 RETURNING a.id, a.k;
UPDATE items a SET k = b.c FROM (SELECT item_id, count(*) AS c FROM events GROUP BY item_id) b WHERE b.item_id = a.id AND a.id < 30;
UPDATE items i SET ch = v.c FROM (VALUES (1, 'one'), (2, 'two'), (99, 'none')) v (id, c) WHERE v.id = i.id RETURNING i.*;
UPDATE items i SET k = g FROM generate_series(1, 5) g WHERE g = i.id;
UPDATE items i SET txt = x.t FROM items y JOIN LATERAL (SELECT max(note) AS t FROM events e WHERE e.item_id = y.id) x ON true WHERE y.id = i.id AND i.id < 15;
UPDATE events SET amount = i.price FROM items i WHERE i.id = events.item_id AND i.k = 3;
UPDATE events SET note = i.txt FROM items i WHERE i.id = events.seq;
UPDATE events SET note = o.customer FROM orders o WHERE o.order_id = events.seq AND o.tenant_id = 3 RETURNING seq, events.note;
UPDATE events SET amount = amount * 2, score = -score, tags = tags || 'new'::text WHERE item_id IN (8, 15, 22) RETURNING *;
UPDATE events SET note = NULL WHERE item_id IS NULL;
WITH x AS (SELECT id FROM items WHERE k = 1) UPDATE items SET txt = 'cte' FROM x WHERE x.id = items.id RETURNING items.id;
UPDATE products SET price = price + 1 WHERE id < 5 RETURNING id, price;
UPDATE products p SET category = x.c FROM (SELECT product_id, count(*)::text AS c FROM order_lines GROUP BY product_id) x WHERE x.product_id = p.id;
UPDATE products SET name = (SELECT max(txt) FROM items WHERE items.id <= products.id) || '!' WHERE id IN (1, 2, 4);
UPDATE loc SET word = i.txt FROM items i WHERE i.id = loc.item_id RETURNING loc.id, i.id;
UPDATE loc SET amt = (SELECT count(*) FROM events e WHERE e.item_id = loc.item_id);
UPDATE loc SET amt = 0 WHERE item_id IN (SELECT id FROM items WHERE ok);
UPDATE accounts SET balance = balance - 10 WHERE code = 'acc9';
UPDATE accounts SET balance = balance * 2, owner = NULL WHERE balance > 200;
UPDATE accounts a SET owner = c.name FROM countries c WHERE c.code = a.country RETURNING a.code, a.owner;
UPDATE orders SET total = (SELECT sum(qty * price) FROM order_lines l WHERE l.tenant_id = orders.tenant_id AND l.order_id = orders.order_id) WHERE tenant_id IN (2, 3);
UPDATE orders o SET note = 'big' FROM order_lines l WHERE l.tenant_id = o.tenant_id AND l.order_id = o.order_id AND l.qty = 4 AND l.line = 1;
UPDATE orders SET note = 'tenant 4' WHERE tenant_id = 4 RETURNING order_id;
UPDATE order_lines SET qty = -qty WHERE tenant_id = 5 AND line = 1;
UPDATE order_lines SET product_id = NULL WHERE product_id > 15;
UPDATE prices SET n = n + 1 WHERE p = 1;
UPDATE days SET what = 'leap day' WHERE d = '2024-02-29';
UPDATE bigs SET other = id WHERE id < 0;
UPDATE docs SET body = jsonb_set(body, '{words}', '0') WHERE body ->> 'words' > '5' RETURNING title, body;

-- changing the shard key
UPDATE items SET id = 1001 WHERE id = 1 RETURNING id, txt;
UPDATE items SET id = id + 5000 WHERE id BETWEEN 20 AND 30;
UPDATE items SET id = -id WHERE k = 3 RETURNING id;
UPDATE items SET id = id + 1 WHERE id = 60;
-- @error(23505)
UPDATE items SET id = (SELECT max(id) FROM items) WHERE id = (SELECT min(id) FROM items);
-- @error(23502)
UPDATE items SET id = NULL WHERE id = (SELECT min(id) FROM items);
UPDATE events SET item_id = 77 WHERE seq = 1 RETURNING item_id;
UPDATE events SET item_id = item_id + 1 WHERE item_id < 20;
UPDATE events SET item_id = i.k FROM items i WHERE i.id = events.item_id AND i.k IS NOT NULL AND events.seq < 60;
UPDATE accounts SET code = code || '!' WHERE code LIKE 'acc1%';
UPDATE days SET d = d + 1 WHERE d < 'infinity' AND d > '2000-01-01';
BEGIN;
-- @may-refuse
UPDATE orders SET tenant_id = 50 WHERE tenant_id = 9 RETURNING tenant_id, order_id;
ROLLBACK;
UPDATE items SET id = id WHERE id < 10;
SELECT id, txt FROM items WHERE id < 0 OR id > 1000;

-- what must fail
-- @error(22012)
UPDATE items SET k = 1 / (id - 45);
-- @error(23514)
UPDATE orders SET total = total - 500;
-- @error(23503)
UPDATE order_lines SET product_id = 500 WHERE line = 1;
-- @error(42703)
UPDATE items SET nothing = 1;
-- @error(21000)
UPDATE items SET k = (SELECT seq FROM events e WHERE e.item_id IS NOT NULL);
-- @error(42601)
UPDATE items SET k = 1, k = 2;
-- @error(42803)
UPDATE items SET k = max(id);
SELECT sum(k), count(*) FROM items;
