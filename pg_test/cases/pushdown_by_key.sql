-- @readonly
-- Joins on the shard key of one side only: each row of the other goes to the node of its value. All kinds of joins, NULLs among
-- the values, types that differ on both sides, what must not be cut.

SET sharding.ship_joins = always;

-- Inner joins, with and without aggregates, by the value and by other columns.
SELECT o.order_id, i.txt FROM orders o JOIN items i ON i.id = o.order_id WHERE o.total > 50;
SELECT count(*), sum(i.small), max(o.total) FROM orders o JOIN items i ON i.id = o.order_id;
SELECT i.k, count(*) FROM orders o JOIN items i ON i.id = o.order_id GROUP BY i.k;
SELECT o.order_id, count(*), sum(i.small) FROM orders o JOIN items i ON i.id = o.order_id GROUP BY o.order_id;
SELECT d.title, i.id, e.seq FROM docs d JOIN items i ON i.id = d.item_id JOIN events e ON e.item_id = d.item_id;
SELECT d.title, count(DISTINCT e.seq), count(DISTINCT o.customer) FROM docs d JOIN events e ON e.item_id = d.item_id JOIN orders o ON o.order_id = d.item_id GROUP BY d.title;

-- Outer joins that keep what is sent.
SELECT e.seq, d.title FROM docs d LEFT JOIN events e ON e.item_id = d.item_id;
SELECT d.title, e.seq FROM events e RIGHT JOIN docs d ON e.item_id = d.item_id AND e.seq < 60;
SELECT count(*), count(i.id), count(e.seq) FROM events e LEFT JOIN bigs i ON i.id = e.item_id;
SELECT i.k, i.id, o.order_id, o.customer FROM items i LEFT JOIN orders o ON o.tenant_id = i.k;
SELECT i.k, count(*), count(o.order_id), sum(o.total) FROM items i LEFT JOIN orders o ON o.tenant_id = i.k GROUP BY i.k;
SELECT i.k, count(*), count(DISTINCT i.id) FROM items i LEFT JOIN orders o ON o.tenant_id = i.k WHERE o.tenant_id IS NULL GROUP BY i.k;
SELECT i.id, o.order_id FROM items i LEFT JOIN orders o ON o.tenant_id = i.k AND i.ok WHERE i.id < 30;
SELECT i.id, o.order_id, l.line FROM items i LEFT JOIN (orders o JOIN order_lines l USING (tenant_id, order_id)) ON o.tenant_id = i.k;
SELECT i.id, o.order_id, l.line FROM items i LEFT JOIN orders o ON o.tenant_id = i.k LEFT JOIN order_lines l ON l.tenant_id = i.k AND l.order_id = o.order_id;
SELECT l.word, i.id FROM loc l LEFT JOIN items i ON i.id = l.item_id;
SELECT l.word, l.item_id, i.txt FROM items i RIGHT JOIN loc l ON i.id = l.item_id AND i.k > 3;
-- @ordered
SELECT i.k, count(o.order_id) FROM items i LEFT JOIN orders o ON o.tenant_id = i.k GROUP BY i.k ORDER BY i.k NULLS FIRST LIMIT 4;
SELECT DISTINCT i.k, o.customer FROM items i LEFT JOIN orders o ON o.tenant_id = i.k;
SELECT DISTINCT i.k FROM items i LEFT JOIN orders o ON o.tenant_id = i.k;
SELECT i.id, row_number() OVER (PARTITION BY i.k ORDER BY i.id, o.order_id) FROM items i LEFT JOIN orders o ON o.tenant_id = i.k;

-- Full joins, where both sides have rows without a match and NULLs.
SELECT i.id, i.k, o.order_id FROM items i FULL JOIN orders o ON o.tenant_id = i.k;
SELECT count(*), count(i.id), count(o.order_id), sum(o.total) FROM items i FULL JOIN orders o ON o.tenant_id = i.k;
SELECT coalesce(i.k, o.tenant_id) AS t, count(*) FROM items i FULL JOIN orders o ON o.tenant_id = i.k GROUP BY 1;
SELECT l.word, i.id FROM loc l FULL JOIN items i ON i.id = l.item_id;
SELECT d.title, e.seq FROM docs d FULL JOIN events e ON e.item_id = d.item_id WHERE d.title IS NULL OR e.seq IS NULL;

