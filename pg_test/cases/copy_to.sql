-- COPY TO of rows that go to the client as lines without being decoded, and of what stands in the way.

-- Values with every mark that is escaped, quoted, or looks like something else.
INSERT INTO items (id, k, txt, vc) VALUES
    (301, 1, E'tab\there', 'a,b'), (302, 2, E'new\nline', 'quo"te'), (303, 3, E'return\rhere', E'apo''s'),
    (304, 4, E'back\\slash', E'\\.'), (305, 5, '', ''), (306, NULL, NULL, NULL), (307, 6, '\N', '-'),
    (308, 7, E'\x01\x08\x0b\x0c\x1f\x7f', 'a|b'), (309, 8, repeat('long text, "quoted" and 東京 ', 40), 'nil'),
    (310, 9, repeat('clean', 50), repeat('z', 20));
COPY items (id, k, txt, vc) TO STDOUT;
COPY items (id, k, txt, vc) TO STDOUT (FORMAT csv);
COPY items (vc) TO STDOUT (FORMAT csv);
COPY items (id, txt, vc) TO STDOUT (FORMAT csv, HEADER, DELIMITER '|', NULL '-', QUOTE '''', ESCAPE '\');
COPY items (id, txt, vc) TO STDOUT (FORMAT csv, NULL 'nil', FORCE_QUOTE (vc));
COPY items (id, txt, vc) TO STDOUT (FORMAT csv, FORCE_QUOTE *);
COPY items (id, txt, vc) TO STDOUT (DELIMITER '|', NULL '');
COPY items (id, txt, vc) TO STDOUT (DELIMITER E'\x01', NULL 'NULL', HEADER);
COPY items (id, txt, vc) TO STDOUT WITH CSV HEADER;
COPY items (id, k) TO STDOUT (ENCODING 'UTF8');
COPY items (id, k) TO STDOUT (ENCODING 'LATIN1');

-- All types, under settings that change what a node writes.
COPY items (id, small, k, big, price, free, r4, f8, txt, ctext, vc, ch, raw, ok, d, ts, tstz, tm, iv, u, j, jb, ints, texts, feel, pct, span, ip, bits)
TO STDOUT;
COPY items (id, small, k, big, price, free, r4, f8, txt, ctext, vc, ch, raw, ok, d, ts, tstz, tm, iv, u, j, jb, ints, texts, feel, pct, span, ip, bits)
TO STDOUT (FORMAT csv, NULL 'null');
COPY items (id, pt) TO STDOUT;
SET datestyle = 'German';
SET timezone = 'Asia/Tokyo';
SET bytea_output = 'escape';
SET intervalstyle = 'sql_standard';
SET extra_float_digits = 0;
COPY items (id, d, ts, tstz, raw, iv, r4, f8) TO STDOUT;
RESET datestyle;
RESET timezone;
RESET bytea_output;
RESET intervalstyle;
RESET extra_float_digits;

-- Queries: one shard, merged, grouped, none, without columns, with work for the coordinator.
COPY (SELECT * FROM bigs) TO STDOUT;
COPY (SELECT id, txt FROM items WHERE id = 301) TO STDOUT;
-- @ordered
COPY (SELECT id, txt FROM items ORDER BY id) TO STDOUT;
-- @ordered
COPY (SELECT id, txt FROM items ORDER BY id DESC LIMIT 5) TO STDOUT (FORMAT csv, HEADER);
COPY (SELECT k, count(*), string_agg(txt, ',' ORDER BY id) FROM items GROUP BY k) TO STDOUT (FORMAT csv);
COPY (SELECT id FROM items WHERE id < 0) TO STDOUT (HEADER);
COPY (SELECT FROM items) TO STDOUT;
COPY (SELECT i.id, e.seq FROM items i JOIN events e ON e.item_id = i.id) TO STDOUT;
COPY (SELECT i.id, l.word FROM items i JOIN loc l ON l.item_id = i.k) TO STDOUT;
COPY (SELECT id, now() = transaction_timestamp() FROM items) TO STDOUT;
COPY (SELECT id, random() < 2 FROM items) TO STDOUT;
COPY (SELECT tableoid::regclass, id FROM items) TO STDOUT;
COPY (SELECT i FROM items i WHERE id = 301) TO STDOUT;
COPY (SELECT 1) TO STDOUT;
COPY loc TO STDOUT;

-- A function's statements are not COPY's.
CREATE FUNCTION count_items(lowest int) RETURNS bigint LANGUAGE plpgsql AS
    $$ BEGIN RETURN (SELECT count(*) FROM items WHERE id >= lowest); END $$;
COPY (SELECT id, count_items(300) FROM loc) TO STDOUT;
CREATE FUNCTION failing_count() RETURNS bigint LANGUAGE plpgsql AS
    $$ BEGIN PERFORM 1 / (id - id) FROM items; RETURN 1; EXCEPTION WHEN division_by_zero THEN RETURN -1; END $$;
COPY (SELECT id, failing_count() FROM loc) TO STDOUT;
COPY (SELECT id, k FROM items WHERE failing_count() = -1) TO STDOUT;

-- Writes return rows too, and a transaction sees its own.
BEGIN;
INSERT INTO items (id, txt) VALUES (320, 'new');
COPY (UPDATE items SET k = 100 WHERE id > 300 RETURNING id, k) TO STDOUT;
COPY (SELECT id, k, txt FROM items WHERE id > 300) TO STDOUT;
ROLLBACK;

-- Errors before, and in the middle; what follows is as it was.
-- @error(42601)
COPY items TO STDOUT (DELIMITER '|', DELIMITER ',');
-- @error(0A000)
COPY items TO STDOUT (DELIMITER 'ab');
-- @error(42703)
COPY items (nothing) TO STDOUT;
-- @error(22012)
COPY (SELECT 1 / (id - 7) FROM items) TO STDOUT;
COPY (SELECT id FROM items WHERE id < 4) TO STDOUT;
SELECT id FROM items WHERE id < 4;
