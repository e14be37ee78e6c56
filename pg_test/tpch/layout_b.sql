-- Every large table is spread by its own key: most joins are not between colocated rows.

-- @distribute(customer, c_custkey)
-- @distribute(part, p_partkey)
-- @distribute(partsupp, ps_partkey)
-- @distribute(supplier, s_suppkey)
-- @distribute(orders, o_orderkey)
-- @distribute(lineitem, l_orderkey)
-- @replicate(region)
-- @replicate(nation)
