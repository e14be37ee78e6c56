-- @readonly
-- The nodes sort, the coordinator merges: ORDER BY, groups, windows, DISTINCT, joins above.

-- @ordered
SELECT id, k FROM items ORDER BY id;
-- @ordered
SELECT * FROM items ORDER BY id DESC;
-- @ordered
SELECT id FROM items ORDER BY k, id;
-- @ordered
SELECT id FROM items ORDER BY k DESC, id;
-- @ordered
SELECT id FROM items ORDER BY k NULLS FIRST, id DESC;
-- @ordered
SELECT id FROM items ORDER BY k DESC NULLS LAST, small NULLS FIRST, id;
-- @ordered
SELECT id, txt FROM items ORDER BY txt, id;
-- @ordered
SELECT id, txt FROM items ORDER BY txt COLLATE "C" DESC, id;
-- @ordered
SELECT id, ctext FROM items ORDER BY ctext, id;
-- @ordered
SELECT id FROM items ORDER BY vc, ch, id;
-- @ordered
SELECT id FROM items ORDER BY feel, id;
-- @ordered
SELECT id FROM items ORDER BY feel DESC, pct, id;
-- @ordered
SELECT id FROM items ORDER BY free, id;
-- @ordered
SELECT id FROM items ORDER BY f8 DESC, id;
-- @ordered
SELECT id FROM items ORDER BY r4 USING >, id;
-- @ordered
SELECT id FROM items ORDER BY d, ts, tstz, id;
-- @ordered
SELECT id FROM items ORDER BY iv, tm DESC, id;
-- @ordered
SELECT id FROM items ORDER BY u, id;
-- @ordered
SELECT id FROM items ORDER BY raw, bits, ip, id;
-- @ordered
SELECT id FROM items ORDER BY jb, ints, id;
-- @ordered
SELECT id FROM items ORDER BY texts DESC, id;
-- @ordered
SELECT id FROM items ORDER BY pt, id;
-- @ordered
SELECT id FROM items ORDER BY span, ok, id;
-- @ordered
SELECT id, price * 2 AS price FROM items ORDER BY price * 2 DESC, id;
-- @ordered
SELECT txt AS id, id AS txt FROM items ORDER BY items.id;
-- @ordered
SELECT k, id FROM items ORDER BY 1, 2;
-- @ordered
SELECT id FROM items ORDER BY 1, id + 0, 'x'::text;
-- @ordered
SELECT id FROM items ORDER BY coalesce(txt, 'zz'), length(txt), id;
-- @ordered
SELECT id FROM items WHERE k = 3 ORDER BY k, id;
-- @ordered
SELECT id FROM items WHERE k = small ORDER BY small, k, id;
-- @ordered
SELECT id FROM items WHERE id < 0 ORDER BY txt;
-- @ordered
SELECT id FROM items ORDER BY id LIMIT 5 OFFSET 30;
-- @ordered
SELECT id FROM items ORDER BY k DESC, id LIMIT 5;
SELECT k FROM items ORDER BY k FETCH FIRST 4 ROWS WITH TIES;
-- @ordered
SELECT id FROM items WHERE id IN (3, 5, 8, 13) ORDER BY id DESC;
-- @ordered
SELECT id FROM items WHERE id = 8 ORDER BY txt;

-- The client's way: cursors, portals, binary, parameters.
-- @ordered
-- @portal(7)
SELECT id, txt, price FROM items ORDER BY txt, id;
-- @ordered
-- @binary
SELECT id, txt, f8, tstz FROM items ORDER BY tstz, f8, id;
-- @ordered
-- @binary
-- @portal(3)
SELECT id, k FROM items ORDER BY k, id;
-- @ordered
-- @params(3)
-- @params(NULL)
SELECT id FROM items ORDER BY k % $1::int, id;
-- @ordered
-- @params(2, 4)
SELECT id FROM items WHERE k > $1::int ORDER BY k, id LIMIT $2::int8;

