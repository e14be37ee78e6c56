-- @readonly
-- Joins that are not on the shard key, where the smaller side's rows are sent to the nodes: tables with filters,
-- tables of the coordinator, subqueries; NULLs and duplicates among them; all types of columns; what must not be shipped.

SET sharding.ship_joins = always;

-- Inner joins: the other columns' values decide what meets.
SELECT i.id, e.seq FROM items i JOIN events e ON e.seq % 60 = i.k WHERE i.price > 10;
SELECT count(*), sum(e.amount), min(i.txt) FROM items i JOIN events e ON e.item_id = i.k;
SELECT i.k, count(*), sum(e.amount) FROM items i JOIN events e ON e.item_id = i.k GROUP BY i.k;
SELECT e.item_id, count(*), max(i.txt) FROM items i JOIN events e ON e.item_id = i.k WHERE i.id < 40 GROUP BY e.item_id;
SELECT d.title, i.id, i.feel FROM docs d JOIN items i ON i.id = d.item_id;
SELECT d.title, count(*), count(DISTINCT i.id), count(DISTINCT e.seq) FROM docs d JOIN items i ON i.id = d.item_id JOIN events e ON e.item_id = i.id GROUP BY d.title;
SELECT a.code, o.order_id FROM accounts a JOIN orders o ON a.owner = 'owner' || o.tenant_id WHERE a.balance > 30 AND o.total > 100;
SELECT count(*) FROM bigs b JOIN smalls s ON b.v = s.id;
SELECT count(*) FROM bigs b, smalls s, prices p WHERE b.v = s.id AND p.n = b.v;
SELECT o.tenant_id, sum(l.qty), count(DISTINCT i.id) FROM orders o JOIN order_lines l USING (tenant_id, order_id) JOIN items i ON i.k = l.line GROUP BY o.tenant_id;
-- @ordered
SELECT e.seq, i.id FROM events e JOIN items i ON i.k = e.seq ORDER BY e.seq, i.id LIMIT 7;
-- @ordered
SELECT DISTINCT i.k, e.kind FROM events e JOIN items i ON i.k = e.item_id ORDER BY 1, 2 LIMIT 9 OFFSET 2;
SELECT i.id, row_number() OVER (PARTITION BY e.item_id ORDER BY e.seq, i.id) FROM events e JOIN items i ON i.k = e.item_id;
-- Not an equality, and no condition at all.
SELECT count(*) FROM items i, docs d WHERE i.id < d.item_id;
SELECT count(*) FROM smalls, labels;
SELECT count(*), sum(s.id) FROM smalls s, (SELECT 1 FROM stamps) x;
-- What each arm of a disjunction says of a table.
SELECT count(*) FROM items i, events e WHERE (e.item_id = i.k AND i.ok AND e.seq < 50) OR (e.item_id = i.k AND i.small = 3 AND e.seq > 100);
SELECT count(*) FROM items i, events e WHERE (e.item_id = i.k AND i.ok) OR (e.item_id = i.k AND e.seq > 100);

-- Tables of the coordinator.
SELECT l.word, i.id, i.txt FROM loc l JOIN items i ON i.id = l.item_id;
SELECT l.feel, count(*) FROM loc l JOIN items i ON i.feel = l.feel GROUP BY l.feel;
SELECT i.id FROM items i WHERE i.txt IN (SELECT w FROM words);
SELECT i.id FROM items i WHERE i.k NOT IN (SELECT n FROM words WHERE n IS NOT NULL);
SELECT i.id, v.v FROM items i LEFT JOIN empty_local v ON v.id = i.id;
SELECT count(*) FROM items i JOIN empty_local v ON v.id = i.id;
SELECT count(*), sum(v.id) FROM items i, empty_local v;
SELECT c.relname, i.id FROM pg_class c JOIN items i ON i.txt = c.relname;
SELECT count(*) FROM items i JOIN pg_class c ON c.relname = 'items' AND i.id < 5;