-- Semi and anti joins, on either side.
SELECT o.order_id FROM orders o WHERE o.tenant_id IN (SELECT k FROM items WHERE small > 2);
SELECT o.order_id FROM orders o WHERE EXISTS (SELECT FROM items i WHERE i.k = o.tenant_id AND i.small > 2);
SELECT o.order_id FROM orders o WHERE NOT EXISTS (SELECT FROM items i WHERE i.k = o.tenant_id AND i.small > 2);
SELECT o.order_id FROM orders o WHERE NOT EXISTS (SELECT FROM items i WHERE i.k = o.tenant_id AND i.small > o.order_id % 5);
SELECT o.order_id FROM orders o WHERE o.tenant_id NOT IN (SELECT k FROM items WHERE small > 2 AND k IS NOT NULL);
SELECT o.order_id FROM orders o WHERE o.tenant_id NOT IN (SELECT k FROM items WHERE small > 5);
SELECT o.order_id FROM orders o WHERE o.tenant_id IN (SELECT k FROM items WHERE small > 5) OR o.order_id < 5;
SELECT o.order_id, o.tenant_id IN (SELECT k FROM items WHERE small > 5) FROM orders o;
SELECT o.order_id, (SELECT count(*) FROM items i WHERE i.k = o.tenant_id) FROM orders o;
SELECT i.id FROM items i WHERE i.k IN (SELECT tenant_id FROM orders WHERE total > 300);
SELECT i.id FROM items i WHERE NOT EXISTS (SELECT FROM orders o WHERE o.tenant_id = i.k AND o.total > 300);
SELECT count(*) FROM items i WHERE NOT EXISTS (SELECT FROM orders o JOIN order_lines l USING (tenant_id, order_id) WHERE o.tenant_id = i.k AND l.qty > 3);
SELECT i.k, count(*) FROM items i WHERE NOT EXISTS (SELECT FROM orders o WHERE o.tenant_id = i.k AND o.total > i.id) GROUP BY i.k;
SELECT l.word FROM loc l WHERE NOT EXISTS (SELECT FROM items i WHERE i.id = l.item_id AND i.ok);
SELECT i.id FROM items i WHERE NOT EXISTS (SELECT FROM loc l WHERE l.item_id = i.id);
SELECT i.id FROM items i WHERE NOT EXISTS (SELECT * FROM docs d WHERE d.item_id = i.id);
SELECT i.id FROM items i WHERE EXISTS (SELECT d.*, 1 / 0 FROM docs d WHERE d.item_id = i.id);
SELECT i.id FROM items i WHERE EXISTS (SELECT count(*) FROM docs d WHERE d.item_id = i.id);
SELECT i.id FROM items i WHERE EXISTS (SELECT count(*) FROM docs d WHERE d.item_id = i.id HAVING count(*) > 1);
SELECT i.id FROM items i WHERE EXISTS (SELECT DISTINCT d.title FROM docs d WHERE d.item_id = i.id ORDER BY d.title LIMIT 1);
SELECT i.id FROM items i WHERE EXISTS (SELECT * FROM docs d WHERE d.item_id = 3 ORDER BY d.title);
SELECT count(*) FROM items i JOIN (SELECT DISTINCT 1 AS one, item_id, 'x'::text AS x FROM docs) d ON d.item_id = i.id AND d.one = 1;
SELECT count(*) FROM items i, (SELECT DISTINCT 1 AS one FROM docs) d WHERE d.one < i.id;

