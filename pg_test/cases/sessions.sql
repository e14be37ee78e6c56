-- Settings, search paths, temporary objects, DISCARD: the state of a session reaches where it matters.

SET search_path = public;
-- @error(42P01)
SELECT count(*) FROM items;
SELECT count(*) FROM t.items;
SELECT count(*) FROM t.items i JOIN t.events e ON e.item_id = i.id;
SELECT id, feel FROM t.items WHERE feel = 'happy'::t.mood;
INSERT INTO t.items (id, feel, pt) VALUES (101, 'ok', ROW(1, 2, 'x')::t.point3) RETURNING feel, pt;
UPDATE t.items SET pct = 5 WHERE id = 101 RETURNING pct;
SELECT * FROM t.item_names WHERE id = 101;
DELETE FROM t.items WHERE id = 101;
CREATE SCHEMA other;
CREATE TABLE other.items (id int, here text);
INSERT INTO other.items VALUES (1, 'other');
SET search_path = other, t;
SELECT * FROM items;
SELECT i.id, o.here FROM t.items i JOIN items o USING (id);
SELECT count(*) FROM events;
CREATE FUNCTION other.lower(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'mine'::text $$;
SET search_path = other, pg_catalog, t;
SELECT lower(txt), count(*) FROM t.items GROUP BY 1;
SELECT count(*) FROM t.items WHERE lower(txt) = 'mine';
SET search_path = t, other, pg_catalog;
SELECT count(*) FROM items WHERE lower(txt) = 'mine';
SET search_path = t, public;
SELECT count(*) FROM items WHERE lower(txt) = 'mine';
SELECT count(*) FROM items WHERE lower(txt) = 'apple';
DROP SCHEMA other CASCADE;
CREATE TEMP TABLE products (id int, name text);
INSERT INTO products VALUES (1, 'temporary');
SELECT * FROM products;
SELECT p.name, i.id FROM products p JOIN items i USING (id);
SELECT q.name FROM t.products q WHERE q.id = 1;
SELECT p.name, q.name FROM products p JOIN t.products q USING (id);
UPDATE t.products SET name = p.name FROM products p WHERE p.id = t.products.id;
DROP TABLE products;
SELECT name FROM products WHERE id = 1;
SET work_mem = '64kB';
SELECT count(*) FROM items a JOIN items b ON a.k = b.k JOIN events e ON e.item_id = a.id;
RESET work_mem;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SELECT count(*) FROM items i JOIN bigs b ON b.id = i.id;
SELECT count(*) FROM loc l JOIN items i ON i.id = l.item_id;
SELECT count(*) FROM items a JOIN items b ON a.k = b.k;
SET enable_nestloop = off;
SET enable_mergejoin = on;
SELECT count(*) FROM items a JOIN items b ON a.k = b.k;
RESET ALL;
SET search_path = t, public;
SET statement_timeout = '30s';
SET LOCAL TimeZone = 'Asia/Tokyo';
SELECT tstz FROM items WHERE id = 1;
BEGIN;
SET LOCAL TimeZone = 'Asia/Tokyo';
SELECT tstz FROM items WHERE id = 1;
SELECT count(*) FROM items WHERE tstz::date = '2024-03-31';
COMMIT;
SELECT tstz FROM items WHERE id = 1;
BEGIN;
SAVEPOINT a;
SET TimeZone = 'Asia/Tokyo';
SELECT tstz::text FROM items WHERE id IN (1, 2);
ROLLBACK TO a;
SELECT tstz::text FROM items WHERE id IN (1, 2);
COMMIT;
SET application_name = 'renamed';
SELECT current_setting('application_name') FROM items WHERE id = 1;
CREATE FUNCTION tz() RETURNS text LANGUAGE sql STABLE SET TimeZone = 'Asia/Tokyo' AS 'SELECT tstz::text FROM t.items WHERE id = 1';
SELECT tz(), tstz FROM items WHERE id = 1;
SET client_encoding = 'LATIN1';
SELECT id, length(txt) FROM items WHERE txt LIKE '%pfel';
SET client_encoding = 'UTF8';
SELECT id, txt FROM items WHERE txt LIKE 'ä%' OR txt = '東京';
PREPARE p AS SELECT count(*) FROM items;
EXECUTE p;
DISCARD PLANS;
EXECUTE p;
DISCARD ALL;
-- @error(26000)
EXECUTE p;
SELECT count(*) FROM t.items WHERE id IN (5, 6);
SELECT count(*) FROM t.events;

-- notifications, comments in statements, empty statements
LISTEN a;
NOTIFY a;
UNLISTEN *;
/* a comment */ SELECT /* inside */ count(*) -- at the end
FROM t.items;
-- @together
;
SELECT 1;
;
-- @end
SELECT count(*) FROM t.items WHERE id = 5 /* ; */;
