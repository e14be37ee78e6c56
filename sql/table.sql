-- What is spread, and how.

CREATE FUNCTION replicate_row() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'sharding_replicate_row';
COMMENT ON FUNCTION replicate_row() IS 'carries changes of a reference table to its copies on the nodes';

CREATE FUNCTION distribute_table("table" regclass, shard_key name, shard_count int DEFAULT 32, colocate_with regclass DEFAULT NULL)
    RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'sharding_distribute_table';
COMMENT ON FUNCTION distribute_table IS 'splits a table over the nodes by the hash of a column';

CREATE FUNCTION replicate_table("table" regclass) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'sharding_replicate_table';
COMMENT ON FUNCTION replicate_table IS 'keeps a full copy of a table on every node';

CREATE FUNCTION undistribute_table("table" regclass) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'sharding_undistribute_table';
COMMENT ON FUNCTION undistribute_table IS 'makes a distributed or reference table an ordinary one again';

CREATE FUNCTION shard_of("table" regclass, key "any") RETURNS int
    STABLE LANGUAGE c AS 'MODULE_PATHNAME', 'sharding_shard_of';
COMMENT ON FUNCTION shard_of IS 'the shard that holds the rows with a key';

CREATE FUNCTION shard_statistics() RETURNS TABLE (node name, shard_relation name, row_estimate real, size_bytes bigint)
    LANGUAGE c AS 'MODULE_PATHNAME', 'sharding_shard_statistics';
COMMENT ON FUNCTION shard_statistics IS 'row estimates and sizes of the shards, asked of the nodes';

CREATE VIEW tables AS
SELECT d.relation,
       CASE WHEN d.group_id IS NULL THEN 'reference' ELSE 'distributed' END AS kind,
       a.attname AS shard_key,
       g.shard_count,
       d.group_id AS colocation_group
FROM distributed_table d
LEFT JOIN colocation_group g USING (group_id)
LEFT JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = d.relation AND d.group_id IS NOT NULL
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0];
COMMENT ON VIEW tables IS 'distributed and reference tables';

CREATE VIEW shards AS
SELECT d.relation,
       s.remainder AS shard,
       s.node,
       'sharding_shards.' || pg_catalog.quote_ident(d.shard_prefix || '_' || s.remainder) AS shard_relation,
       g.shard_count AS modulus,
       s.remainder,
       CASE WHEN t.row_estimate >= 0 THEN t.row_estimate::bigint END AS row_estimate,
       t.size_bytes
FROM distributed_table d
JOIN colocation_group g USING (group_id)
JOIN shard s USING (group_id)
LEFT JOIN shard_statistics() t ON t.node = s.node AND t.shard_relation = d.shard_prefix || '_' || s.remainder;
COMMENT ON VIEW shards IS 'shards with their bounds and nodes; row estimates (null before ANALYZE) and sizes are asked of the nodes';

GRANT SELECT ON tables, shards TO PUBLIC;
