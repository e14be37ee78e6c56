-- What is spread, and how.

CREATE FUNCTION replicate_row() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'sharding_replicate_row';
COMMENT ON FUNCTION replicate_row() IS 'carries changes of a reference table to its copies on the nodes';

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