-- Outer joins: the nullable side may be shipped, the preserved one not.
SELECT i.id, d.title FROM items i LEFT JOIN docs d ON d.item_id = i.id;
SELECT i.id, d.title FROM items i LEFT JOIN docs d ON d.item_id = i.k AND d.title > 'title 3';
SELECT i.id, d.title FROM items i RIGHT JOIN docs d ON d.item_id = i.id;
SELECT i.id, d.title FROM docs d RIGHT JOIN items i ON d.item_id = i.id WHERE d.title IS NULL;
SELECT i.id, d.title FROM items i FULL JOIN docs d ON d.item_id = i.id;
SELECT i.id, count(d.id), max(d.title) FROM items i LEFT JOIN docs d ON d.item_id = i.k GROUP BY i.id;
SELECT l.id, i.id FROM loc l LEFT JOIN items i ON i.id = l.item_id;
SELECT i.id, e.seq, d.title FROM items i LEFT JOIN events e ON e.item_id = i.id LEFT JOIN docs d ON d.item_id = e.seq WHERE i.id < 20;
SELECT i.id, d.title, s.v FROM items i LEFT JOIN (docs d JOIN smalls s ON s.id = d.item_id) ON d.item_id = i.id;

-- Semi and anti joins, with NULLs on either side.
SELECT id FROM items i WHERE EXISTS (SELECT 1 FROM docs d WHERE d.item_id = i.id);
SELECT id FROM items i WHERE NOT EXISTS (SELECT 1 FROM docs d WHERE d.item_id = i.id AND d.title > 'title 2');
SELECT id FROM items i WHERE EXISTS (SELECT 1 FROM events e WHERE e.item_id = i.k);
SELECT id FROM items i WHERE NOT EXISTS (SELECT 1 FROM events e WHERE e.item_id = i.k);
SELECT count(*) FROM items WHERE k IN (SELECT item_id FROM events);
SELECT count(*) FROM items WHERE k NOT IN (SELECT item_id FROM events);
SELECT count(*) FROM items WHERE k NOT IN (SELECT item_id FROM events WHERE item_id IS NOT NULL);
SELECT count(*) FROM items WHERE (k IN (SELECT item_id FROM events)) IS NULL;
SELECT count(*) FROM items WHERE (id, k) IN (SELECT item_id, seq % 10 FROM events);
SELECT count(*) FROM items WHERE k > ALL (SELECT item_id FROM events WHERE seq < 4);
SELECT count(*) FROM items WHERE k < ANY (SELECT item_id FROM events WHERE seq < 4);
SELECT count(*) FROM items WHERE EXISTS (SELECT 1 FROM docs WHERE title = 'title 3');
SELECT count(*) FROM items WHERE EXISTS (SELECT 1 FROM docs WHERE title = 'title 30');
SELECT count(*) FROM items WHERE EXISTS (SELECT DISTINCT title FROM docs ORDER BY title);
SELECT count(*) FROM items WHERE EXISTS (SELECT count(*) FROM docs WHERE title = 'title 30');
SELECT count(*) FROM items WHERE k = (SELECT item_id FROM events WHERE seq = 3);
SELECT count(*) FROM items WHERE k = (SELECT item_id FROM events WHERE seq = 3000);
-- @error(21000)
SELECT count(*) FROM items WHERE k = (SELECT item_id FROM events);
SELECT id, ARRAY(SELECT d.title FROM docs d WHERE d.item_id < 10 ORDER BY d.title) FROM items WHERE id < 4;
SELECT id, (SELECT max(d.title) FROM docs d WHERE d.item_id = i.id) FROM items i;
SELECT id, (SELECT count(*) FROM docs d JOIN smalls s ON s.id = d.item_id WHERE d.item_id = i.id) FROM items i;

