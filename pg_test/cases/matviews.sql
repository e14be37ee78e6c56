-- Materialized views and tables made from queries.

CREATE MATERIALIZED VIEW per_k AS SELECT k, count(*) AS n, sum(price) AS s FROM items GROUP BY k;
SELECT * FROM per_k;
CREATE UNIQUE INDEX per_k_k ON per_k (k);
UPDATE items SET price = 1000 WHERE id = 5;
INSERT INTO items (id, k, price) VALUES (61, 77, 7);
SELECT * FROM per_k WHERE k IN (5, 77);
REFRESH MATERIALIZED VIEW per_k;
SELECT * FROM per_k WHERE k IN (5, 77);
DELETE FROM items WHERE id = 61;
REFRESH MATERIALIZED VIEW CONCURRENTLY per_k;
SELECT * FROM per_k;
SELECT i.id, m.n FROM items i JOIN per_k m ON m.k = i.k WHERE i.id < 20;
CREATE MATERIALIZED VIEW joined AS SELECT i.id, e.seq, i.feel, i.pt FROM items i JOIN events e ON e.item_id = i.id WITH NO DATA;
-- @error(55000)
SELECT * FROM joined;
REFRESH MATERIALIZED VIEW joined;
SELECT * FROM joined;
BEGIN;
UPDATE items SET k = 88 WHERE id = 1;
REFRESH MATERIALIZED VIEW per_k;
SELECT n FROM per_k WHERE k = 88;
ROLLBACK;
SELECT n FROM per_k WHERE k = 88;
CREATE TABLE copied AS SELECT * FROM items WHERE k = 2;
SELECT id, txt, pt, feel FROM copied;
CREATE TABLE counted (what, n) AS SELECT kind, count(*) FROM events GROUP BY kind;
SELECT * FROM counted;
CREATE TEMP TABLE temporary AS SELECT id, k FROM items WHERE id < 10;
SELECT i.id, t.k FROM items i JOIN temporary t ON t.id = i.id;
INSERT INTO temporary SELECT seq, item_id FROM events WHERE item_id = 8;
UPDATE items SET small = 3 FROM temporary t WHERE t.id = items.id AND t.k > 3;
SELECT count(*) FROM temporary;
SELECT id, k INTO chosen FROM items WHERE ok;
SELECT count(*) FROM chosen;
CREATE TABLE like_items (LIKE items INCLUDING DEFAULTS);
INSERT INTO like_items SELECT * FROM items;
SELECT count(*) FROM like_items a JOIN items b USING (id) WHERE a.txt = b.txt;
-- @error(26000)
CREATE TABLE executed AS EXECUTE nothing_prepared;
DROP MATERIALIZED VIEW per_k, joined;
DROP TABLE temporary;
