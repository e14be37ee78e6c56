-- A transaction over two nodes: two-phase commit, all or nothing.
\set QUIET on
\echo
\echo '=== 6. A transfer between tenants on two nodes'
\echo

\set ECHO queries
SELECT sharding.shard_of('tenants', '1') AS "tenant 1", sharding.shard_of('tenants', '2') AS "tenant 2";

EXPLAIN (COSTS OFF) UPDATE tenants SET credit = credit - 250 WHERE tenant_id = 1;
EXPLAIN (COSTS OFF) UPDATE tenants SET credit = credit + 250 WHERE tenant_id = 2;

BEGIN;
UPDATE tenants SET credit = credit - 250 WHERE tenant_id = 1 RETURNING name, credit;
UPDATE tenants SET credit = credit + 250 WHERE tenant_id = 2 RETURNING name, credit;
COMMIT;

SELECT name, credit FROM tenants WHERE tenant_id IN (1, 2) ORDER BY tenant_id;
\set ECHO none

\echo
\echo '=== 7. A transfer that breaks a constraint on one node leaves nothing on any'
\echo

\set ECHO queries
\set ON_ERROR_STOP off
BEGIN;
UPDATE tenants SET credit = credit + 5000 WHERE tenant_id = 2;
UPDATE tenants SET credit = credit - 5000 WHERE tenant_id = 1;
COMMIT;
\set ON_ERROR_STOP on

SELECT name, credit FROM tenants WHERE tenant_id IN (1, 2) ORDER BY tenant_id;
\set ECHO none
