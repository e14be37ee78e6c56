-- Privileges, row level security, security barriers, leaky functions.

-- @everywhere
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'case_alice') THEN CREATE ROLE case_alice LOGIN; END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'case_bob') THEN CREATE ROLE case_bob LOGIN; END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'case_group') THEN CREATE ROLE case_group; GRANT case_group TO case_bob; END IF;
END $$;
-- @end
CREATE TABLE secrets (tenant int, id int, owner text, body text, level int, PRIMARY KEY (tenant, id));
INSERT INTO secrets SELECT i % 5, i, CASE WHEN i % 4 > 0 THEN (ARRAY['case_alice', 'case_bob', 'case_carol'])[1 + i % 3] END, 'body ' || i, i % 4
FROM generate_series(1, 40) i;
ALTER TABLE secrets ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON secrets FOR SELECT TO case_alice, case_bob USING (owner = current_user);
CREATE POLICY low ON secrets FOR SELECT TO case_group USING (level = 0);
GRANT SELECT, INSERT, UPDATE, DELETE ON secrets TO case_alice, case_bob;
-- @distribute(secrets, tenant, 4)
SELECT count(*) FROM secrets;

-- privileges
SET ROLE case_alice;
-- @error(42501)
SELECT count(*) FROM items;
-- @error(42501)
SELECT * FROM items WHERE id = 5;
-- @error(42501)
INSERT INTO items (id) VALUES (101);
-- @error(42501)
UPDATE items SET k = 1 WHERE id = 5;
-- @error(42501)
DELETE FROM items WHERE id = 5;
-- @error(42501)
TRUNCATE items;
-- @error(42501)
COPY items TO STDOUT;
-- @error(42501)
SELECT 1 FROM products;
-- @error(42501)
UPDATE products SET price = 1;
-- @error(42501)
ALTER TABLE items ADD COLUMN x int;
-- @error(42501)
DROP TABLE items;
-- @error(42501)
CREATE INDEX ON items (k);
RESET ROLE;
GRANT SELECT ON items, products TO case_alice;
GRANT SELECT (item_id, seq), UPDATE (amount) ON events TO case_alice;
SET ROLE case_alice;
SELECT count(*) FROM items;
SELECT id, k FROM items WHERE id = 5;
SELECT i.id, p.id FROM items i JOIN products p ON p.id = i.id WHERE i.k = 3;
-- @error(42501)
SELECT id FROM items WHERE id = 5 FOR UPDATE;
-- @error(42501)
UPDATE items SET k = 1 WHERE id = 5;
SELECT item_id, seq FROM events WHERE item_id = 8;
-- @error(42501)
SELECT item_id, amount FROM events WHERE item_id = 8;
-- @error(42501)
SELECT count(*) FROM events WHERE amount > 5;
-- @error(42501)
SELECT * FROM events;
SELECT count(*) FROM events;
UPDATE events SET amount = 1 WHERE item_id = 8;
-- @error(42501)
UPDATE events SET amount = amount + 1 WHERE item_id = 8;
-- @error(42501)
UPDATE events SET note = 'x' WHERE item_id = 8;
-- @error(42501)
SELECT i.id, e.amount FROM items i JOIN events e ON e.item_id = i.id;
-- @error(42501)
SELECT i.id FROM items i, accounts a;
-- @error(42501)
INSERT INTO secrets SELECT id, id FROM bigs;
-- @error(42501)
SELECT * FROM order_totals;
RESET ROLE;
GRANT SELECT ON order_totals TO case_alice;
SET ROLE case_alice;
SELECT * FROM order_totals WHERE tenant_id = 3;
SELECT count(*) FROM order_totals;
-- @error(42501)
SELECT count(*) FROM orders;
RESET ROLE;
REVOKE SELECT ON items FROM case_alice;
SET ROLE case_alice;
-- @error(42501)
SELECT count(*) FROM items;
RESET ROLE;
GRANT INSERT, UPDATE, DELETE, SELECT ON items, products TO case_bob WITH GRANT OPTION;
SET ROLE case_bob;
INSERT INTO items (id, k) VALUES (101, 1) RETURNING k;
UPDATE products SET price = 1 WHERE id = 1;
DELETE FROM items WHERE id = 101;
GRANT SELECT ON items TO case_alice;
RESET ROLE;
SET ROLE case_alice;
SELECT count(*) FROM items;
RESET ROLE;
REVOKE ALL ON items FROM case_bob CASCADE;
SET ROLE case_alice;
-- @error(42501)
SELECT count(*) FROM items;
RESET ROLE;

