-- One query of each kind, each with its plan.
\set QUIET on
\echo
\echo '=== 3. A routed query: everything about one tenant is on one node, the whole query goes there'
\echo

\set ECHO queries
SELECT o.order_id, o.placed, o.status, sum(i.quantity * i.price) AS total
FROM orders o JOIN items i USING (tenant_id, order_id)
WHERE o.tenant_id = 42
GROUP BY o.order_id, o.placed, o.status
ORDER BY total DESC, o.order_id
LIMIT 5;

EXPLAIN (COSTS OFF)
SELECT o.order_id, o.placed, o.status, sum(i.quantity * i.price) AS total
FROM orders o JOIN items i USING (tenant_id, order_id)
WHERE o.tenant_id = 42
GROUP BY o.order_id, o.placed, o.status
ORDER BY total DESC, o.order_id
LIMIT 5;
\set ECHO none

\echo
\echo '=== 4. A fan-out aggregate: all nodes take part'
\echo

\set ECHO queries
SELECT status, count(*), min(placed), max(placed) FROM orders GROUP BY status ORDER BY status;

EXPLAIN (COSTS OFF)
SELECT status, count(*), min(placed), max(placed) FROM orders GROUP BY status ORDER BY status;
\set ECHO none

\echo
\echo '=== 5. A colocated join, with a reference table: turnover and VAT by country'
\echo

\set ECHO queries
SELECT c.name, count(DISTINCT t.tenant_id) AS tenants, sum(i.quantity * i.price) AS turnover,
       round(sum(i.quantity * i.price * c.vat), 2) AS vat
FROM tenants t
JOIN orders o USING (tenant_id)
JOIN items i USING (tenant_id, order_id)
JOIN countries c ON c.code = t.country
WHERE o.status <> 'new'
GROUP BY c.name
ORDER BY turnover DESC
LIMIT 5;

EXPLAIN (COSTS OFF)
SELECT c.name, count(DISTINCT t.tenant_id) AS tenants, sum(i.quantity * i.price) AS turnover,
       round(sum(i.quantity * i.price * c.vat), 2) AS vat
FROM tenants t
JOIN orders o USING (tenant_id)
JOIN items i USING (tenant_id, order_id)
JOIN countries c ON c.code = t.country
WHERE o.status <> 'new'
GROUP BY c.name
ORDER BY turnover DESC
LIMIT 5;
\set ECHO none