-- Subqueries and CTEs.
SELECT i.id, x.n FROM items i JOIN (SELECT k, count(*) AS n FROM items GROUP BY k) x ON x.k = i.id;
SELECT i.id, x.n FROM items i LEFT JOIN (SELECT kind, count(*) AS n, NULL::int AS nothing FROM events GROUP BY kind) x ON x.kind = i.feel;
SELECT i.id FROM items i, (SELECT 1 AS one FROM docs LIMIT 3) x;
-- @ordered
SELECT i.id, x.seq FROM items i JOIN (SELECT item_id, seq FROM events ORDER BY seq DESC LIMIT 5) x ON x.item_id = i.k ORDER BY 1, 2;
WITH few AS (SELECT item_id, title FROM docs WHERE title < 'title 4') SELECT i.id, f.title FROM items i JOIN few f ON f.item_id = i.id;
WITH few AS MATERIALIZED (SELECT DISTINCT item_id FROM docs) SELECT count(*) FROM items a JOIN few f ON f.item_id = a.id JOIN few g ON g.item_id = a.k;
WITH a AS (SELECT id, k FROM items), b AS (SELECT item_id FROM docs) SELECT count(*) FROM a, b WHERE a.k = b.item_id;
WITH unused AS (SELECT 1 / 0 FROM docs) SELECT count(*) FROM items i JOIN events e ON e.seq = i.k;
SELECT count(*) FROM item_names n JOIN docs d ON d.item_id = n.id WHERE n.name > 'a';
SELECT i.id, l.title FROM items i, LATERAL (SELECT d.title FROM docs d WHERE d.item_id = i.id) l;
SELECT i.id, l.n FROM items i, LATERAL (SELECT count(*) AS n FROM docs d WHERE d.item_id < i.id) l WHERE i.id < 9;
SELECT id FROM items WHERE k = 3 UNION SELECT i.id FROM items i JOIN docs d ON d.item_id = i.k;
SELECT x.c FROM (SELECT count(*) AS c FROM items i JOIN docs d ON d.item_id = i.k) x;
SELECT a.id, b.id, c.seq FROM items a JOIN items b ON b.id = a.k JOIN events c ON c.seq = b.k WHERE a.id < 30;
SELECT count(*) FROM items a JOIN items b USING (k) JOIN items c USING (k);
SELECT k, count(*) FROM items NATURAL JOIN (SELECT k, id AS other FROM items WHERE id < 20) b GROUP BY k;
SELECT i.id, i.k, e.seq FROM items i JOIN events e (k) ON e.k = i.k WHERE e.seq < 70;
-- Grouping by a primary key stands for the table's other columns.
SELECT i.id, i.txt, count(*) FROM items i JOIN docs d ON d.item_id < i.id GROUP BY i.id;
SELECT d.title, d.id, count(*) FROM items i JOIN docs d ON d.item_id = i.k GROUP BY d.id;

-- Rows that reference tables leave out.
SELECT a.code, c.name, i.id FROM accounts a JOIN countries c ON c.code = a.country JOIN items i ON i.k = length(a.code) WHERE c.region = 'Europe';
SELECT c.region, count(*) FROM accounts a, countries c, items i WHERE c.code = a.country AND i.txt > a.code AND c.people > 70000000 GROUP BY c.region;
SELECT count(*) FROM items i, docs d, products p WHERE d.item_id = p.id AND p.category = 'cat1' AND i.k = d.item_id;
SELECT count(*) FROM items i, orders o, order_lines l, products p WHERE o.tenant_id = i.k AND l.tenant_id = i.k AND l.product_id = p.id AND p.price > 50;
SELECT count(*) FROM items i LEFT JOIN (accounts a JOIN countries c ON c.code = a.country AND c.region = 'Asia') ON length(a.code) = i.k;

