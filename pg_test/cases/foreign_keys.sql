-- Foreign keys between colocated tables and to reference tables.

-- @error(23503)
INSERT INTO order_lines (tenant_id, order_id, line) VALUES (1, 12345, 1);
INSERT INTO orders (tenant_id, order_id) VALUES (1, 12345);
INSERT INTO order_lines (tenant_id, order_id, line, product_id) VALUES (1, 12345, 1, 5), (1, 12345, 2, NULL);
DELETE FROM orders WHERE tenant_id = 1 AND order_id = 12345;
SELECT count(*) FROM order_lines WHERE order_id = 12345;
UPDATE orders SET order_id = order_id + 1000 WHERE tenant_id = 2;
SELECT order_id, line FROM order_lines WHERE tenant_id = 2;
UPDATE orders SET tenant_id = 20 WHERE tenant_id = 3;
SELECT tenant_id, count(*) FROM order_lines GROUP BY tenant_id;
-- @error(23503)
DELETE FROM products WHERE id IN (SELECT product_id FROM order_lines);
-- @error(23503)
UPDATE products SET id = id + 100 WHERE id = 5;
BEGIN;
INSERT INTO products (id, name) VALUES (99, 'new');
INSERT INTO order_lines (tenant_id, order_id, line, product_id) SELECT tenant_id, order_id, 9, 99 FROM orders WHERE tenant_id = 4;
COMMIT;
SELECT count(*) FROM order_lines WHERE product_id = 99;
-- @error(23503)
DELETE FROM products WHERE id = 99;
DELETE FROM order_lines WHERE product_id = 99;
DELETE FROM products WHERE id = 99;

-- made after distribution; other actions; deferred
CREATE TABLE parents (id int PRIMARY KEY, name text);
CREATE TABLE children (id int, n int, parent int, PRIMARY KEY (id, n));
-- @distribute(parents, id, 4)
-- @distribute(children, id, 4, parents)
ALTER TABLE children ADD FOREIGN KEY (id) REFERENCES parents ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED;
INSERT INTO parents SELECT i, 'p' || i FROM generate_series(1, 10) i;
INSERT INTO children SELECT i, n, NULL FROM generate_series(1, 10) i, generate_series(1, 2) n;
DELETE FROM parents WHERE id IN (3, 4);
SELECT count(*) FROM children;
BEGIN;
INSERT INTO children VALUES (50, 1, NULL);
INSERT INTO parents VALUES (50, 'late');
COMMIT;
SELECT * FROM children WHERE id = 50;
BEGIN;
INSERT INTO children VALUES (60, 1, NULL), (61, 1, NULL);
-- @error(23503)
COMMIT;
SELECT count(*) FROM children WHERE id >= 60;
BEGIN;
SET CONSTRAINTS ALL IMMEDIATE;
-- @error(23503)
INSERT INTO children VALUES (60, 1, NULL);
ROLLBACK;
CREATE TABLE ref_parent (id int PRIMARY KEY, v text);
CREATE TABLE dist_child (k int PRIMARY KEY, ref int DEFAULT 1 REFERENCES ref_parent ON DELETE SET NULL ON UPDATE CASCADE);
INSERT INTO ref_parent VALUES (1, 'a'), (2, 'b'), (3, 'c');
INSERT INTO dist_child SELECT i, 1 + i % 3 FROM generate_series(1, 12) i;
-- @replicate(ref_parent)
-- @distribute(dist_child, k, 4)
DELETE FROM ref_parent WHERE id = 2;
SELECT * FROM dist_child;
UPDATE ref_parent SET id = 30 WHERE id = 3;
SELECT * FROM dist_child;
-- @error(23503)
UPDATE dist_child SET ref = 2 WHERE k = 1;
UPDATE dist_child SET ref = NULL WHERE k = 1;
SELECT c.k, p.v FROM dist_child c LEFT JOIN ref_parent p ON p.id = c.ref;
-- a reference table that refers to another
CREATE TABLE ref_child (id int PRIMARY KEY, parent int REFERENCES ref_parent);
-- @replicate(ref_child)
INSERT INTO ref_child VALUES (1, 1), (2, 30);
-- @error(23503)
INSERT INTO ref_child VALUES (3, 99);
-- @error(23503)
DELETE FROM ref_parent WHERE id = 30;
-- a distributed table that refers to itself
CREATE TABLE tree (t int, id int, up int, PRIMARY KEY (t, id), FOREIGN KEY (t, up) REFERENCES tree ON DELETE CASCADE);
INSERT INTO tree SELECT t, id, nullif(id / 2, 0) FROM generate_series(1, 5) t, generate_series(1, 7) id;
-- @distribute(tree, t, 4)
DELETE FROM tree WHERE id = 2 AND t < 4;
SELECT * FROM tree;
-- @error(23503)
INSERT INTO tree VALUES (1, 20, 2);
WITH RECURSIVE down AS (SELECT t, id FROM tree WHERE id = 3 UNION ALL SELECT c.t, c.id FROM down d JOIN tree c ON c.t = d.t AND c.up = d.id) SELECT * FROM down;
