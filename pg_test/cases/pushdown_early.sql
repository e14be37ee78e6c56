-- What nodes group before they join or count it: the answers are those of the statement as it stands.

CREATE TABLE sales (shop int8, id int, place int, code text, part numeric, at date, amount numeric(10,2), qty int, big int8, ratio float8, flag bool, PRIMARY KEY (shop, id));
-- @distribute(sales, shop, 6)
CREATE TABLE places (place int, name text, region text, code text, part numeric, ratio float8, weight int);
-- @replicate(places)
CREATE TABLE regions (region text COLLATE "C" PRIMARY KEY, title text);
-- @replicate(regions)
INSERT INTO sales SELECT i % 50, i, CASE WHEN i % 9 > 0 THEN i % 20 END, CASE WHEN i % 7 > 0 THEN 'c' || i % 5 END,
    CASE i % 4 WHEN 0 THEN 1.0 WHEN 1 THEN 1.00 WHEN 2 THEN 2 END, date '2024-01-01' + i % 6, CASE WHEN i % 8 > 0 THEN i / 7.0 END, i % 11, i * 1000000007::int8,
    CASE i % 5 WHEN 0 THEN -0.0 WHEN 1 THEN 0.0 WHEN 2 THEN 'NaN' WHEN 3 THEN 'Infinity' ELSE i END, CASE WHEN i % 3 > 0 THEN i % 2 = 0 END
FROM generate_series(1, 3000) i;
-- Some places twice, some never, some without a number; a place that nobody sells at.
INSERT INTO places SELECT CASE WHEN i < 28 THEN i % 24 END, 'place ' || i % 10, 'r' || i % 4, 'c' || i % 6, CASE i % 3 WHEN 0 THEN 1 WHEN 1 THEN 2.000 END,
    CASE i % 3 WHEN 0 THEN 0.0 WHEN 1 THEN 'NaN' END, i FROM generate_series(0, 29) i;
INSERT INTO regions VALUES ('r0', 'north'), ('r1', 'south'), ('r2', NULL);
ANALYZE sales;
ANALYZE places;
ANALYZE regions;
SET sharding.early_grouping = always;

SELECT p.name, count(*), sum(s.amount), avg(s.amount), min(s.id), max(s.at) FROM sales s JOIN places p USING (place) GROUP BY p.name;
SELECT p.name, s.place, count(s.amount), sum(s.qty), avg(s.qty), sum(s.big), avg(s.big) FROM sales s JOIN places p USING (place) GROUP BY 1, 2;
SELECT place, count(*) FROM sales JOIN places USING (place) GROUP BY place;
SELECT place + 1, code, count(*) FROM sales JOIN places USING (place, code) GROUP BY 1, 2;
SELECT count(*), sum(s.amount), bool_or(s.flag), bit_xor(s.qty), min(s.code) FROM sales s, places p WHERE p.place = s.place;
SELECT count(*), sum(s.amount), max(s.code) FROM sales s, places p WHERE p.place = s.place AND s.id < 0;
SELECT p.region, count(*) FROM sales s, places p WHERE p.place = s.place AND s.qty > 3 AND s.at <> '2024-01-03' GROUP BY p.region;
SELECT r.title, count(*), sum(s.amount * (1 - s.part)), sum(s.amount * s.qty) FILTER (WHERE s.flag) FROM sales s JOIN places p USING (place) JOIN regions r USING (region) GROUP BY r.title;
SELECT p.name, sum(s.amount) / count(*), round(avg(s.amount), 2) + max(p.weight) FROM sales s JOIN places p USING (place) GROUP BY p.name, p.weight;
SELECT s.at, p.name, count(*) FROM sales s JOIN places p ON p.code = s.code GROUP BY s.at, p.name;
SELECT s.shop, p.name, count(*) FROM sales s JOIN places p USING (place) GROUP BY s.shop, p.name;
SELECT s.shop, count(*), sum(s.amount) FROM sales s JOIN places p USING (place) GROUP BY s.shop;
-- @ordered
SELECT p.name, count(*) FROM sales s JOIN places p USING (place) GROUP BY p.name ORDER BY p.name DESC LIMIT 3;
-- @ordered
SELECT p.name, sum(s.qty) AS sold FROM sales s JOIN places p USING (place) GROUP BY p.name ORDER BY sold DESC, p.name;
SELECT p.name, count(*) FROM sales s JOIN places p USING (place) GROUP BY p.name HAVING count(*) > 100;
SELECT p.name, upper(s.code), count(*) FROM sales s JOIN places p USING (place) GROUP BY 1, 2;
SELECT x.name, x.n FROM (SELECT p.name, count(*) AS n FROM sales s JOIN places p USING (place) GROUP BY p.name) x WHERE x.n > 10;
PREPARE sold (int, text) AS SELECT p.name, count(*), sum(s.amount + $1) FROM sales s JOIN places p USING (place) WHERE s.code = $2 AND s.qty > $1 GROUP BY p.name;
EXECUTE sold (2, 'c1');
EXECUTE sold (3, 'c4');