-- Each type travels and comes back.
SELECT d.title, i.small, i.big, i.price, i.free, i.r4, i.f8 FROM docs d JOIN items i ON i.id = d.item_id;
SELECT d.title, i.txt, i.ctext, i.vc, i.ch, i.raw, i.ok, i.d, i.ts, i.tstz, i.tm, i.iv, i.u FROM docs d JOIN items i ON i.id = d.item_id;
SELECT d.title, i.feel, i.jb, i.pct, i.span, i.ip, i.bits FROM docs d JOIN items i ON i.id = d.item_id;
SELECT d.title, i.ints, i.texts, i.pt FROM docs d JOIN items i ON i.id = d.item_id;
SELECT d.title, i FROM docs d JOIN items i ON i.id = d.item_id WHERE i.id < 9;
SELECT d.title, i.tableoid::regclass FROM docs d JOIN items i ON i.id = d.item_id;
SELECT i.id, a.ctext FROM items i JOIN items a ON a.k = i.id WHERE a.ctext > 'a';
-- @ordered
SELECT a.ctext, i.id FROM items i JOIN items a ON a.k = i.id ORDER BY a.ctext, i.id, a.id LIMIT 12;
SELECT max(a.ctext), min(a.ctext COLLATE "C") FROM items i JOIN items a ON a.k = i.id;
SELECT length(a.ch || 'x'), a.ch = 'c1', i.id FROM items i JOIN items a ON a.k = i.id;
SELECT e.kind, count(*) FROM events e JOIN items i ON i.feel = e.kind AND i.k = e.seq % 10 GROUP BY e.kind;
SELECT count(*) FROM days d JOIN items i ON i.d = d.d;
SELECT p.label, b.v FROM prices p JOIN bigs b ON b.v = p.p;

-- Parameters, and values that the statement computes once.
-- @params(20)
SELECT i.id, d.title FROM items i JOIN docs d ON d.item_id = i.k WHERE i.id < $1::int;
-- @params(3, 50)
SELECT count(*) FROM items i JOIN docs d ON d.item_id > i.k WHERE i.id < $2::int AND d.item_id > $1::int;
SELECT count(*) FROM items i JOIN docs d ON d.item_id = i.k WHERE i.price > (SELECT avg(price) FROM items);
SELECT count(*) FROM items i JOIN docs d ON d.item_id = i.k AND i.tstz < now();
SELECT count(*) > 0 FROM items i JOIN docs d ON d.item_id = i.k AND random() < 2;

