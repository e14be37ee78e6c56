-- The connection pool: what is in it, and how it does.

CREATE FUNCTION pool_connections() RETURNS TABLE (
    slot int, database oid, node name, "user" text, outside boolean, state text, backend_pid int, age interval,
    leases bigint, statements bigint, prepared int, bytes bigint, errors bigint, last_error text,
    server text, tls boolean
)
    LANGUAGE c AS 'MODULE_PATHNAME', 'sharding_pool_connections';
COMMENT ON FUNCTION pool_connections IS 'the connections to nodes, of all databases of this server';

CREATE FUNCTION pool_counters() RETURNS TABLE (
    database oid, node name, "user" text, outside boolean, connections int, waiting int, leases bigint,
    waits bigint, wait_time interval, opened bigint, closed bigint, failed bigint
)
    LANGUAGE c AS 'MODULE_PATHNAME', 'sharding_pool_counters';
COMMENT ON FUNCTION pool_counters IS 'what has happened in the pools of connections, of all databases of this server';

CREATE VIEW connections AS
SELECT c.slot, c.node, c."user", c.state, c.backend_pid, c.age, c.leases, c.statements, c.prepared, c.bytes, c.errors,
       c.last_error, c.outside, c.server, c.tls
FROM pool_connections() c
     JOIN pg_catalog.pg_database d ON d.oid = c.database
WHERE d.datname = pg_catalog.current_database()
ORDER BY c.slot;
COMMENT ON VIEW connections IS 'the connections to the nodes and who uses them';

CREATE VIEW pool_stats AS
SELECT c.node, c."user", c.outside, c.connections, c.waiting, c.leases, c.waits, c.wait_time, c.opened, c.closed, c.failed
FROM pool_counters() c
     JOIN pg_catalog.pg_database d ON d.oid = c.database
WHERE d.datname = pg_catalog.current_database()
ORDER BY c.node, c."user", c.outside;
COMMENT ON VIEW pool_stats IS 'what has happened to the connections of each node and user since the pool came into being';

-- As with pg_stat_activity, it is not everybody's business what others do.
REVOKE EXECUTE ON FUNCTION pool_connections, pool_counters FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pool_connections, pool_counters TO pg_monitor;
GRANT SELECT ON connections, pool_stats TO pg_monitor;
