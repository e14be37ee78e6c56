-- Orders with their lines are spread, all else is everywhere.

-- @distribute(orders, o_orderkey)
-- @distribute(lineitem, l_orderkey)
-- @replicate(region)
-- @replicate(nation)
-- @replicate(supplier)
-- @replicate(customer)
-- @replicate(part)
-- @replicate(partsupp)
