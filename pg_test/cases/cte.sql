-- @readonly
-- Common table expressions that only read.

WITH a AS (SELECT id, k FROM items WHERE k = 3) SELECT * FROM a;
WITH a AS (SELECT id, k FROM items) SELECT * FROM a WHERE id = 7;
WITH a AS MATERIALIZED (SELECT id, k FROM items) SELECT * FROM a WHERE id = 7;
WITH a AS NOT MATERIALIZED (SELECT id, k FROM items) SELECT x.id FROM a x JOIN a y ON x.id = y.k;
WITH a AS (SELECT id FROM items WHERE id = 5), b AS (SELECT item_id FROM events WHERE item_id = 8) SELECT * FROM a, b;
WITH a AS (SELECT id FROM items WHERE k = 1), b AS (SELECT id FROM a WHERE id > 20) SELECT count(*) FROM a, b;
WITH a AS (SELECT k, count(*) AS n FROM items GROUP BY k) SELECT i.id, a.n FROM items i JOIN a ON a.k = i.k WHERE i.id < 10;
WITH a AS (SELECT count(*) AS n FROM items) SELECT id, n FROM items, a WHERE id < 4;
WITH a (x, y) AS (SELECT id, k FROM items WHERE id < 5) SELECT y, x FROM a;
WITH a AS (SELECT * FROM items WHERE id = 5) SELECT a.id, e.seq FROM a LEFT JOIN events e ON e.item_id = a.id;
WITH a AS (SELECT id FROM items) SELECT count(*) FROM a WHERE id IN (SELECT item_id FROM events) AND EXISTS (SELECT 1 FROM a x WHERE x.id = a.id + 1);
WITH p AS (SELECT id FROM products WHERE gone) SELECT l.line, p.id FROM p LEFT JOIN order_lines l ON l.product_id = p.id;
WITH l AS (SELECT item_id FROM loc WHERE amt > 20) SELECT id FROM items WHERE id IN (SELECT item_id FROM l);
WITH unused AS (SELECT 1 / 0 FROM items) SELECT 1;
WITH a AS (SELECT id FROM items ORDER BY id LIMIT 5), b AS (SELECT id FROM items ORDER BY id DESC LIMIT 5) SELECT id FROM a UNION ALL SELECT id FROM b;
SELECT * FROM (WITH a AS (SELECT id, k FROM items WHERE id < 5) SELECT k, count(*) FROM a GROUP BY k) s;
SELECT id, (WITH e AS (SELECT seq FROM events WHERE item_id = i.id) SELECT max(seq) FROM e) FROM items i WHERE id < 12;
SELECT id FROM items WHERE id IN (WITH a AS (SELECT item_id FROM events WHERE amount > 60) SELECT item_id FROM a);
WITH a AS (SELECT 1 AS id) SELECT * FROM a JOIN items USING (id);
WITH items AS (SELECT 99 AS id) SELECT * FROM items;
WITH items AS (SELECT id FROM items WHERE k = 2) SELECT count(*) FROM items;
WITH a AS (SELECT id FROM items WHERE k = 2 FOR UPDATE) SELECT count(*) FROM a;
WITH a AS (SELECT id, random() AS r FROM items) SELECT count(*) FROM a x JOIN a y ON x.id = y.id AND x.r = y.r;
WITH a AS (VALUES (1), (2), (3)) SELECT i.id, i.k FROM items i JOIN a ON a.column1 = i.id;
WITH a AS (SELECT item_id AS id FROM events), b AS (SELECT id FROM a WHERE id > 30), c AS (SELECT DISTINCT id FROM b) SELECT count(*) FROM c;

-- recursive
WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 10) SELECT n.i, items.k FROM n JOIN items ON items.id = n.i;
WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < (SELECT max(k) FROM items)) SELECT sum(i) FROM n;
WITH RECURSIVE walk AS (
    SELECT id, k, 0 AS depth FROM items WHERE id = 57
    UNION ALL
    SELECT i.id, i.k, w.depth + 1 FROM walk w JOIN items i ON i.id = w.k WHERE w.depth < 5
) SELECT * FROM walk;
WITH RECURSIVE reach (id) AS (
    SELECT 9
    UNION
    SELECT e.item_id % 30 FROM reach r JOIN events e ON e.seq = r.id
) SELECT * FROM reach;
WITH RECURSIVE t AS (
    SELECT id, ARRAY[id] AS path FROM items WHERE id = 3
    UNION ALL
    SELECT i.id, t.path || i.id FROM t JOIN items i ON i.k = t.id % 10 AND i.id <> ALL (t.path) WHERE cardinality(t.path) < 3
) SELECT count(*), max(cardinality(path)) FROM t;
WITH RECURSIVE d AS (
    SELECT id, k FROM items WHERE id < 4 UNION ALL SELECT i.id, i.k FROM d JOIN items i ON i.id = d.id + 20
) SEARCH DEPTH FIRST BY id SET o SELECT id, k FROM d ORDER BY o;
WITH RECURSIVE c AS (
    SELECT id, k FROM items WHERE id = 5 UNION ALL SELECT i.id, i.k FROM c JOIN items i ON i.id = c.k
) CYCLE id SET looped USING path SELECT id, k, looped FROM c;
WITH RECURSIVE p AS (SELECT id FROM products WHERE id = 1 UNION ALL SELECT q.id FROM p JOIN products q ON q.id = p.id * 2) SELECT * FROM p;
WITH RECURSIVE n AS (SELECT min(id) AS i FROM items UNION ALL SELECT (SELECT min(id) FROM items WHERE id > n.i + 9) FROM n WHERE n.i IS NOT NULL) SELECT i FROM n;
-- @ordered
WITH a AS (SELECT id, price FROM items WHERE ok), b AS (SELECT item_id, sum(amount) AS s FROM events GROUP BY item_id)
SELECT a.id, a.price, b.s FROM a LEFT JOIN b ON b.item_id = a.id ORDER BY b.s DESC NULLS LAST, a.id LIMIT 12;
-- @error(42P01)
WITH a AS (SELECT 1) SELECT * FROM b;
-- @error(42P19)
WITH RECURSIVE r AS (SELECT id FROM items WHERE id = 1 UNION ALL SELECT max(id) FROM r) SELECT * FROM r;