-- rows of one's own
SET ROLE case_alice;
SELECT tenant, id, owner FROM secrets;
SELECT id FROM secrets WHERE tenant = 1;
SELECT count(*), sum(level) FROM secrets;
SELECT id FROM secrets WHERE tenant = 1 AND id IN (1, 11, 21, 31);
SELECT s.id, p.name FROM secrets s JOIN products p ON p.id = s.id;
SELECT p.id, s.id FROM products p LEFT JOIN secrets s ON s.id = p.id;
SELECT id FROM products p WHERE NOT EXISTS (SELECT 1 FROM secrets s WHERE s.id = p.id);
SELECT count(*) FROM products WHERE id IN (SELECT id FROM secrets);
SELECT count(*) FROM (SELECT tenant, id FROM secrets UNION SELECT id, id FROM products) s;
-- @error(42501)
INSERT INTO secrets VALUES (1, 100, 'case_alice', 'new', 0);
UPDATE secrets SET body = 'changed';
DELETE FROM secrets;
RESET ROLE;
SELECT count(*) FROM secrets WHERE body = 'changed';
CREATE POLICY write_own ON secrets FOR INSERT TO case_alice WITH CHECK (owner = current_user AND level < 3);
CREATE POLICY change_own ON secrets FOR UPDATE TO case_alice USING (owner = current_user) WITH CHECK (level < 3);
CREATE POLICY delete_low ON secrets FOR DELETE TO case_alice USING (level = 1);
SET ROLE case_alice;
INSERT INTO secrets VALUES (1, 101, 'case_alice', 'new', 0), (2, 102, 'case_alice', 'new', 1) RETURNING *;
-- @error(42501)
INSERT INTO secrets VALUES (1, 103, 'case_alice', 'new', 0), (2, 104, 'case_bob', 'new', 1);
-- @error(42501)
INSERT INTO secrets VALUES (1, 105, 'case_alice', 'new', 3);
-- @error(42501)
INSERT INTO secrets SELECT tenant, id + 200, 'case_bob', body, 0 FROM secrets;
UPDATE secrets SET body = 'mine', level = 1 RETURNING tenant, id;
UPDATE secrets SET body = 'one' WHERE tenant = 1 AND id = 101 RETURNING *;
-- @error(42501)
UPDATE secrets SET level = 5 WHERE tenant = 1;
DELETE FROM secrets WHERE tenant = 2 RETURNING id;
BEGIN;
-- @may-refuse
INSERT INTO secrets VALUES (1, 101, 'case_alice', 'again', 0) ON CONFLICT (tenant, id) DO UPDATE SET body = 'upsert' RETURNING body;
ROLLBACK;
-- @error(42501)
-- @may-refuse
INSERT INTO secrets VALUES (2, 2, 'case_alice', 'again', 0) ON CONFLICT (tenant, id) DO UPDATE SET body = 'upsert' RETURNING body;
COPY secrets TO STDOUT;
COPY (SELECT id FROM secrets WHERE tenant = 1) TO STDOUT;
RESET ROLE;
SET ROLE case_bob;
SELECT tenant, id, owner, level FROM secrets;
SELECT count(*) FROM secrets WHERE tenant = 3;
RESET ROLE;
SELECT count(*), count(*) FILTER (WHERE body = 'mine') FROM secrets;

-- a leaky function must not see hidden rows
CREATE FUNCTION leak(text) RETURNS bool LANGUAGE plpgsql COST 0.0000001 AS $$
BEGIN
    IF $1 = 'body 7' THEN RAISE EXCEPTION 'leaked %', $1 USING ERRCODE = 'LEAKY'; END IF;
    RETURN true;
