-- Volatile and stable functions mean what they mean on one server.

SELECT count(DISTINCT now()) FROM items;
SELECT count(DISTINCT transaction_timestamp()), count(DISTINCT statement_timestamp()) FROM items;
SELECT bool_and(now() = t) FROM items, (SELECT now() AS t) n;
SELECT count(*) FROM items WHERE now() - interval '1 hour' < now();
SELECT count(*) FROM events WHERE at < now();
SELECT count(*) FROM events WHERE at < current_date AND at > timestamp 'epoch';
SELECT count(*) FROM items WHERE random() >= 0;
SELECT count(*) FROM items WHERE random() < 0;
-- @count-only
SELECT id, random() FROM items;
SELECT count(DISTINCT r) > 30 FROM (SELECT random() AS r FROM items) s;
SELECT count(DISTINCT u) FROM (SELECT gen_random_uuid() AS u FROM items) s;
SELECT count(*) FROM (SELECT random() AS r FROM items) s WHERE r = r;
SELECT count(*) FROM items WHERE id = 1 + floor(random() * 0)::int;
SELECT current_user = session_user, current_schema(), current_setting('search_path') FROM items WHERE id = 1;
SELECT id FROM items WHERE txt = current_setting('nothing.set', true) OR id = 1;
SELECT pg_backend_pid() = (SELECT pg_backend_pid()), count(*) FROM items GROUP BY 1;
SELECT count(DISTINCT pg_backend_pid()) FROM items;
SELECT count(DISTINCT inet_server_port()) FROM items;
SELECT count(*) FROM items WHERE inet_server_port() IS NOT NULL AND id < 0;
SELECT txid_current() > 0 FROM items WHERE id = 3;
SELECT count(DISTINCT txid_current()) FROM items;
SELECT to_char(timestamp '2024-01-01', 'Day') FROM items WHERE id = 1;
SELECT set_config('my.setting', 'here', false);
SELECT current_setting('my.setting'), count(*) FROM items GROUP BY 1;
SELECT id FROM items WHERE txt = 'apple' AND current_setting('my.setting') = 'here';

-- sequences
CREATE SEQUENCE s;
SELECT nextval('s');
SELECT count(DISTINCT n) FROM (SELECT nextval('s') AS n FROM items) x;
SELECT currval('s'), lastval();
SELECT setval('s', 1000);
INSERT INTO items (id, k) VALUES (nextval('s'), 1), (nextval('s'), 2);
INSERT INTO items (id, k) SELECT nextval('s'), i FROM generate_series(1, 10) i;
SELECT id, k FROM items WHERE id > 1000;
UPDATE items SET k = nextval('s') WHERE id > 1000;
SELECT count(DISTINCT k), min(k), max(k) FROM items WHERE id > 1000;
-- which row got which number is nobody's promise
UPDATE items SET k = 1 WHERE id > 1000;
UPDATE products SET price = nextval('s') - nextval('s') WHERE id < 5;
SELECT id, price FROM products WHERE id < 5;
SELECT last_value FROM s;
DELETE FROM items WHERE id = nextval('s') * 0 + 1001;
SELECT currval('s');
SELECT id FROM items WHERE id IN (1001, 1002);
INSERT INTO events (item_id, seq) VALUES (nextval('s'), currval('s'));
SELECT item_id = seq FROM events WHERE item_id > 1000;
SELECT count(*) FROM items WHERE nextval('s') IS NOT NULL AND k = 3;
INSERT INTO items (id, tstz, u) SELECT 2000 + i, now(), gen_random_uuid() FROM generate_series(1, 5) i;
SELECT count(DISTINCT tstz), count(DISTINCT u) FROM items WHERE id > 2000;
UPDATE items SET tstz = now(), u = gen_random_uuid() WHERE id > 2000;
SELECT count(DISTINCT tstz), count(DISTINCT u), bool_and(tstz <= clock_timestamp()) FROM items WHERE id > 2000;
BEGIN;
INSERT INTO items (id, tstz) VALUES (3001, now()), (3002, now()), (3003, now());
SELECT count(*) FROM items WHERE tstz = now();
UPDATE items SET txt = 'now' WHERE tstz = transaction_timestamp();
COMMIT;
SELECT count(*) FROM items WHERE txt = 'now';
PREPARE recent AS SELECT count(*) FROM items WHERE tstz > now();
EXECUTE recent;
UPDATE items SET tstz = now() + interval '1 day' WHERE id = 1;
EXECUTE recent;
-- @repeat(7)
EXECUTE recent;
UPDATE items SET tstz = NULL, u = NULL WHERE id > 2000 OR id = 1;

-- functions of one's own
CREATE FUNCTION vol() RETURNS int LANGUAGE plpgsql VOLATILE AS $$ BEGIN PERFORM nextval('t.s'); RETURN 1; END $$;
CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2';
CREATE FUNCTION stable_max() RETURNS int LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN (SELECT max(id) FROM t.items WHERE id <= 60); END $$;
SELECT setval('s', 1);
SELECT id FROM items WHERE id < 5 AND vol() = 1;
SELECT sum(vol()) FROM items WHERE id <= 60;
SELECT currval('s');
SELECT id, twice(k) FROM items WHERE twice(id) = 10;
SELECT twice(id), count(*) FROM items WHERE id < 5 GROUP BY 1;
-- @ordered
SELECT id FROM items WHERE id < 20 ORDER BY twice(-id);
SELECT id FROM items WHERE id = twice(4);
SELECT id FROM items WHERE id = stable_max();
SELECT id FROM items WHERE id = vol();
UPDATE items SET k = twice(id) WHERE id < 5 RETURNING k;
UPDATE items SET k = vol() + stable_max() WHERE id < 5 RETURNING k;
INSERT INTO items (id, k) VALUES (twice(4000), vol());
DELETE FROM items WHERE id = twice(4000) RETURNING k;
CREATE FUNCTION polymorphic(anyelement) RETURNS anyelement LANGUAGE sql IMMUTABLE AS 'SELECT $1';
SELECT polymorphic(id), polymorphic(txt) FROM items WHERE polymorphic(id) = 5;
CREATE FUNCTION strict_one(text) RETURNS text LANGUAGE plpgsql STRICT IMMUTABLE AS $$ BEGIN RETURN '<' || $1 || '>'; END $$;
SELECT id, strict_one(txt) FROM items WHERE strict_one(txt) IS NULL OR strict_one(txt) = '<apple>';
CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq);
SELECT id FROM items WHERE id OPERATOR(t.===) 5;
SELECT id FROM items WHERE id === k;
CREATE FUNCTION set_of(int) RETURNS SETOF int LANGUAGE sql IMMUTABLE AS 'SELECT generate_series(1, $1)';
SELECT id, set_of(2) FROM items WHERE id < 4;
SELECT i.id, f FROM items i, set_of(i.id) f WHERE i.id < 4;