-- Subqueries among the conditions: what the planner sees of them is not what the nodes do.
-- @ordered
SELECT i.id, i.k FROM items i WHERE i.k = (SELECT count(*) FROM events e WHERE e.item_id = i.id) ORDER BY i.k, i.id;
-- @ordered
SELECT i.id, i.k FROM items i WHERE i.k = CASE WHEN EXISTS (SELECT 1 FROM events e WHERE e.item_id = i.id) THEN i.small ELSE 3 END ORDER BY i.k, i.id;
-- @ordered
SELECT i.id, i.k FROM items i WHERE EXISTS (SELECT 1 FROM events e WHERE e.item_id = i.id) OR i.k = 1 ORDER BY i.k, i.id;
-- @ordered
SELECT i.id, i.k FROM items i WHERE NOT EXISTS (SELECT 1 FROM events e WHERE e.item_id = i.id) ORDER BY i.k DESC, i.id;
-- @ordered
SELECT i.id FROM items i ORDER BY (SELECT count(*) FROM events e WHERE e.item_id = i.id), i.id;
-- @ordered
SELECT i.id, coalesce((SELECT max(e.seq) FROM events e WHERE e.item_id = i.id), i.id) FROM items i ORDER BY 2, 1;
-- @ordered
SELECT id, k FROM items WHERE price > (SELECT avg(price) FROM items) ORDER BY k, id;
-- @ordered
SELECT id, k FROM items WHERE k = (SELECT max(k) FROM items) ORDER BY k, id;
-- @ordered
SELECT id, k FROM items ORDER BY k - (SELECT max(k) FROM items), id;
-- @ordered
SELECT id FROM items WHERE id IN (SELECT item_id FROM events WHERE amount > 10) ORDER BY txt, id;

-- Joins.
-- @ordered
SELECT i.id, e.seq FROM items i JOIN events e ON e.item_id = i.id ORDER BY i.id, e.seq;
-- @ordered
SELECT i.id, e.item_id, e.seq FROM items i LEFT JOIN events e ON e.item_id = i.id ORDER BY e.item_id, e.seq, i.id;
-- @ordered
SELECT i.id, p.name FROM items i LEFT JOIN products p ON p.id = i.k ORDER BY p.name, i.id;
SELECT s.x, l.id FROM (SELECT k AS x, count(*) FROM items GROUP BY k) s JOIN loc l ON l.item_id = s.x;
SELECT a.x, a.n, b.n FROM (SELECT k AS x, count(*) AS n FROM items GROUP BY k) a FULL JOIN (SELECT small AS x, count(*) AS n FROM items GROUP BY small) b ON a.x = b.x;
SELECT a.x FROM (SELECT txt AS x FROM items ORDER BY txt LIMIT 30) a JOIN (SELECT DISTINCT txt AS x FROM items) b ON a.x = b.x;

-- Groups, DISTINCT, set operations.
-- @ordered
SELECT k, count(*), sum(price) FROM items GROUP BY k ORDER BY k;
-- @ordered
SELECT k, ok, count(*), max(txt) FROM items GROUP BY k, ok ORDER BY ok DESC, k NULLS FIRST;
SELECT ok, k, count(*) FROM items GROUP BY ok, k ORDER BY k;
-- @ordered
SELECT txt, count(*) FROM items GROUP BY txt ORDER BY txt DESC LIMIT 3;
-- @ordered
SELECT k, ok, count(*) FROM items GROUP BY ROLLUP (k, ok) ORDER BY k, ok, 3;
-- @ordered
SELECT item_id, count(*) FROM events GROUP BY item_id HAVING count(*) > 1 ORDER BY item_id;
-- @ordered
SELECT item_id, sum(amount) FROM events GROUP BY item_id ORDER BY sum(amount) DESC, item_id;
-- @ordered
SELECT DISTINCT txt FROM items ORDER BY txt;
-- @ordered
SELECT DISTINCT ok, k FROM items ORDER BY k DESC, ok;
-- @ordered
SELECT DISTINCT ON (k) k, id, txt FROM items ORDER BY k DESC NULLS LAST, txt, id;
-- @ordered
SELECT DISTINCT ON (item_id) item_id, seq FROM events ORDER BY item_id, seq DESC;
-- @ordered
SELECT id FROM items UNION ALL SELECT item_id FROM events ORDER BY 1;
-- @ordered
SELECT id FROM items UNION SELECT item_id FROM events ORDER BY 1 DESC;
-- @ordered
SELECT id, 'i' AS w FROM items EXCEPT SELECT item_id, 'i' FROM events ORDER BY w, id;
SELECT txt FROM items GROUP BY txt HAVING count(DISTINCT k) > 1;