-- Subqueries for each row that are joined instead, with what the filters of a table around say of their groups.
SELECT seq FROM events e WHERE e.amount > (SELECT avg(i.price) FROM items i WHERE i.k = e.item_id);
SELECT seq FROM events e WHERE e.amount > (SELECT 0.5 * max(i.price) - 1 FROM items i WHERE i.k = e.item_id) AND e.seq < 90;
SELECT id FROM items i WHERE i.price >= (SELECT max(j.price) FROM items j WHERE j.k = i.k);
SELECT id FROM items i WHERE i.price >= (SELECT max(j.price) FROM items j WHERE i.small = j.small AND j.k = i.k AND j.ok) AND i.id < 50;
SELECT count(*), sum(p.id) FROM items p, events e WHERE e.seq = p.k AND p.ok AND e.amount < (SELECT 20 + avg(x.amount) FROM events x WHERE x.seq = p.k);
SELECT i.k, count(*) FROM items i WHERE i.id < (SELECT max(e.seq) FROM events e, docs d WHERE e.seq = i.k AND d.item_id = i.small AND e.item_id > d.item_id) GROUP BY i.k;
SELECT d.title FROM docs d WHERE d.item_id IN (SELECT e.seq FROM events e WHERE e.item_id IN (SELECT i.k FROM items i WHERE i.ok) AND e.seq > (SELECT avg(j.small) FROM items j WHERE j.k = e.item_id AND j.small < 6));
SELECT d.title FROM docs d WHERE d.item_id IN (SELECT e.seq FROM events e WHERE e.seq > (SELECT sum(j.small) FROM items j WHERE j.k = e.item_id AND j.small = e.seq) OR e.seq < 20);
SELECT p.name FROM products p WHERE p.price < (SELECT 3 * sum(l.qty) FROM order_lines l WHERE l.product_id = p.id);
SELECT p.name FROM products p WHERE p.category = 'cat1' AND p.id IN (SELECT item_id FROM docs) AND p.price > (SELECT min(l.qty) FROM order_lines l WHERE l.product_id = p.id);
SELECT i.id FROM items i LEFT JOIN docs d ON d.item_id = i.id WHERE i.id < (SELECT max(e.seq) FROM events e WHERE e.seq = d.item_id);
SELECT l.id FROM loc l WHERE l.item_id < (SELECT max(i.small) + 10 FROM items i WHERE i.k = l.item_id);
-- Keys of other types, odd values, NULLs.
SELECT b.id FROM bigs b WHERE b.v < (SELECT avg(i.id) FROM items i WHERE i.small = b.v);
SELECT b.id FROM bigs b WHERE b.v < (SELECT max(i.id) FROM items i WHERE b.id = i.k);
SELECT i.id FROM items i WHERE i.id <= (SELECT min(j.id) FROM items j WHERE j.f8 = i.f8);
SELECT i.id FROM items i WHERE i.id <= (SELECT min(j.id) FROM items j WHERE j.free = i.free AND j.ok);
SELECT i.id FROM items i WHERE i.id <= (SELECT min(j.id) FROM items j WHERE j.ctext = i.ctext);
SELECT i.id FROM items i WHERE i.id <= (SELECT min(j.id) FROM items j WHERE j.ch = i.ch AND j.vc = i.vc);
SELECT i.id FROM items i WHERE i.id < (SELECT max(e.seq) FROM events e WHERE e.kind = i.feel AND e.seq < 40);
-- What is not the same when joined.
SELECT i.id FROM items i WHERE coalesce((SELECT sum(e.seq) FROM events e WHERE e.seq = i.k), 0) = 0;
SELECT i.id FROM items i WHERE (SELECT count(*) FROM events e WHERE e.seq = i.k) = 0;
SELECT i.id FROM items i WHERE (SELECT coalesce(sum(e.seq), 0) FROM events e WHERE e.seq = i.k) = 0;
SELECT i.id FROM items i WHERE (SELECT sum(e.seq) FROM events e WHERE e.seq = i.k) IS NULL;
SELECT i.id FROM items i WHERE NOT (i.k < (SELECT avg(e.seq) FROM events e WHERE e.seq = i.k));
SELECT i.id FROM items i WHERE i.id < 5 OR i.k < (SELECT 1 + avg(e.seq) FROM events e WHERE e.seq = i.k);
SELECT i.id FROM items i WHERE i.k IS NOT DISTINCT FROM (SELECT max(e.seq) FROM events e WHERE e.seq = i.k);
SELECT i.id FROM items i WHERE i.id > (SELECT max(1000 / (e.seq - 3)) FROM events e WHERE e.seq = i.k AND e.seq <> 3);
SELECT i.id, (SELECT max(e.seq) FROM events e WHERE e.seq = i.k) FROM items i;
SELECT i.k, count(*) FROM items i GROUP BY i.k HAVING i.k >= (SELECT max(e.seq) FROM events e WHERE e.seq = i.k);

-- Filters of shipped tables, which the join need not check.
SELECT i.id, d.title FROM items i, docs d WHERE d.item_id = i.k AND i.k = 2;
SELECT i.id, d.title FROM items i, docs d WHERE d.item_id = i.k AND d.item_id = 2 AND d.title > 'title' AND i.ok;
SELECT i.id, d.title FROM items i LEFT JOIN docs d ON d.item_id = i.k AND d.title > 'title 3' AND i.ok WHERE i.id > 5;
SELECT i.id, d.title FROM items i LEFT JOIN docs d ON d.item_id = i.k AND d.title > 'title 3' WHERE d.title < 'title 6' OR d.title IS NULL;
SELECT count(*) FROM items i, docs d, events e WHERE d.item_id = i.k AND e.seq = i.k AND d.title > 'title 2' AND e.kind = 'ok' AND i.small > 1;

-- A list of many keys.
SELECT count(*) FROM items WHERE id = ANY (ARRAY(SELECT g FROM generate_series(1, 100000) g));
SELECT count(*), sum(id) FROM items WHERE id IN (SELECT g * 3 FROM generate_series(1, 1000) g);
SELECT count(*) FROM items WHERE id = ANY ((SELECT array_agg(g) FROM generate_series(20, 1000000) g)::int[]);

RESET sharding.ship_joins;