END $$;
GRANT EXECUTE ON FUNCTION leak(text) TO PUBLIC;
SELECT owner FROM secrets WHERE body = 'body 7';
SET ROLE case_alice;
SELECT count(*) FROM secrets WHERE leak(body);
SELECT count(*) FROM secrets WHERE leak(body) AND tenant = 2;
SELECT id FROM secrets s WHERE tenant = 2 AND id = 7 AND leak(body);
SELECT count(*) FROM secrets WHERE 1 / (id - 7) < 5;
SELECT count(*) FROM secrets WHERE tenant = 2 AND 1 / (id - 7) < 5;
UPDATE secrets SET level = 2 WHERE leak(body);
DELETE FROM secrets WHERE 1 / (id - 7) > 100;
RESET ROLE;
-- @error(LEAKY)
SELECT count(*) FROM secrets WHERE leak(body);
CREATE VIEW low_items WITH (security_barrier) AS SELECT id, txt, k FROM items WHERE k < 3;
CREATE FUNCTION leak_k(int) RETURNS bool LANGUAGE plpgsql COST 0.0000001 AS $$
BEGIN
    IF $1 >= 3 THEN RAISE EXCEPTION 'leaked %', $1; END IF;
    RETURN true;
END $$;
SELECT count(*) FROM low_items WHERE leak_k(k);
SELECT count(*) FROM low_items WHERE id = 5 AND leak_k(k);
SELECT count(*) FROM low_items WHERE 1 / (k - 3) < 0;

-- the owner, FORCE, BYPASSRLS, row_security, policies that come and go
ALTER TABLE secrets OWNER TO case_bob;
SET ROLE case_bob;
SELECT count(*) FROM secrets;
RESET ROLE;
ALTER TABLE secrets FORCE ROW LEVEL SECURITY;
SET ROLE case_bob;
SELECT count(*) FROM secrets;
RESET ROLE;
SELECT count(*) FROM secrets;
ALTER POLICY low ON secrets USING (level <= 1);
SET ROLE case_bob;
SELECT count(*) FROM secrets;
SET row_security = off;
-- @error(42501)
SELECT count(*) FROM secrets;
RESET row_security;
RESET ROLE;
PREPARE mine AS SELECT count(*) FROM secrets WHERE tenant = 1;
EXECUTE mine;
SET ROLE case_alice;
EXECUTE mine;
SET ROLE case_bob;
EXECUTE mine;
RESET ROLE;
EXECUTE mine;
CREATE POLICY not_tenant_1 ON secrets AS RESTRICTIVE TO case_alice USING (tenant <> 1);
SET ROLE case_alice;
SELECT count(*) FROM secrets;
SELECT count(*) FROM secrets WHERE tenant = 1;
RESET ROLE;
DROP POLICY own ON secrets;
SET ROLE case_alice;
SELECT count(*) FROM secrets;
RESET ROLE;
CREATE POLICY by_products ON secrets FOR SELECT TO case_alice USING (id IN (SELECT id FROM products WHERE category = 'cat1'));
SET ROLE case_alice;
SELECT tenant, id FROM secrets;
RESET ROLE;
ALTER TABLE secrets DISABLE ROW LEVEL SECURITY;
SET ROLE case_alice;
SELECT count(*) FROM secrets;
RESET ROLE;
ALTER TABLE products ENABLE ROW LEVEL SECURITY;
CREATE POLICY cheap ON products TO case_alice USING (price < 50);
GRANT SELECT, UPDATE ON products TO case_alice;
SET ROLE case_alice;
SELECT id, price FROM products;
SELECT s.id, p.id FROM secrets s JOIN products p ON p.id = s.id;
UPDATE products SET price = price * 0.5 RETURNING id;
-- @error(42501)
UPDATE products SET price = 500 WHERE id = 2;
RESET ROLE;

-- functions with the rights of their owner
CREATE FUNCTION all_items() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM t.items';
CREATE FUNCTION own_items() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM t.items';
SET ROLE case_alice;
SELECT all_items();
-- @error(42501)
SELECT own_items();
RESET ROLE;
SET SESSION AUTHORIZATION case_alice;
-- @error(42501)
SELECT count(*) FROM items;
SELECT count(*) FROM secrets;
RESET SESSION AUTHORIZATION;
ALTER TABLE secrets OWNER TO CURRENT_USER;
ALTER TABLE products DISABLE ROW LEVEL SECURITY;
REVOKE ALL ON ALL TABLES IN SCHEMA t FROM case_alice, case_bob;
SET ROLE case_alice;
-- @error(42501)
SELECT count(*) FROM products;
RESET ROLE;