-- Windows that are not of the key.
SELECT id, rank() OVER (ORDER BY k), row_number() OVER (ORDER BY k, id) FROM items;
SELECT id, sum(id) OVER (PARTITION BY k ORDER BY id), count(*) OVER (PARTITION BY k) FROM items;
SELECT id, lag(id) OVER (PARTITION BY ok ORDER BY txt, id), first_value(id) OVER (PARTITION BY k ORDER BY id DESC) FROM items;
-- @ordered
SELECT id, txt, dense_rank() OVER (ORDER BY txt) FROM items ORDER BY txt, id;
SELECT i.id, row_number() OVER (PARTITION BY i.k ORDER BY e.seq) FROM items i JOIN events e ON e.item_id = i.id WHERE i.ok;
SELECT k, rank() OVER (ORDER BY count(*), k) FROM items GROUP BY k;
SELECT id, sum(price) OVER w, avg(price) OVER w FROM items WINDOW w AS (ORDER BY id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW);

-- Read again, in part, or within something else.
SELECT w.id, (SELECT count(*) FROM (SELECT id FROM items ORDER BY txt, id LIMIT 7) s WHERE s.id > w.id) FROM products w;
SELECT l.id, x.id FROM loc l LEFT JOIN LATERAL (SELECT i.id FROM items i WHERE i.k < l.item_id ORDER BY i.price DESC NULLS LAST, i.id LIMIT 2) x ON true;
WITH s AS MATERIALIZED (SELECT id, txt FROM items ORDER BY txt, id) SELECT a.id, b.id FROM s a JOIN s b ON a.txt = b.txt AND a.id < b.id;
SELECT array_agg(id) FROM (SELECT id FROM items ORDER BY txt DESC, id) s;
SELECT string_agg(txt, ',') FROM (SELECT DISTINCT txt FROM items ORDER BY txt) s;
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM items ORDER BY k, id;
-- @ordered
FETCH 5 FROM c;
-- @ordered
FETCH 50 FROM c;
FETCH ALL FROM c;
ROLLBACK;
BEGIN;
DECLARE u CURSOR FOR SELECT id, txt FROM items ORDER BY txt, id;
-- @ordered
FETCH 5 FROM u;
-- @ordered
FETCH BACKWARD 2 FROM u;
ROLLBACK;
BEGIN;
DECLARE s SCROLL CURSOR FOR SELECT id FROM items ORDER BY txt DESC, id;
-- @ordered
FETCH 5 FROM s;
-- @ordered
FETCH BACKWARD 3 FROM s;
-- @ordered
FETCH LAST FROM s;
ROLLBACK;

-- Names that are another column's in the answer.
-- @ordered
SELECT k AS id, id AS k FROM items ORDER BY items.id LIMIT 9;
-- @ordered
SELECT k AS seq, seq AS k FROM (SELECT k, id AS seq FROM items) s ORDER BY s.seq;
-- @ordered
SELECT kind AS seq, seq AS kind FROM events WHERE item_id = 3 ORDER BY events.seq;
-- @ordered
SELECT DISTINCT ON (events.seq) note AS seq, seq AS note FROM events WHERE item_id = 3 ORDER BY events.seq DESC;
