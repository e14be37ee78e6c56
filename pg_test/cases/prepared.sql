-- Prepared statements: custom and generic plans, DDL underneath, parameters everywhere.

PREPARE by_key (int) AS SELECT id, k, txt FROM items WHERE id = $1;
-- @repeat(7)
EXECUTE by_key (5);
EXECUTE by_key (6);
EXECUTE by_key (NULL);
EXECUTE by_key (61);
EXECUTE by_key (2 + 3);
SET plan_cache_mode = force_generic_plan;
EXECUTE by_key (7);
EXECUTE by_key (NULL);
PREPARE range (int, int) AS SELECT id FROM items WHERE id BETWEEN $1 AND $2;
EXECUTE range (3, 7);
EXECUTE range (7, 3);
EXECUTE range (NULL, 3);
PREPARE several (int[]) AS SELECT id, k FROM items WHERE id = ANY ($1);
EXECUTE several ('{1,2,3}');
EXECUTE several ('{}');
EXECUTE several (NULL);
EXECUTE several ('{NULL,8}');
PREPARE either (int, int) AS SELECT id FROM items WHERE id = $1 OR k = $2;
EXECUTE either (1, 3);
PREPARE twice (int) AS SELECT i.id, e.seq FROM items i JOIN events e ON e.item_id = i.id WHERE i.id = $1;
EXECUTE twice (8);
EXECUTE twice (15);
PREPARE two_keys (int, int) AS SELECT id FROM items WHERE id = $1 UNION ALL SELECT item_id FROM events WHERE item_id = $2;
EXECUTE two_keys (8, 8);
EXECUTE two_keys (8, 9);
PREPARE nothing_pinned (int) AS SELECT count(*) FROM items WHERE $1 = 5;
EXECUTE nothing_pinned (5);
EXECUTE nothing_pinned (6);
PREPARE typed (numeric) AS SELECT id FROM items WHERE id = $1;
EXECUTE typed (5.0);
EXECUTE typed (5.5);
PREPARE big_key (int8) AS SELECT id FROM items WHERE id = $1;
EXECUTE big_key (5);
EXECUTE big_key (5000000000);
PREPARE limited (int, int) AS SELECT id FROM items ORDER BY id LIMIT $1 OFFSET $2;
-- @ordered
EXECUTE limited (3, 2);
-- @ordered
EXECUTE limited (NULL, 57);
PREPARE grouped (int) AS SELECT k, count(*) FROM items WHERE id > $1 GROUP BY k HAVING count(*) > $1 / 20;
EXECUTE grouped (20);
EXECUTE grouped (50);
PREPARE texts (text) AS SELECT id FROM items WHERE txt = $1 OR $1 IS NULL AND txt IS NULL;
EXECUTE texts ('apple');
EXECUTE texts (NULL);
PREPARE enums (mood, mood[]) AS SELECT id FROM items WHERE feel = $1 OR feel = ANY ($2);
EXECUTE enums ('sad', '{ok}');
PREPARE composites (point3) AS SELECT id FROM items WHERE pt = $1;
EXECUTE composites ('(1,3.5,"p,3")');
PREPARE account (text) AS SELECT code, balance FROM accounts WHERE code = $1;
EXECUTE account ('acc9');
EXECUTE account ('');
PREPARE price (numeric) AS SELECT n FROM prices WHERE p = $1;
EXECUTE price (1);
EXECUTE price ('NaN');
PREPARE sub (int) AS SELECT id, (SELECT count(*) FROM events e WHERE e.item_id = i.id AND e.seq > $1) FROM items i WHERE id < 15;
EXECUTE sub (50);
PREPARE local_join (int) AS SELECT l.id, i.k FROM loc l LEFT JOIN items i ON i.id = l.item_id AND i.k = $1;
EXECUTE local_join (3);
PREPARE of_now AS SELECT count(*) FROM events WHERE at < now();
-- @repeat(3)
EXECUTE of_now;

