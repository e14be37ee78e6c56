-- What Postgres 16 has and older ones have not: SQL/JSON constructors and predicates, any_value.
-- @readonly
-- @needs(SELECT 1 WHERE current_setting('server_version_num')::int >= 160000)

SELECT JSON_OBJECTAGG(id : k) IS NULL, JSON_ARRAYAGG(k ORDER BY id) FROM items WHERE id < 5;
SELECT JSON_OBJECTAGG(id : k RETURNING jsonb), JSON_ARRAYAGG(k ORDER BY k RETURNING jsonb) FROM items;
SELECT txt IS JSON, txt IS JSON OBJECT WITH UNIQUE KEYS, id FROM items WHERE id < 5;
SELECT JSON_OBJECT('id': id, 'k': k RETURNING jsonb), JSON_ARRAY(id, k) FROM items WHERE id < 5;
SELECT JSON_OBJECT('id': id, 'k': k NULL ON NULL) FROM items WHERE id = 3;
SELECT any_value(ok) IS NULL, count(*) FROM items GROUP BY ok;
SELECT id, 0x1F + k, 1_000 FROM items WHERE id = 0b11;
SELECT x.id, k FROM (SELECT id, k FROM items WHERE id < 4) x;
SELECT id FROM (SELECT id FROM items WHERE id < 4);
SELECT id, system_user FROM items WHERE id = 3;
