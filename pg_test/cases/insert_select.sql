-- INSERT ... SELECT: of colocated rows, which the nodes do themselves, and of others.

CREATE TABLE totals (item_id int, n bigint, label text DEFAULT 'none', made timestamptz DEFAULT now(), PRIMARY KEY (item_id));
-- @distribute(totals, item_id, 8, items)
CREATE TABLE numbered (item_id int, n bigint GENERATED ALWAYS AS IDENTITY, twice int GENERATED ALWAYS AS (item_id * 2) STORED);
-- @distribute(numbered, item_id, 8, items)

INSERT INTO totals (item_id, n) SELECT id, k FROM items;
SELECT item_id, n, label, made IS NOT NULL FROM totals;
DELETE FROM totals;
INSERT INTO totals (n, item_id, label) SELECT count(*), item_id, max(note) FROM events WHERE item_id IS NOT NULL GROUP BY item_id;
SELECT item_id, n, label FROM totals;
-- @error(23505)
INSERT INTO totals (item_id, n) SELECT id, 1 FROM items;
INSERT INTO totals (item_id, n) SELECT id, 1 FROM items ON CONFLICT DO NOTHING;
INSERT INTO totals AS t (item_id, n) SELECT id, 10 FROM items WHERE id < 30
    ON CONFLICT (item_id) DO UPDATE SET n = t.n + excluded.n, label = 'again';
SELECT item_id, n, label FROM totals;
-- @error(21000)
INSERT INTO totals (item_id, n) SELECT item_id, 1 FROM events WHERE item_id IS NOT NULL ON CONFLICT (item_id) DO UPDATE SET n = 0;
DELETE FROM totals RETURNING item_id;
INSERT INTO totals (item_id, n, label) SELECT i.id, e.seq, i.txt FROM items i JOIN events e ON e.item_id = i.id
    WHERE e.seq = (SELECT max(seq) FROM events x WHERE x.item_id = i.id) ON CONFLICT DO NOTHING;
SELECT item_id, n, label FROM totals;
DELETE FROM totals;
INSERT INTO totals SELECT id, 1, 'x' FROM items WHERE id IN (SELECT item_id FROM events) RETURNING item_id, n, label;
-- one value for all
INSERT INTO totals (item_id, n) SELECT id, (SELECT count(*) FROM items) FROM items ON CONFLICT DO NOTHING;
SELECT item_id, n, label FROM totals;
DELETE FROM totals;
-- rows whose key is another
INSERT INTO totals (item_id, n) SELECT id + 1000, k FROM items;
INSERT INTO totals (item_id, n) SELECT -k, count(*) FROM items WHERE k IS NOT NULL GROUP BY k;
INSERT INTO totals (item_id, n) SELECT e.seq + 100000, i.id FROM items i LEFT JOIN events e ON e.item_id = i.id
    WHERE e.seq IS NOT NULL ON CONFLICT DO NOTHING;
SELECT item_id, n, label FROM totals;
DELETE FROM totals;
-- a key that an outer join made NULL
INSERT INTO numbered (item_id) SELECT e.item_id FROM items i LEFT JOIN events e ON e.item_id = i.id AND e.seq < 3;
INSERT INTO numbered (item_id) SELECT item_id FROM events;
SELECT item_id, twice, count(*) FROM numbered GROUP BY item_id, twice;
SELECT count(DISTINCT n) = count(*) FROM numbered;
DELETE FROM numbered;
INSERT INTO numbered (item_id) SELECT item_id FROM numbered;
-- into the table itself
INSERT INTO totals (item_id, n) SELECT id, 0 FROM items WHERE id > 50;
INSERT INTO totals (item_id, n) SELECT item_id, n + 1 FROM totals ON CONFLICT (item_id) DO UPDATE SET n = excluded.n + 5;
-- set operations, CTEs, limits, windows
DELETE FROM totals;
INSERT INTO totals (item_id, n) SELECT id, 1 FROM items WHERE id < 10 UNION ALL SELECT id, 2 FROM items WHERE id > 50;
INSERT INTO totals (item_id, n) WITH c AS (SELECT id, k FROM items WHERE id BETWEEN 10 AND 20) SELECT id, k FROM c;
WITH c AS (SELECT id, k FROM items WHERE id BETWEEN 21 AND 25) INSERT INTO totals (item_id, n) SELECT id, k FROM c;
INSERT INTO totals (item_id, n) SELECT id, 7 FROM items WHERE id > 25 AND id < 40 ORDER BY id LIMIT 3;
INSERT INTO totals (item_id, n) SELECT item_id, row_number() OVER (PARTITION BY item_id) FROM events
    WHERE item_id BETWEEN 41 AND 49 ON CONFLICT DO NOTHING;
SELECT item_id, n, label FROM totals;
DELETE FROM totals;
-- @params(4)
INSERT INTO totals (item_id, n, label) SELECT id, $1::int, 'p' || $1::int FROM items WHERE id % $1::int = 0;
PREPARE fill(int) AS INSERT INTO totals (item_id, n) SELECT id, $1 FROM items WHERE id % 4 = $1;
EXECUTE fill(1);
EXECUTE fill(2);
EXECUTE fill(3);
SELECT item_id, n, label FROM totals;
-- a failure leaves nothing
DELETE FROM totals;
-- @error(22012)
INSERT INTO totals (item_id, n) SELECT id, 1 / (id - 30) FROM items;
SELECT count(*) FROM totals;
BEGIN;
INSERT INTO totals (item_id, n) SELECT id, 1 FROM items;
SELECT count(*) FROM totals;
ROLLBACK;
SELECT count(*) FROM totals;
DROP TABLE totals, numbered;
