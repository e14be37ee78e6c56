-- Triggers on distributed and reference tables, made before and after they are distributed.

CREATE TABLE ledger (acct int, entry int, delta numeric NOT NULL DEFAULT 0, memo text, changed int NOT NULL DEFAULT 0, PRIMARY KEY (acct, entry));
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        NEW.memo := coalesce(NEW.memo, 'new') || ' ' || TG_ARGV[0];
    ELSE
        NEW.changed := OLD.changed + 1;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON ledger FOR EACH ROW EXECUTE FUNCTION stamp('stamped');
INSERT INTO ledger (acct, entry, delta) SELECT i % 6, i, i * 1.5 FROM generate_series(1, 30) i;
CREATE VIEW balances AS SELECT acct, sum(delta) AS balance, max(changed) AS changes FROM ledger GROUP BY acct;
-- @distribute(ledger, acct, 4)
SELECT * FROM balances;
SELECT * FROM ledger;
INSERT INTO ledger (acct, entry, delta, memo) VALUES (1, 100, 5, 'mine'), (2, 100, 6, NULL) RETURNING *;
INSERT INTO ledger (acct, entry) SELECT i, 200 FROM generate_series(1, 5) i RETURNING memo;
UPDATE ledger SET delta = delta + 1 WHERE acct = 1 RETURNING entry, changed;
UPDATE ledger SET delta = delta + 1 WHERE entry > 10;
UPDATE ledger SET acct = 9 WHERE acct = 3 AND entry < 10 RETURNING *;
COPY ledger (acct, entry, delta) FROM STDIN;
1	300	1
2	300	2
\.
INSERT INTO ledger (acct, entry) VALUES (1, 300) ON CONFLICT (acct, entry) DO UPDATE SET delta = 77 RETURNING *;
SELECT * FROM balances;
SELECT * FROM ledger WHERE entry >= 300;

-- conditions, columns, several triggers, rows that are skipped, errors
CREATE FUNCTION skip_or_fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.delta = -1 THEN
        RETURN NULL;
    ELSIF NEW.delta < -100 THEN
        RAISE EXCEPTION 'delta % is too small', NEW.delta USING ERRCODE = '22023';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER a_check BEFORE INSERT OR UPDATE OF delta ON ledger FOR EACH ROW WHEN (NEW.delta < 0) EXECUTE FUNCTION skip_or_fail();
INSERT INTO ledger (acct, entry, delta) VALUES (1, 400, -1), (2, 400, -2), (3, 400, 3) RETURNING acct, delta;
UPDATE ledger SET delta = -1 WHERE entry = 400;
-- @error(22023)
UPDATE ledger SET delta = -500 WHERE acct = 2;
-- @error(22023)
INSERT INTO ledger (acct, entry, delta) VALUES (1, 500, 1), (2, 500, 1), (3, 500, -101);
SELECT * FROM ledger WHERE entry >= 400;
ALTER TABLE ledger DISABLE TRIGGER a_check;
INSERT INTO ledger (acct, entry, delta) VALUES (1, 600, -500);
ALTER TABLE ledger ENABLE TRIGGER a_check;
-- @error(22023)
INSERT INTO ledger (acct, entry, delta) VALUES (1, 601, -500);
ALTER TRIGGER a_check ON ledger RENAME TO b_check;
DROP TRIGGER b_check ON ledger;
INSERT INTO ledger (acct, entry, delta) VALUES (1, 601, -500);
-- @error(42704)
DROP TRIGGER b_check ON ledger;

-- row triggers after the fact, which write rows of the same shard
CREATE TABLE history (acct int, entry int, what text, old numeric, new numeric);
-- @distribute(history, acct, 4, ledger)
CREATE FUNCTION note_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO t.history VALUES (coalesce(NEW.acct, OLD.acct), coalesce(NEW.entry, OLD.entry), TG_OP, OLD.delta, NEW.delta);
    RETURN NULL;
END $$;
CREATE TRIGGER note_change AFTER INSERT OR UPDATE OR DELETE ON ledger FOR EACH ROW EXECUTE FUNCTION note_change();
INSERT INTO ledger (acct, entry, delta) VALUES (1, 700, 1), (2, 700, 2);
UPDATE ledger SET delta = 10 WHERE entry = 700;
DELETE FROM ledger WHERE entry = 700 AND acct = 2;
SELECT * FROM history;
BEGIN;
DELETE FROM ledger;
SELECT count(*) FROM history;
ROLLBACK;
SELECT count(*) FROM history;
DROP TRIGGER note_change ON ledger;

-- on a reference table and on a local one
CREATE FUNCTION upper_name() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.name := upper(NEW.name); RETURN NEW; END $$;
CREATE TRIGGER upper_name BEFORE INSERT OR UPDATE ON products FOR EACH ROW EXECUTE FUNCTION upper_name();
INSERT INTO products (id, name) VALUES (100, 'small'), (101, 'letters') RETURNING name;
UPDATE products SET price = 5 WHERE id = 1 RETURNING name;
SELECT id, name FROM products WHERE name = upper(name);
CREATE FUNCTION from_loc() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE items SET txt = NEW.word WHERE id = NEW.item_id;
    INSERT INTO events (item_id, seq) VALUES (NEW.item_id, 5000 + NEW.id);
    RETURN NULL;
END $$;
CREATE TRIGGER from_loc AFTER UPDATE ON loc FOR EACH ROW EXECUTE FUNCTION from_loc();
UPDATE loc SET word = 'trigger' WHERE id IN (1, 2, 3);
SELECT txt FROM items WHERE txt = 'trigger';
SELECT item_id, seq FROM events WHERE seq > 5000;
CREATE FUNCTION count_items() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(*) FROM items WHERE id = NEW.item_id) = 0 THEN
        RAISE EXCEPTION 'no item %', NEW.item_id USING ERRCODE = '23503';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER count_items BEFORE INSERT ON loc FOR EACH ROW EXECUTE FUNCTION count_items();
INSERT INTO loc (id, item_id) VALUES (500, 5);
-- @error(23503)
INSERT INTO loc (id, item_id) VALUES (501, 5000);
