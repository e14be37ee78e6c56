-- Scans that are read again keep their rows in files beyond work_mem.

CREATE TABLE wide (id int8, v text);
-- @distribute(wide, id, 6)
INSERT INTO wide SELECT i, 'text number ' || i FROM generate_series(1, 20000) i;
CREATE TABLE small (k int8);
INSERT INTO small VALUES (0), (1), (2);
SET work_mem = '64kB';
SELECT count(*), sum(wide.id) FROM wide JOIN small ON small.k = wide.id % 5;
SET enable_hashjoin = off;
SELECT count(*), sum(wide.id), max(wide.v) FROM wide JOIN small ON small.k = wide.id % 5;
SET enable_mergejoin = off;
SET enable_material = off;
SELECT small.k, count(*), sum(wide.id), max(wide.v) FROM small LEFT JOIN wide ON small.k = wide.id % 5 GROUP BY small.k;
RESET enable_hashjoin;
RESET enable_mergejoin;
RESET enable_material;
UPDATE wide SET v = 'new ' || v WHERE id IN (SELECT i * 2 FROM generate_series(1, 5000) i) RETURNING id, v;
DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT id, v FROM wide WHERE id < 3000 ORDER BY id;
FETCH 2900 FROM c;
FETCH BACKWARD 2000 FROM c;
CLOSE c;