-- Subqueries: grouped by the value, set operations, LATERAL, CTEs.
SELECT o.tenant_id, sum(x.n), count(*) FROM orders o JOIN (SELECT k, count(*) n FROM items GROUP BY k) x ON x.k = o.tenant_id GROUP BY o.tenant_id;
SELECT x.k, x.n, o.order_id FROM (SELECT k, count(*) n FROM items GROUP BY k) x LEFT JOIN orders o ON o.tenant_id = x.k;
SELECT x.k, o.order_id FROM (SELECT DISTINCT k FROM items) x FULL JOIN orders o ON o.tenant_id = x.k;
SELECT x.k, o.order_id FROM (SELECT k FROM items UNION SELECT item_id FROM docs) x LEFT JOIN orders o ON o.tenant_id = x.k;
WITH x AS (SELECT k, max(price) p FROM items GROUP BY k) SELECT o.order_id, x.p FROM orders o JOIN x ON x.k = o.tenant_id;
WITH x AS MATERIALIZED (SELECT k, small FROM items WHERE ok) SELECT a.k, b.small, o.order_id FROM x a JOIN x b ON a.k = b.k JOIN orders o ON o.tenant_id = a.k;
SELECT o.order_id, x.id FROM orders o, LATERAL (SELECT i.id FROM items i WHERE i.k = o.tenant_id ORDER BY i.id LIMIT 1) x;
SELECT i.id, x.order_id FROM items i, LATERAL (SELECT o.order_id FROM orders o WHERE o.tenant_id = i.k ORDER BY o.order_id LIMIT 1) x;
SELECT i.id, x.n FROM items i LEFT JOIN LATERAL (SELECT sum(o.total) n FROM orders o WHERE o.tenant_id = i.k) x ON true;
SELECT count(*) FROM (SELECT k FROM items i LEFT JOIN orders o ON o.tenant_id = i.k INTERSECT SELECT tenant_id FROM orders) x;
SELECT count(*) FROM (SELECT k FROM items i LEFT JOIN orders o ON o.tenant_id = i.k EXCEPT SELECT tenant_id FROM orders) x;

-- Types that differ.
SELECT b.id, b.v, s.v FROM bigs b LEFT JOIN smalls s ON s.id = b.v;
SELECT s.id, b.v FROM smalls s LEFT JOIN bigs b ON b.id = s.id;
SELECT s.id, b.id FROM smalls s FULL JOIN bigs b ON b.id = s.id;
SELECT count(*), count(b.id) FROM items i LEFT JOIN bigs b ON b.id = i.small;
SELECT b.id, i.id FROM bigs b LEFT JOIN items i ON i.id = b.other;
SELECT b.id, i.id FROM bigs b LEFT JOIN items i ON i.id = b.v;
SELECT p.label, i.id FROM items i LEFT JOIN prices p ON p.p = i.free;
SELECT p.label, i.id FROM items i LEFT JOIN prices p ON p.p = i.price;
SELECT p.label, i.id FROM items i LEFT JOIN prices p ON p.p = i.id;
SELECT p.label, i.id FROM items i LEFT JOIN prices p ON p.p = i.pct;
SELECT p.label, b.v FROM bigs b LEFT JOIN prices p ON p.p = b.v;
SELECT a.owner, i.id, i.vc FROM items i LEFT JOIN accounts a ON a.code = i.vc;
SELECT a.owner, i.id, i.txt FROM items i LEFT JOIN accounts a ON a.code = i.txt;
SELECT a.owner, i.id FROM items i LEFT JOIN accounts a ON a.code = i.ctext COLLATE "C";
SELECT a.owner, i.id FROM items i LEFT JOIN accounts a ON a.code = i.ch;
SELECT count(*) FROM items i LEFT JOIN labels l ON l.c = i.ch;
SELECT count(*), count(l.n) FROM items i LEFT JOIN labels l ON l.c = i.txt;
SELECT i.id, d.what FROM items i LEFT JOIN days d ON d.d = i.d;
SELECT i.id, d.what FROM items i LEFT JOIN days d ON d.d = i.ts;
SELECT i.d, d.what, count(*) FROM items i FULL JOIN days d ON d.d = i.d GROUP BY i.d, d.what;
SELECT i.id, s.n FROM items i LEFT JOIN stamps s ON s.at = i.tstz;
SELECT i.id, s.n FROM items i LEFT JOIN stamps s ON s.at = i.ts AT TIME ZONE 'UTC';
SELECT i.id, d.title FROM items i LEFT JOIN docs d ON d.id = i.u;
SELECT count(*) FROM items i LEFT JOIN bigs b ON b.id = i.f8;

-- All types go along.
SELECT o.order_id, i.small, i.big, i.price, i.free, i.r4, i.f8, i.txt, i.ctext, i.vc, i.ch, i.raw, i.ok, i.d, i.ts, i.tstz, i.tm, i.iv, i.u, i.j, i.jb FROM items i LEFT JOIN orders o ON o.tenant_id = i.k;
SELECT o.order_id, i.feel, i.pct, i.span, i.ip, i.bits FROM items i LEFT JOIN orders o ON o.tenant_id = i.k;
SELECT o.order_id, count(i.feel), max(i.pct), min(i.ctext) FROM items i RIGHT JOIN orders o ON o.tenant_id = i.k GROUP BY o.order_id;
SELECT l.word, l.feel, l.amt, i.feel FROM loc l LEFT JOIN items i ON i.id = l.item_id;

