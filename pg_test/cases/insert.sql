-- INSERT in all its forms.

INSERT INTO items (id) VALUES (101);
INSERT INTO items (id, k, txt, feel, pt) VALUES (102, 2, 'two', 'sad', ROW(1, 2, 'x'));
INSERT INTO items (txt, id) VALUES ('swapped', 103);
INSERT INTO items VALUES (104, 1, 2, 3);
INSERT INTO items (id, k) VALUES (105, DEFAULT), (106, NULL), (107, 7), (108, 8), (109, 9), (110, 10), (111, 11), (112, 12);
INSERT INTO items (id, k) VALUES (113, (SELECT max(k) FROM items)), (114, (SELECT count(*) FROM events));
INSERT INTO items (id, ints[1], ints[3], pt.x, pt.label) VALUES (115, 1, 3, 5, 'parts');
INSERT INTO items (id, price, pct, free) VALUES (116, 1.23456, 12.345, 1e-30), (117, 1e6, '50', 'NaN');
INSERT INTO items AS new (id, k) VALUES (118, 1) RETURNING new.id, new.k + 1 AS k1;
INSERT INTO items (id, k) SELECT 119, 19;
INSERT INTO items (id, k) SELECT i, i % 7 FROM generate_series(120, 160) i;
INSERT INTO items (id, k) SELECT i, NULL FROM generate_series(161, 170) i WHERE i % 2 = 0 RETURNING id;
INSERT INTO items (id, k, txt) SELECT id + 200, k, txt FROM items WHERE id <= 20;
INSERT INTO items (id, k) SELECT item_id + 1000, count(*) FROM events WHERE item_id IS NOT NULL GROUP BY item_id;
INSERT INTO items (id, txt) SELECT id + 2000, name FROM products;
INSERT INTO items (id, txt) SELECT id + 3000, word FROM loc ORDER BY id LIMIT 5;
INSERT INTO items (id, k) WITH x AS (SELECT 4000 AS i) SELECT i, 1 FROM x;
INSERT INTO items (id, k) VALUES (4001, 1) RETURNING *;
INSERT INTO items (id, txt) TABLE empty_local;
INSERT INTO items (id, k) SELECT id, k FROM items WHERE false;
INSERT INTO items (id) VALUES (5000 + 1), ('5002'), (5003.4), (5004::int8), (length('abc') + 5002);
SELECT id, k, txt, ints, pt, price, pct, free FROM items WHERE id BETWEEN 101 AND 120;
SELECT count(*), sum(id), sum(k) FROM items;

-- colocated, other key types, other tables
INSERT INTO events (item_id, seq, amount) SELECT id, 10000 + id, price FROM items WHERE id < 30;
INSERT INTO events (item_id, seq, amount) SELECT k, 20000 + id, price FROM items WHERE id < 30;
INSERT INTO events SELECT item_id, seq + 30000, kind, amount, score, at, note, tags FROM events WHERE seq < 20;
INSERT INTO events (item_id, seq) SELECT i.id, 40000 + e.seq FROM items i JOIN events e ON e.item_id = i.id WHERE e.seq < 20;
INSERT INTO events (item_id, seq, note) VALUES (1, 50000, DEFAULT), (2, 50000, NULL);
-- @error(23502)
INSERT INTO events DEFAULT VALUES;
INSERT INTO loc (id, item_id, word) SELECT id + 100, id, txt FROM items WHERE id < 6;
INSERT INTO words SELECT txt, id FROM items WHERE k = 3;
INSERT INTO empty_local SELECT item_id, note FROM events WHERE seq < 30 RETURNING id;
INSERT INTO bigs (id, v) SELECT id * 100000000000, k FROM items WHERE id < 10;
INSERT INTO smalls SELECT id, txt FROM items WHERE id < 10;
INSERT INTO prices SELECT price, txt, id FROM items WHERE id < 10;
INSERT INTO days SELECT d, id, txt FROM items WHERE id < 20;
INSERT INTO docs (id, title) SELECT u, min(txt) FROM items WHERE u IS NOT NULL AND id BETWEEN 31 AND 40 GROUP BY u;
INSERT INTO accounts (code, balance) SELECT 'new ' || id, id FROM products RETURNING code, balance, owner;
INSERT INTO orders (tenant_id, order_id) VALUES (1, 900), (2, 900), (3, 900) RETURNING tenant_id, status;
INSERT INTO order_lines (tenant_id, order_id, line) VALUES (1, 900, 1), (2, 900, 1), (2, 900, 2);

-- what must fail, leaving nothing
-- @error(23505)
INSERT INTO items (id) VALUES (6001), (6002), (6003), (5), (6004);
-- @error(23505)
INSERT INTO items (id) VALUES (6005), (6005);
-- @error(23505)
INSERT INTO items (id) SELECT i FROM generate_series(6000, 6100) i UNION ALL SELECT 7;
-- @error(23502)
INSERT INTO orders (tenant_id, order_id, status) VALUES (1, 901, 'ok'), (2, 901, NULL);
-- @error(23514)
INSERT INTO orders (tenant_id, order_id, total) VALUES (1, 902, 1), (2, 902, -1);
-- @error(23514)
INSERT INTO order_lines (tenant_id, order_id, line, qty) VALUES (1, 900, 5, 0);
-- @error(23503)
INSERT INTO order_lines (tenant_id, order_id, line) VALUES (1, 900, 7), (3, 999, 1);
-- @error(23503)
INSERT INTO order_lines (tenant_id, order_id, line, product_id) VALUES (1, 900, 8, 999);
-- @error(22P02)
INSERT INTO items (id, k) VALUES (6010, 1), (6011, 'x');
-- @error(22P02)
INSERT INTO items (id, feel) VALUES (6012, 'nothing');
-- @error(22012)
INSERT INTO items (id, k) SELECT i, 1 / (i - 6020) FROM generate_series(6013, 6022) i;
-- @error(23514)
INSERT INTO items (id, pct) VALUES (6030, 10), (6031, 500.5);
-- @error(22003)
INSERT INTO items (id) VALUES (3000000000);
-- @error(42703)
INSERT INTO items (nothing) VALUES (1);
-- @error(42601)
INSERT INTO items (id, k) VALUES (1);
-- @error(42601)
INSERT INTO items (id) VALUES (1, 2);
-- @error(42804)
INSERT INTO items (id, ints) VALUES (6040, '{1}'::text[]);
SELECT count(*) FROM items WHERE id >= 6000;
SELECT count(*) FROM order_lines WHERE order_id = 900;

-- a quarter of a million rows are not needed to make several batches
INSERT INTO items (id, k, txt) SELECT i, i % 100, 'row ' || i FROM generate_series(10001, 14000) i;
SELECT count(*), sum(id), count(DISTINCT k), max(txt) FROM items WHERE id > 10000;
INSERT INTO events (item_id, seq) SELECT id, id FROM items WHERE id > 10000;
SELECT count(*) FROM items i JOIN events e ON e.item_id = i.id AND e.seq = i.id;
INSERT INTO items (id) SELECT id + 10000 FROM items WHERE id > 12000;
SELECT count(*), min(id), max(id) FROM items WHERE id > 20000;
