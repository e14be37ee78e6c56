-- Statements of so many rows that settings for the nodes' planners travel with them: shards joined and aggregated one
-- by one, values that are nearly all different.

CREATE TABLE heads (id int8 PRIMARY KEY, class int, name text, amount numeric, ratio float8);
-- @distribute(heads, id, 6)
CREATE TABLE lines (head int8, line int, place int, price numeric(10,2), note text, PRIMARY KEY (head, line));
-- @distribute(lines, head, 6, heads)
CREATE TABLE places (place int PRIMARY KEY, name text);
-- @replicate(places)
INSERT INTO heads SELECT i, i % 11, 'name ' || i, i * 1.25, i / 8.0 FROM generate_series(1, 12000) i;
INSERT INTO lines SELECT i % 9000 + 1, i, i % 20, i % 1000 / 7.0, CASE WHEN i % 5 > 0 THEN 'note ' || i END FROM generate_series(1, 25000) i;
INSERT INTO places SELECT i, 'place ' || i FROM generate_series(0, 24) i;
ANALYZE heads;
ANALYZE lines;
ANALYZE places;
SELECT count(*), count(note), sum(price), avg(price), min(note), max(line) FROM lines;
SELECT place, count(*), sum(price), avg(price), stddev(line) FROM lines GROUP BY place;
-- @ordered
SELECT place, max(price) FROM lines GROUP BY place HAVING count(*) > 5 ORDER BY place;
SELECT h.class, count(*), sum(l.price), avg(h.amount) FROM lines l JOIN heads h ON h.id = l.head GROUP BY h.class;
SELECT h.class, count(l.line), sum(l.price) FROM heads h LEFT JOIN lines l ON l.head = h.id AND l.place < 4 GROUP BY h.class;
SELECT h.class, count(*) FROM heads h FULL JOIN lines l ON l.head = h.id GROUP BY h.class;
SELECT count(*), sum(amount) FROM heads h WHERE NOT EXISTS (SELECT 1 FROM lines l WHERE l.head = h.id);
SELECT count(*), sum(amount) FROM heads h WHERE h.id IN (SELECT head FROM lines WHERE place = 3);
SELECT p.name, count(*), sum(l.price) FROM lines l JOIN places p USING (place) GROUP BY p.name;
SELECT p.name, h.class, count(*) FROM lines l JOIN heads h ON h.id = l.head JOIN places p USING (place) GROUP BY 1, 2;
-- @ordered
SELECT l.head, count(*), sum(l.price) FROM lines l JOIN heads h ON h.id = l.head GROUP BY l.head HAVING count(*) > 2 ORDER BY l.head LIMIT 50;
-- @ordered
SELECT h.name, l.line FROM lines l JOIN heads h ON h.id = l.head ORDER BY l.price, l.line LIMIT 40;
SELECT count(DISTINCT note), count(DISTINCT line), count(*) FROM lines;
SELECT place, count(DISTINCT note), count(DISTINCT head), sum(DISTINCT line) FROM lines GROUP BY place;
SELECT class, count(DISTINCT name) FILTER (WHERE id % 2 = 0), count(*) FROM heads GROUP BY ROLLUP (class);
SELECT count(DISTINCT name), count(DISTINCT id), count(DISTINCT class) FROM heads WHERE class <> 3;
SELECT count(DISTINCT h.name), count(DISTINCT l.note) FROM lines l JOIN heads h ON h.id = l.head;
-- In a transaction that only reads, that writes, and with the isolation level that has a snapshot.
BEGIN;
SELECT place, count(*) FROM lines GROUP BY place;
UPDATE lines SET price = price + 1 WHERE head = 7;
SELECT h.class, sum(l.price) FROM lines l JOIN heads h ON h.id = l.head GROUP BY h.class;
SAVEPOINT s;
-- @error(22012)
SELECT 1 / 0;
ROLLBACK TO s;
SELECT h.class, sum(l.price) FROM lines l JOIN heads h ON h.id = l.head GROUP BY h.class;
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT h.class, count(*) FROM lines l JOIN heads h ON h.id = l.head GROUP BY h.class;
COMMIT;
-- @params(3)
-- @params(4)
SELECT h.class, count(*) FROM lines l JOIN heads h ON h.id = l.head WHERE l.place = $1 GROUP BY h.class;
DECLARE c CURSOR WITH HOLD FOR SELECT h.class, count(*) FROM lines l JOIN heads h ON h.id = l.head GROUP BY h.class ORDER BY 1;
-- @ordered
FETCH 3 FROM c;
-- @ordered
FETCH ALL FROM c;
CLOSE c;
-- Groups in the order of an index that has all that is asked for; the same after updates and in a transaction.
SELECT head, count(*), max(line) FROM lines GROUP BY head HAVING count(*) > 2;
-- @ordered
SELECT head, count(*) FROM lines WHERE line > 20000 GROUP BY head ORDER BY head LIMIT 30;
SELECT count(DISTINCT head), sum(DISTINCT head) FROM lines;
SELECT count(DISTINCT head) FROM lines WHERE head BETWEEN 100 AND 8000;
UPDATE lines SET line = line + 100000 WHERE line % 3 = 0;
SELECT line, head, count(*) FROM lines WHERE head < 5 GROUP BY line, head;
SELECT count(DISTINCT head) FROM lines WHERE line > 100000;
BEGIN;
DELETE FROM lines WHERE head < 100;
SELECT count(DISTINCT head) FROM lines;
ROLLBACK;