-- Parameters; one node only; a value that the statement computes.
-- @params(3)
SELECT i.id, o.order_id FROM items i LEFT JOIN orders o ON o.tenant_id = i.k WHERE i.small > $1::int;
-- @params(3)
SELECT i.id, o.order_id FROM items i JOIN orders o ON o.tenant_id = i.k WHERE o.tenant_id = $1::int;
SELECT i.id, o.order_id FROM items i LEFT JOIN orders o ON o.tenant_id = i.k WHERE i.k = 4;
SELECT i.id, o.order_id FROM items i JOIN orders o ON o.tenant_id = i.k WHERE i.k IN (2, 5, 7);
SELECT i.id, o.order_id FROM items i LEFT JOIN orders o ON o.tenant_id = i.k WHERE i.price > (SELECT avg(price) FROM items);
SELECT i.id, o.order_id FROM items i LEFT JOIN orders o ON o.tenant_id = i.k WHERE false;
PREPARE twice AS SELECT i.k, count(o.order_id) FROM items i LEFT JOIN orders o ON o.tenant_id = i.k GROUP BY i.k;
EXECUTE twice;
EXECUTE twice;
DEALLOCATE twice;
-- Two shipments, and the same one read twice.
SELECT o.order_id, i.id, d.title FROM orders o LEFT JOIN items i ON i.k = o.tenant_id LEFT JOIN docs d ON d.item_id = o.tenant_id;
SELECT count(*) FROM items a JOIN items b ON a.k = b.id JOIN orders o ON o.tenant_id = b.k;
SELECT (SELECT count(*) FROM items i LEFT JOIN orders o ON o.tenant_id = i.k WHERE i.small > l.id), l.id FROM loc l;

RESET sharding.ship_joins;

-- More to send than expected: one row for each of 500 by estimate, half of them there.
CREATE TEMP TABLE many (a int, b int, c text);
INSERT INTO many SELECT g, g % 12, repeat('x', 200) FROM generate_series(1, 30000) g;
ANALYZE many;
SET sharding.ship_joins = always;
SET sharding.max_shipped_size = '64kB';
SELECT count(*), sum(length(c)), count(o.order_id) FROM many m LEFT JOIN orders o ON o.tenant_id = m.b WHERE m.a % 2 = 0;
SELECT o.tenant_id, count(*), sum(length(c)) FROM many m JOIN orders o ON o.tenant_id = m.b WHERE m.a % 2 = 0 GROUP BY o.tenant_id;
-- @ordered
SELECT m.a, o.order_id FROM many m JOIN orders o ON o.tenant_id = m.b WHERE m.a % 2 = 0 ORDER BY 1, 2 LIMIT 20;
-- @ordered
SELECT o.order_id, count(*) FROM many m JOIN orders o ON o.order_id = m.b WHERE m.a % 2 = 0 AND length(m.c) > 3 GROUP BY o.order_id ORDER BY o.order_id;
SELECT o.order_id FROM orders o WHERE o.tenant_id IN (SELECT b FROM many m WHERE m.a % 2 = 0 AND length(m.c) = 200);
SELECT l.id, (SELECT count(*) FROM many m JOIN orders o ON o.tenant_id = m.b WHERE m.a % 2 = 0 AND length(m.c) > 3) FROM loc l;
SELECT l.id, x.n FROM loc l LEFT JOIN (SELECT o.tenant_id t, sum(length(m.c)) n FROM many m JOIN orders o ON o.tenant_id = m.b WHERE m.a % 2 = 0 GROUP BY 1) x ON x.t = l.id;
BEGIN;
DECLARE joined CURSOR FOR SELECT m.a, o.order_id FROM many m JOIN orders o ON o.tenant_id = m.b WHERE m.a % 2 = 0 AND length(m.c) > 3 ORDER BY 1, 2;
-- @ordered
FETCH 3 FROM joined;
-- @ordered
FETCH 3 FROM joined;
COMMIT;
RESET sharding.max_shipped_size;
RESET sharding.ship_joins;
DROP TABLE many;
