-- Two-phase commits that are not over.

CREATE FUNCTION transactions_in_doubt() RETURNS TABLE (
    gid text, state text, since timestamptz, nodes name[], unconfirmed name[]
)
    LANGUAGE c AS 'MODULE_PATHNAME', 'sharding_transactions';
COMMENT ON FUNCTION transactions_in_doubt IS 'two-phase commits under way or interrupted; the nodes are asked';

CREATE VIEW transactions AS SELECT gid, state, since, nodes, unconfirmed FROM transactions_in_doubt();
COMMENT ON VIEW transactions IS 'two-phase commits that are under way or in doubt, and the nodes that have not confirmed the outcome';

REVOKE EXECUTE ON FUNCTION transactions_in_doubt FROM PUBLIC;
GRANT EXECUTE ON FUNCTION transactions_in_doubt TO pg_monitor;
GRANT SELECT ON transactions TO pg_monitor;
