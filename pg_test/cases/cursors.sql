-- @readonly
-- Cursors: forward, scrollable, held, in the middle of other statements.

BEGIN;
DECLARE one CURSOR FOR SELECT id, txt FROM items WHERE id = 5;
FETCH ALL FROM one;
FETCH ALL FROM one;
CLOSE one;
DECLARE many CURSOR FOR SELECT id, k FROM items ORDER BY id;
-- @ordered
FETCH 10 FROM many;
-- @ordered
FETCH FORWARD 5 FROM many;
MOVE FORWARD 20 FROM many;
-- @ordered
FETCH NEXT FROM many;
SELECT count(*) FROM items;
SELECT count(*) FROM events WHERE item_id = 8;
-- @ordered
FETCH 4 FROM many;
-- @ordered
FETCH ALL FROM many;
CLOSE many;
COMMIT;

BEGIN;
DECLARE s SCROLL CURSOR FOR SELECT id, k FROM items WHERE k > 2 ORDER BY k, id;
-- @ordered
FETCH LAST FROM s;
-- @ordered
FETCH FIRST FROM s;
-- @ordered
FETCH ABSOLUTE 7 FROM s;
-- @ordered
FETCH RELATIVE -2 FROM s;
-- @ordered
FETCH BACKWARD 3 FROM s;
-- @ordered
FETCH PRIOR FROM s;
-- @ordered
FETCH 3 FROM s;
-- @ordered
FETCH BACKWARD ALL FROM s;
-- @ordered
FETCH ABSOLUTE -1 FROM s;
MOVE ABSOLUTE 0 IN s;
-- @ordered
FETCH 2 FROM s;
COMMIT;

-- two at once, and other statements between them
BEGIN;
DECLARE a CURSOR FOR SELECT id FROM items ORDER BY id;
DECLARE b CURSOR FOR SELECT seq FROM events ORDER BY seq;
-- @ordered
FETCH 3 FROM a;
-- @ordered
FETCH 3 FROM b;
-- @ordered
FETCH 3 FROM a;
SELECT i.id, e.seq FROM items i JOIN events e ON e.item_id = i.id WHERE i.id = 8;
-- @ordered
FETCH 200 FROM b;
-- @ordered
FETCH 100 FROM a;
CLOSE ALL;
COMMIT;

BEGIN;
DECLARE g CURSOR FOR SELECT k, count(*) FROM items GROUP BY k ORDER BY k;
-- @ordered
FETCH 2 FROM g;
-- @ordered
FETCH ALL FROM g;
DECLARE j CURSOR FOR SELECT i.id, e.seq FROM items i LEFT JOIN events e ON e.item_id = i.id ORDER BY i.id, e.seq;
-- @ordered
FETCH 20 FROM j;
DECLARE bin BINARY CURSOR FOR SELECT id, k, txt, price FROM items ORDER BY id;
-- @ordered
FETCH 4 FROM bin;
DECLARE lim CURSOR FOR SELECT id FROM items ORDER BY id DESC LIMIT 4;
-- @ordered
FETCH ALL FROM lim;
-- @error(34000)
FETCH 1 FROM nothing;
ROLLBACK;

-- WITH HOLD
BEGIN;
DECLARE h CURSOR WITH HOLD FOR SELECT id, feel FROM items ORDER BY id;
-- @ordered
FETCH 2 FROM h;
COMMIT;
-- @ordered
FETCH 2 FROM h;
SELECT count(*) FROM items;
-- @ordered
FETCH BACKWARD 1 FROM h;
-- @ordered
FETCH ALL FROM h;
CLOSE h;
DECLARE h2 INSENSITIVE SCROLL CURSOR WITH HOLD FOR SELECT item_id, count(*) FROM events GROUP BY item_id ORDER BY 1;
-- @ordered
FETCH 3 FROM h2;
-- @ordered
FETCH ABSOLUTE 1 FROM h2;
CLOSE h2;
-- @error(25P01)
DECLARE outside CURSOR FOR SELECT 1 FROM items;
BEGIN;
DECLARE n NO SCROLL CURSOR FOR SELECT id FROM items ORDER BY id;
-- @ordered
FETCH 2 FROM n;
-- @error(55000)
FETCH PRIOR FROM n;
ROLLBACK;

-- a savepoint and a cursor
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM items ORDER BY id;
-- @ordered
FETCH 2 FROM c;
SAVEPOINT s;
-- @error(22012)
SELECT 1 / (id - 5) FROM items WHERE id = 5;
ROLLBACK TO s;
-- @ordered
FETCH 2 FROM c;
SAVEPOINT s2;
-- @ordered
FETCH 2 FROM c;
RELEASE s2;
-- @ordered
FETCH 2 FROM c;
COMMIT;

-- scrolling over a routed query
BEGIN;
DECLARE back SCROLL CURSOR FOR SELECT seq, kind FROM events WHERE item_id = 7 ORDER BY seq;
FETCH 2 FROM back;
FETCH BACKWARD 1 FROM back;
FETCH LAST FROM back;
FETCH FIRST FROM back;
COMMIT;
SELECT row(id, k) FROM items WHERE id = 3;
