-- About 100,000 rows, written through the coordinator like any rows.
\set QUIET on
\echo
\echo '=== 2. Some 100,000 rows'
\echo

\set ECHO queries
\timing on
INSERT INTO users
    SELECT 1 + i % 200, i, 'user' || i || '@example.org' FROM generate_series(1, 5000) i;
INSERT INTO orders
    SELECT 1 + i % 200, i, 1 + (i - 1) % 5000, date '2025-01-01' + i % 365,
           (ARRAY['new', 'paid', 'sent'])[1 + i % 3]
    FROM generate_series(1, 30000) i;
INSERT INTO items
    SELECT 1 + i % 200, 1 + (i - 1) % 30000, 1 + (i - 1) / 30000, 'product ' || i % 500, 1 + i % 5,
           (100 + i % 9900) / 100.0
    FROM generate_series(1, 75000) i;
\timing off
ANALYZE tenants, users, orders, items, countries;

SELECT (SELECT count(*) FROM tenants) AS tenants, (SELECT count(*) FROM users) AS users,
       (SELECT count(*) FROM orders) AS orders, (SELECT count(*) FROM items) AS items;
SELECT * FROM sharding.nodes;
SELECT * FROM sharding.tables;
\set ECHO none
