-- PL/pgSQL and SQL functions on the coordinator that read and write the tables.

CREATE FUNCTION item_text(wanted int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE found_text text;
BEGIN
    SELECT txt INTO found_text FROM items WHERE id = wanted;
    IF NOT FOUND THEN
        RETURN 'not found';
    END IF;
    RETURN coalesce(found_text, 'null');
END $$;
-- @repeat(7)
SELECT item_text(5);
SELECT item_text(8), item_text(61);
SELECT id, item_text(id) FROM items WHERE id < 12;
SELECT item_text(p.id) FROM products p;
SELECT id FROM items WHERE item_text(id) = 'apple';

CREATE FUNCTION items_of(wanted int) RETURNS SETOF items LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY SELECT * FROM items WHERE k = wanted ORDER BY id;
END $$;
SELECT id, k FROM items_of(3);
SELECT p.id, x.id FROM products p, items_of(p.id) x WHERE p.id < 4;

CREATE FUNCTION count_loop() RETURNS int LANGUAGE plpgsql AS $$
DECLARE r record; n int := 0;
BEGIN
    FOR r IN SELECT i.id, e.seq FROM items i JOIN events e ON e.item_id = i.id ORDER BY i.id, e.seq LOOP
        n := n + r.id * r.seq;
    END LOOP;
    FOR r IN SELECT id FROM items WHERE k = 3 LOOP
        n := n + (SELECT count(*) FROM events WHERE item_id = r.id);
    END LOOP;
    RETURN n;
END $$;
SELECT count_loop();

CREATE FUNCTION dynamic(wanted text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM %I WHERE id > $1', wanted) INTO n USING 10;
    RETURN n;
END $$;
SELECT dynamic('items'), dynamic('products'), dynamic('loc');

CREATE FUNCTION add_event(i int, s int) RETURNS events LANGUAGE plpgsql AS $$
DECLARE e events;
BEGIN
    INSERT INTO events (item_id, seq, note) VALUES (i, s, 'by function') RETURNING * INTO e;
    UPDATE items SET small = coalesce(small, 0) + 1 WHERE id = i;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no item %', i USING ERRCODE = 'P0002';
    END IF;
    RETURN e;
END $$;
SELECT item_id, seq, note FROM add_event(5, 9001);
-- @error(P0002)
SELECT add_event(99, 9002);
SELECT seq FROM events WHERE seq > 9000;

CREATE FUNCTION guarded(i int) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        INSERT INTO items (id, k) VALUES (i, 1);
        INSERT INTO events (item_id, seq) VALUES (i, i);
    EXCEPTION
        WHEN unique_violation THEN RETURN 'duplicate';
        WHEN not_null_violation THEN RETURN 'null';
    END;
    RETURN 'ok';
END $$;
SELECT guarded(101);
SELECT guarded(5);
SELECT guarded(NULL);
SELECT guarded(101);
SELECT id, guarded(id + 200) FROM loc WHERE id < 4;
SELECT count(*) FROM items WHERE id > 100;

CREATE FUNCTION with_cursor() RETURNS int LANGUAGE plpgsql AS $$
DECLARE c CURSOR (low int) FOR SELECT id FROM items WHERE id > low ORDER BY id; x int; total int := 0;
BEGIN
    OPEN c(30);
    LOOP
        FETCH c INTO x;
        EXIT WHEN NOT FOUND OR x > 40;
        total := total + x;
    END LOOP;
    CLOSE c;
    RETURN total;
END $$;
SELECT with_cursor();

CREATE FUNCTION rows_hit() RETURNS text LANGUAGE plpgsql AS $$
DECLARE a int; b int; c int;
BEGIN
    UPDATE items SET k = k WHERE k = 3; GET DIAGNOSTICS a = ROW_COUNT;
    DELETE FROM events WHERE item_id = 9; GET DIAGNOSTICS b = ROW_COUNT;
    PERFORM 1 FROM items WHERE ok; GET DIAGNOSTICS c = ROW_COUNT;
    RETURN a || ' ' || b || ' ' || c;
END $$;
SELECT rows_hit();

CREATE FUNCTION sql_count(int) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM events WHERE item_id = $1';
SELECT sql_count(8), sql_count(NULL);
SELECT id, sql_count(id) FROM items WHERE id < 20;
CREATE FUNCTION sql_table(low int) RETURNS TABLE (id int, n bigint) LANGUAGE sql STABLE
    AS 'SELECT i.id, count(e.seq) FROM items i LEFT JOIN events e ON e.item_id = i.id WHERE i.id > $1 GROUP BY i.id';
SELECT * FROM sql_table(55);
SELECT * FROM sql_table(50) WHERE id = 58;

DO $$
DECLARE r record;
BEGIN
    FOR r IN SELECT id FROM items WHERE k = 1 ORDER BY id LOOP
        UPDATE items SET vc = 'do ' || r.id WHERE id = r.id;
    END LOOP;
    INSERT INTO loc (id, word) SELECT max(id) + 1, 'do' FROM loc;
END $$;
SELECT id, vc FROM items WHERE vc LIKE 'do%';
-- @error(P0001)
DO $$ BEGIN DELETE FROM items WHERE id < 10; RAISE EXCEPTION 'stop'; END $$;
SELECT count(*) FROM items WHERE id < 10;

CREATE PROCEDURE in_pieces() LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 301..304 LOOP
        INSERT INTO items (id, k) VALUES (i, i % 2);
        IF i % 2 = 0 THEN COMMIT; ELSE ROLLBACK; END IF;
    END LOOP;
END $$;
CALL in_pieces();
SELECT id, k FROM items WHERE id > 300;
CREATE PROCEDURE failing() LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO items (id) VALUES (401);
    COMMIT;
    INSERT INTO items (id) VALUES (402);
    INSERT INTO items (id) VALUES (401);
END $$;
-- @error(23505)
CALL failing();
SELECT id FROM items WHERE id > 400;

CREATE FUNCTION recursive_sum(i int) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    IF i <= 0 THEN RETURN 0; END IF;
    RETURN (SELECT coalesce(k, 0) FROM items WHERE id = i) + recursive_sum(i - 1);
END $$;
SELECT recursive_sum(20);