-- writes
PREPARE ins (int, int, text) AS INSERT INTO items (id, k, txt) VALUES ($1, $2, $3) RETURNING id, k;
EXECUTE ins (101, 1, 'one');
EXECUTE ins (102, NULL, NULL);
-- @error(23505)
EXECUTE ins (101, 1, 'one');
-- @error(23502)
EXECUTE ins (NULL, 1, 'one');
PREPARE ins2 (int, int) AS INSERT INTO events (item_id, seq) VALUES ($1, $2), ($2, $1);
EXECUTE ins2 (500, 600);
PREPARE upd (int, text) AS UPDATE items SET txt = $2 WHERE id = $1;
-- @repeat(6)
EXECUTE upd (101, 'changed');
EXECUTE upd (NULL, 'changed');
PREPARE upd_all (int) AS UPDATE items SET small = small + 1 WHERE k = $1 RETURNING id;
EXECUTE upd_all (3);
PREPARE del (int) AS DELETE FROM items WHERE id = $1 RETURNING *;
EXECUTE del (102);
EXECUTE del (102);
PREPARE ref (int, numeric) AS UPDATE products SET price = $2 WHERE id = $1;
EXECUTE ref (3, 33.33);
PREPARE up (int, text) AS INSERT INTO items (id, txt) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET txt = excluded.txt || $2 RETURNING txt;
EXECUTE up (101, 'x');
EXECUTE up (103, 'y');
PREPARE move (int, int) AS UPDATE items SET id = $2 WHERE id = $1;
EXECUTE move (103, 104);
SET plan_cache_mode = force_custom_plan;
EXECUTE by_key (5);
EXECUTE two_keys (1, 2);
RESET plan_cache_mode;

-- DDL under a cached plan
ALTER TABLE loc ADD COLUMN extra int DEFAULT 7;
EXECUTE by_key (5);
ALTER TABLE items ADD COLUMN extra int DEFAULT 7;
EXECUTE by_key (5);
PREPARE stars AS SELECT * FROM countries WHERE code = 'DE';
EXECUTE stars;
ALTER TABLE countries ADD COLUMN extra int;
-- @error(0A000)
EXECUTE stars;
DROP INDEX items_k;
EXECUTE either (1, 3);
ALTER TABLE items RENAME COLUMN txt TO words;
-- @error(42703)
EXECUTE by_key (5);
ALTER TABLE items RENAME COLUMN words TO txt;
EXECUTE by_key (5);

-- errors
-- @error(26000)
EXECUTE missing (1);
-- @error(42601)
EXECUTE by_key (1, 2);
-- @error(42804)
EXECUTE by_key (row(1, 2));
-- @error(42P05)
PREPARE by_key AS SELECT 1;
DEALLOCATE by_key;
-- @error(26000)
EXECUTE by_key (1);
SELECT count(*) FROM pg_prepared_statements;
DEALLOCATE ALL;

-- the extended protocol, one statement executed often enough for a generic plan
-- @params(1)
-- @params(2)
-- @params(3)
-- @params(4)
-- @params(5)
-- @params(6)
-- @params(7)
-- @params(NULL)
-- @params(60)
SELECT id, k, txt FROM items WHERE id = $1;
-- @params(1, 2)
-- @params(2, 3)
-- @params(3, 3)
-- @params(4, NULL)
-- @params(5, 6)
-- @params(6, 7)
-- @params(7, 8)
-- @params(8, 1)
SELECT a.id, b.id FROM items a, items b WHERE a.id = $1 AND b.id = $2;
-- @params(200, a)
-- @params(201, b)
-- @params(202, c)
-- @params(203, d)
-- @params(204, NULL)
-- @params(205, f)
-- @params(206, g)
INSERT INTO items (id, txt) VALUES ($1, $2) RETURNING id, txt;
-- @params(200)
-- @params(201)
-- @params(202)
-- @params(203)
-- @params(204)
-- @params(205)
-- @params(999)
UPDATE items SET k = coalesce(k, 0) + 1 WHERE id = $1 RETURNING id, k;
-- @params(206)
-- @params(206)
DELETE FROM items WHERE id = $1;
-- @params(3)
-- @params(4)
-- @params(5)
-- @params(3)
-- @params(4)
-- @params(5)
-- @params(6)
SELECT k, count(*), sum(price) FROM items WHERE k = $1 GROUP BY k;
-- @params(a)
-- @error(22P02)
SELECT id FROM items WHERE id = $1;
