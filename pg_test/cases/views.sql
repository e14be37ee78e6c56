-- Views: simple, joined, aggregated, updatable, with check option, security barrier; rules.

SELECT * FROM item_names WHERE id = 8;
SELECT * FROM item_names WHERE name = 'apple';
SELECT feel, count(*) FROM item_names GROUP BY feel;
SELECT * FROM order_totals;
SELECT * FROM order_totals WHERE tenant_id = 3;
SELECT sum(amount) FROM order_totals WHERE lines > 1;
SELECT o.note, t.amount FROM orders o JOIN order_totals t USING (tenant_id, order_id) WHERE o.note IS NOT NULL;
CREATE VIEW joined AS SELECT i.id, i.k, e.seq, e.amount, p.name FROM items i JOIN events e ON e.item_id = i.id LEFT JOIN products p ON p.id = i.k;
SELECT * FROM joined;
SELECT id, count(*), sum(amount) FROM joined WHERE id < 30 GROUP BY id;
SELECT * FROM joined WHERE id = 8;
CREATE VIEW ranked AS SELECT id, k, rank() OVER (PARTITION BY k ORDER BY price DESC NULLS LAST, id) AS r FROM items;
SELECT * FROM ranked WHERE r = 1;
SELECT * FROM ranked WHERE id = 20;
CREATE VIEW unions AS SELECT id, 'item' AS what FROM items UNION ALL SELECT id, 'product' FROM products UNION ALL SELECT id, 'loc' FROM loc;
SELECT what, count(*) FROM unions GROUP BY what;
SELECT * FROM unions WHERE id = 7;
CREATE VIEW deep AS SELECT n.id, n.name, r.r FROM item_names n JOIN ranked r USING (id) WHERE r.r < 3;
SELECT * FROM deep WHERE id > 30;
CREATE RECURSIVE VIEW steps (n) AS SELECT 1 UNION ALL SELECT n + 1 FROM steps WHERE n < 5;
SELECT s.n, i.k FROM steps s JOIN items i ON i.id = s.n;
CREATE VIEW of_limit AS SELECT id FROM items ORDER BY id DESC LIMIT 5;
SELECT * FROM of_limit WHERE id < 59;

-- updatable
CREATE VIEW threes AS SELECT id, k, txt, price FROM items WHERE k = 3;
INSERT INTO threes (id, k, txt) VALUES (101, 3, 'three'), (102, 4, 'not seen');
UPDATE threes SET txt = 'via view' WHERE id IN (3, 101, 4);
UPDATE threes SET price = price + 1;
DELETE FROM threes WHERE id = 13 RETURNING *;
SELECT id, k, txt FROM items WHERE id IN (3, 4, 13, 101, 102);
CREATE VIEW checked AS SELECT id, k, txt FROM items WHERE k = 5 WITH CHECK OPTION;
INSERT INTO checked VALUES (103, 5, 'five');
-- @error(44000)
INSERT INTO checked VALUES (104, 6, 'six');
-- @error(44000)
UPDATE checked SET k = 6 WHERE id = 103;
UPDATE checked SET txt = 'still five' WHERE id = 103;
CREATE VIEW barrier WITH (security_barrier) AS SELECT id, k, txt FROM items WHERE id % 2 = 0;
SELECT count(*) FROM barrier;
SELECT * FROM barrier WHERE id IN (7, 8);
SELECT * FROM barrier WHERE id = 7;
UPDATE barrier SET txt = 'even' WHERE id IN (7, 8) RETURNING id;
DELETE FROM barrier WHERE id IN (11, 12);
CREATE VIEW renamed (a, b) AS SELECT id, k + 1 FROM items;
SELECT a, b FROM renamed WHERE a = 6;
UPDATE renamed SET a = 600 WHERE a = 6;
-- @error(0A000)
UPDATE renamed SET b = 1;
-- @error(55000)
INSERT INTO order_totals (tenant_id) VALUES (1);
CREATE VIEW ref_view AS SELECT id, name, price FROM products WHERE NOT gone;
UPDATE ref_view SET price = 1.11 WHERE id IN (6, 7);
INSERT INTO ref_view VALUES (30, 'thirty', 30);
DELETE FROM ref_view WHERE id = 30;

-- INSTEAD OF
CREATE FUNCTION redirect() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO items (id, txt) VALUES (NEW.tenant_id + 700, NEW.customer);
    RETURN NEW;
END $$;
CREATE TRIGGER instead INSTEAD OF INSERT ON order_totals FOR EACH ROW EXECUTE FUNCTION redirect();
INSERT INTO order_totals (tenant_id, customer) VALUES (1, 'a'), (2, 'b');
SELECT id, txt FROM items WHERE id > 700;
CREATE VIEW ruled AS SELECT code, balance FROM accounts;
CREATE RULE ruled_update AS ON UPDATE TO ruled DO INSTEAD UPDATE accounts SET balance = NEW.balance, owner = 'rule' WHERE code = OLD.code;
UPDATE ruled SET balance = balance + 100 WHERE code IN ('acc9', 'acc10');
SELECT code, owner, balance FROM accounts WHERE owner = 'rule';

-- changes
CREATE OR REPLACE VIEW threes AS SELECT id, k, txt, price, feel FROM items WHERE k = 3;
SELECT * FROM threes;
ALTER VIEW threes RENAME TO threes2;
SELECT count(*) FROM threes2;
DROP VIEW threes2;
-- @error(2BP01)
DROP VIEW ranked;
DROP VIEW ranked CASCADE;
-- @error(42P01)
SELECT * FROM deep;

-- a column that was renamed since: the view's own query knows it by its old name
CREATE VIEW kinds AS SELECT id, k AS kind FROM items;
ALTER TABLE items RENAME k TO renamed;
SELECT * FROM kinds WHERE id = 8;
SELECT kind, count(*) FROM kinds GROUP BY kind;
ALTER TABLE items RENAME renamed TO k;
SELECT * FROM kinds WHERE id = 8;