-- Not these: equal values that are not the same, other joins, other conditions, what may fail, what is not of the table alone.
SELECT s.part, p.name, count(*) FROM sales s JOIN places p ON p.part = s.part GROUP BY s.part::text, s.part, p.name;
SELECT s.part::text, count(*) FROM sales s JOIN places p ON p.part = s.part GROUP BY 1;
SELECT p.name, count(*), min(s.id) FROM sales s JOIN places p ON p.ratio = s.ratio GROUP BY p.name;
SELECT s.ratio::text, count(*) FROM sales s JOIN places p USING (place) GROUP BY 1;
SELECT p.name, count(*), sum(s.amount) FROM sales s LEFT JOIN places p USING (place) GROUP BY p.name;
SELECT p.name, count(s.id) FROM places p LEFT JOIN sales s USING (place) GROUP BY p.name;
SELECT p.name, count(*) FROM sales s JOIN places p ON p.place < s.place GROUP BY p.name;
SELECT p.name, count(*) FROM sales s JOIN places p USING (place) WHERE p.weight > 5 GROUP BY p.name;
SELECT p.name, count(*) FROM sales s JOIN places p USING (place) WHERE p.weight > s.qty GROUP BY p.name;
SELECT p.name, sum(s.qty / s.place) FROM sales s JOIN places p USING (place) WHERE s.place > 0 GROUP BY p.name;
SELECT p.name, sum(100 / (s.place - 24)) FROM sales s JOIN places p USING (place) GROUP BY p.name;
SELECT p.name, sum(p.weight), count(*) FROM sales s JOIN places p USING (place) GROUP BY p.name;
SELECT p.name, count(DISTINCT s.code), sum(s.qty) FROM sales s JOIN places p USING (place) GROUP BY p.name;
-- @approx
SELECT p.name, sum(s.ratio), stddev(s.qty) FROM sales s JOIN places p USING (place) WHERE s.ratio < 1000 GROUP BY p.name;
SELECT p.name, string_agg(s.code, ',' ORDER BY s.id) FROM sales s JOIN places p USING (place) WHERE s.id < 30 GROUP BY p.name;
SELECT a.place, count(*) FROM sales a JOIN sales b USING (shop, id) JOIN places p ON p.place = a.place GROUP BY a.place;
SELECT p.name, count(*) FROM sales s JOIN places p USING (place) WHERE s.id IN (SELECT weight FROM places) GROUP BY p.name;
SELECT s.shop, s.id, s.code, count(*) FROM sales s JOIN places p USING (place) GROUP BY s.shop, s.id;
SELECT p.name, count(*), count(s) FROM sales s JOIN places p USING (place) GROUP BY p.name;
WITH big AS (SELECT * FROM sales WHERE qty > 5) SELECT p.name, count(*) FROM big JOIN places p USING (place) GROUP BY p.name;

-- Values told apart before they are counted.
SELECT count(DISTINCT shop) FROM sales;
SELECT count(DISTINCT shop), sum(DISTINCT shop), min(DISTINCT shop), avg(DISTINCT shop) + 1 FROM sales WHERE qty < 7;
SELECT count(DISTINCT shop) FROM sales WHERE shop IN (1, 2, 3, 77);
SELECT count(DISTINCT s.shop) FROM sales s JOIN places p USING (place) WHERE p.weight < 4;
SELECT count(DISTINCT shop), count(*) FROM sales;
SELECT count(DISTINCT shop) FILTER (WHERE flag) FROM sales;
SELECT count(DISTINCT shop) FROM sales WHERE id < 0;
SELECT count(DISTINCT shop) FROM sales HAVING count(DISTINCT shop) > 10;
SELECT count(DISTINCT item_id) FROM events;
SELECT count(DISTINCT code), min(DISTINCT code) FROM accounts;
SELECT count(DISTINCT p), sum(DISTINCT p) FROM prices WHERE abs(p) < 1e40;
SELECT count(DISTINCT c) FROM labels;
SELECT count(DISTINCT at), max(DISTINCT at) FROM stamps;
SELECT count(DISTINCT place), count(DISTINCT part), count(DISTINCT ratio) FROM sales;
SELECT count(DISTINCT part), trunc(sum(DISTINCT part), 1) FROM sales;
SELECT count(DISTINCT ratio) FROM sales;
SELECT count(DISTINCT code COLLATE "C"), count(DISTINCT lower(code)) FROM sales;

-- And not.
SET sharding.early_grouping = off;
SELECT p.name, count(*), sum(s.amount), avg(s.amount), min(s.id), max(s.at) FROM sales s JOIN places p USING (place) GROUP BY p.name;
SELECT count(DISTINCT shop) FROM sales;
RESET sharding.early_grouping;
SELECT p.name, count(*), sum(s.amount), avg(s.amount), min(s.id), max(s.at) FROM sales s JOIN places p USING (place) GROUP BY p.name;
SELECT count(DISTINCT shop) FROM sales;
