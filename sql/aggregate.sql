-- Aggregates of partial results from the nodes, for queries that are split over them.

CREATE AGGREGATE total_deviation(double precision[]) (
    SFUNC = pg_catalog.float8_combine, STYPE = double precision[], INITCOND = '{0,0,0}', PARALLEL = SAFE
);
COMMENT ON AGGREGATE total_deviation(double precision[]) IS 'N, sum and squared deviations of parts, put together';

CREATE AGGREGATE total_regression(double precision[]) (
    SFUNC = pg_catalog.float8_regr_combine, STYPE = double precision[], INITCOND = '{0,0,0,0,0,0}', PARALLEL = SAFE
);
COMMENT ON AGGREGATE total_regression(double precision[]) IS 'the sums of a regression over parts, put together';

CREATE AGGREGATE total_array(anycompatiblearray) (
    SFUNC = pg_catalog.array_cat, STYPE = anycompatiblearray, PARALLEL = SAFE
);
COMMENT ON AGGREGATE total_array(anycompatiblearray) IS 'arrays, one after the other';

CREATE AGGREGATE total_jsonb(jsonb) (
    SFUNC = pg_catalog.jsonb_concat, STYPE = jsonb, PARALLEL = SAFE
);
COMMENT ON AGGREGATE total_jsonb(jsonb) IS 'arrays, one after the other, or objects, the later winning';
