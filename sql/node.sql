-- Nodes: the foreign-data wrapper whose servers they are, and the functions around them.

-- Fails, and with it CREATE EXTENSION, if the library was not loaded with the server.
CREATE FUNCTION require_preload() RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'sharding_require_preload';
SELECT require_preload();
DROP FUNCTION require_preload();

CREATE FUNCTION fdw_handler() RETURNS fdw_handler
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'sharding_fdw_handler';
CREATE FUNCTION fdw_validator(text[], oid) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'sharding_fdw_validator';
CREATE FOREIGN DATA WRAPPER sharding HANDLER fdw_handler VALIDATOR fdw_validator;
COMMENT ON FOREIGN DATA WRAPPER sharding IS 'its servers are the nodes of the cluster';

CREATE FUNCTION invalidate_cluster_map() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'sharding_invalidate_cluster_map';
CREATE TRIGGER invalidate_cluster_map AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON colocation_group
    FOR EACH STATEMENT EXECUTE FUNCTION invalidate_cluster_map();
CREATE TRIGGER invalidate_cluster_map AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON shard
    FOR EACH STATEMENT EXECUTE FUNCTION invalidate_cluster_map();
CREATE TRIGGER invalidate_cluster_map AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON distributed_table
    FOR EACH STATEMENT EXECUTE FUNCTION invalidate_cluster_map();

CREATE FUNCTION add_node(
    name name, host text, port int DEFAULT 5432, dbname text DEFAULT pg_catalog.current_database(),
    "user" text DEFAULT CURRENT_USER, password text DEFAULT NULL
) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'sharding_add_node';
COMMENT ON FUNCTION add_node IS 'makes another database a node of the cluster';

CREATE FUNCTION check_node(name name) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'sharding_check_node';
COMMENT ON FUNCTION check_node IS 'checks a node that was made with CREATE SERVER and makes it ready';

CREATE FUNCTION remove_node(name name, force boolean DEFAULT false) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'sharding_remove_node';
COMMENT ON FUNCTION remove_node IS 'removes a node that holds no shards; force: without connecting to it';

CREATE FUNCTION run_on_nodes(sql text) RETURNS TABLE (node name, result text)
    LANGUAGE c AS 'MODULE_PATHNAME', 'sharding_run_on_nodes';
COMMENT ON FUNCTION run_on_nodes IS 'runs SQL on all nodes, in the current transaction';

CREATE FUNCTION recover_transactions() RETURNS TABLE (node name, gid text, action text)
    LANGUAGE c AS 'MODULE_PATHNAME', 'sharding_recover_transactions';
COMMENT ON FUNCTION recover_transactions IS 'commits or rolls back what an interrupted two-phase commit left prepared on the nodes';

REVOKE EXECUTE ON FUNCTION add_node, check_node, remove_node, run_on_nodes, recover_transactions
    FROM PUBLIC;

CREATE VIEW nodes AS
SELECT s.srvname AS name,
       coalesce(o.host, o.hostaddr, 'localhost') AS host,
       coalesce(o.port, '5432') AS port,
       coalesce(o.dbname, pg_catalog.current_database()::text) AS dbname,
       (SELECT count(*) FROM shard WHERE shard.node = s.srvname) AS shards,
       coalesce(o.target_session_attrs, 'read-write') AS target_session_attrs,
       coalesce(o.sslmode, CASE o.sslrootcert WHEN 'system' THEN 'verify-full' ELSE 'prefer' END) AS sslmode
FROM pg_catalog.pg_foreign_server s
     JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = s.srvfdw,
     LATERAL (SELECT max(option_value) FILTER (WHERE option_name = 'host') AS host,
                     max(option_value) FILTER (WHERE option_name = 'port') AS port,
                     max(option_value) FILTER (WHERE option_name = 'dbname') AS dbname,
                     max(option_value) FILTER (WHERE option_name = 'hostaddr') AS hostaddr,
                     max(option_value) FILTER (WHERE option_name = 'target_session_attrs') AS target_session_attrs,
                     max(option_value) FILTER (WHERE option_name = 'sslmode') AS sslmode,
                     max(option_value) FILTER (WHERE option_name = 'sslrootcert') AS sslrootcert
              FROM pg_catalog.pg_options_to_table(s.srvoptions)) o
WHERE w.fdwname = 'sharding'
ORDER BY s.srvname;
COMMENT ON VIEW nodes IS 'the nodes of the cluster';
GRANT SELECT ON nodes TO PUBLIC;
