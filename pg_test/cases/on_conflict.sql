-- INSERT ... ON CONFLICT.

INSERT INTO items (id, k) VALUES (5, 99) ON CONFLICT DO NOTHING;
INSERT INTO items (id, k) VALUES (5, 99), (101, 1), (6, 99), (102, 2) ON CONFLICT (id) DO NOTHING RETURNING id, k;
INSERT INTO items (id, k) VALUES (5, 99) ON CONFLICT (id) DO UPDATE SET k = excluded.k RETURNING id, k;
INSERT INTO items (id, k, txt) VALUES (7, 1, 'x'), (103, 2, 'y'), (8, NULL, NULL)
    ON CONFLICT (id) DO UPDATE SET k = coalesce(items.k, 0) + coalesce(excluded.k, 100), txt = items.txt || '/' || excluded.txt RETURNING id, k, txt;
INSERT INTO items (id, k) VALUES (9, 1), (10, 1), (11, 1) ON CONFLICT (id) DO UPDATE SET k = 1000 WHERE items.k > 0 RETURNING id;
INSERT INTO items (id, k) VALUES (12, 5) ON CONFLICT ON CONSTRAINT items_pkey DO UPDATE SET k = excluded.k;
INSERT INTO items AS i (id, k) VALUES (13, 5) ON CONFLICT (id) DO UPDATE SET k = i.k * 10, (txt, vc) = ('multi', 'set') RETURNING i.k, txt, vc;
INSERT INTO items (id, k) VALUES (14, 5) ON CONFLICT (id) DO UPDATE SET k = (SELECT max(seq) FROM events WHERE item_id = excluded.id);
INSERT INTO items (id, k) VALUES (15, 5) ON CONFLICT (id) DO UPDATE SET k = DEFAULT;
INSERT INTO items (id, k) SELECT id, 7 FROM items WHERE id < 20 ON CONFLICT (id) DO UPDATE SET small = excluded.k;
INSERT INTO items (id, k) SELECT item_id, count(*) FROM events WHERE item_id IS NOT NULL GROUP BY item_id ON CONFLICT (id) DO UPDATE SET k = excluded.k RETURNING id, k;
INSERT INTO items (id, k) SELECT id, id FROM products ON CONFLICT (id) DO NOTHING;
INSERT INTO items (id, txt) SELECT item_id, max(word) FROM loc WHERE item_id IS NOT NULL GROUP BY 1 ON CONFLICT (id) DO UPDATE SET txt = excluded.txt;
INSERT INTO events (item_id, seq, amount) VALUES (8, 1, 1.5), (8, 1, 1.5) ON CONFLICT (item_id, seq) DO NOTHING;
INSERT INTO events (item_id, seq, amount) VALUES (NULL, 1, 1.5), (NULL, 1, 2.5) ON CONFLICT (item_id, seq) DO UPDATE SET amount = 0;
INSERT INTO events (item_id, seq, amount) VALUES (8, 1, 5), (9, 2, 6) ON CONFLICT (seq, item_id) DO UPDATE SET amount = events.amount + excluded.amount RETURNING item_id, seq, amount;
INSERT INTO accounts (code, balance) VALUES ('acc9', 1), ('', 2), ('new', 3) ON CONFLICT (code) DO UPDATE SET balance = accounts.balance + excluded.balance RETURNING *;
INSERT INTO orders (tenant_id, order_id, total) VALUES (2, 1, 500), (2, 1000, 5) ON CONFLICT (tenant_id, order_id) DO UPDATE SET total = excluded.total, placed = NULL RETURNING tenant_id, order_id, total, placed;
INSERT INTO products (id, name) VALUES (1, 'again'), (100, 'new') ON CONFLICT (id) DO UPDATE SET name = excluded.name, price = products.price * 2 RETURNING id, name, price;
INSERT INTO products (id, name) VALUES (1, 'no'), (101, 'yes') ON CONFLICT DO NOTHING RETURNING id;
INSERT INTO products (id, name) SELECT id, txt FROM items WHERE id BETWEEN 15 AND 25 AND txt IS NOT NULL ON CONFLICT (id) DO UPDATE SET category = excluded.name;
INSERT INTO loc (id, word) SELECT id, txt FROM items WHERE id < 30 ON CONFLICT (id) DO UPDATE SET word = excluded.word RETURNING id, word;
INSERT INTO bigs VALUES (5, 100), (6, 100) ON CONFLICT (id) DO UPDATE SET v = bigs.v + 100;
WITH up AS (INSERT INTO items (id, k) VALUES (20, 1), (301, 1) ON CONFLICT (id) DO UPDATE SET k = 0 RETURNING id, k) SELECT * FROM up;
PREPARE upsert (int, int) AS INSERT INTO items (id, k) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET k = items.k + $2 RETURNING k;
-- @repeat(7)
EXECUTE upsert (302, 1);
-- @error(21000)
INSERT INTO items (id, k) VALUES (400, 1), (400, 2) ON CONFLICT (id) DO UPDATE SET k = excluded.k;
-- @error(42P10)
INSERT INTO items (id, k) VALUES (5, 1) ON CONFLICT (k) DO NOTHING;
-- @error(42704)
INSERT INTO items (id, k) VALUES (5, 1) ON CONFLICT ON CONSTRAINT nothing DO NOTHING;
-- @error(42P10)
INSERT INTO prices VALUES (1, 'x', 1) ON CONFLICT (p) DO NOTHING;
-- @error(23514)
INSERT INTO orders (tenant_id, order_id, total) VALUES (2, 1, 0) ON CONFLICT (tenant_id, order_id) DO UPDATE SET total = -1;
-- @error(42601)
INSERT INTO items (id, k) VALUES (5, 1) ON CONFLICT DO UPDATE SET k = 1;
CREATE UNIQUE INDEX items_partial ON items (id, k) WHERE ok;
INSERT INTO items (id, k, ok) VALUES (501, 1, true) ON CONFLICT (id, k) WHERE ok DO NOTHING;
-- as on any partitioned table: the row would move
BEGIN;
-- @may-refuse
INSERT INTO items (id, k, ok) VALUES (501, 1, true) ON CONFLICT (id) DO UPDATE SET id = 502, txt = 'moved key';
ROLLBACK;
SELECT id, txt FROM items WHERE id > 500;
