-- A multi-tenant shop: tenants have users, users place orders, orders have items.
-- Tables that share the key `tenant_id` are colocated: what belongs to one tenant is on one node.
\set QUIET on
SET client_min_messages = warning;

\echo
\echo '=== 1. A schema as on any Postgres, then three kinds of calls'
\echo

\set ECHO queries
CREATE TABLE countries (code char(2) PRIMARY KEY, name text NOT NULL, vat numeric NOT NULL);
INSERT INTO countries VALUES
    ('AT', 'Austria', 0.20), ('BE', 'Belgium', 0.21), ('CH', 'Switzerland', 0.081),
    ('DE', 'Germany', 0.19), ('DK', 'Denmark', 0.25), ('ES', 'Spain', 0.21),
    ('FR', 'France', 0.20), ('IT', 'Italy', 0.22), ('NL', 'Netherlands', 0.21),
    ('PL', 'Poland', 0.23), ('PT', 'Portugal', 0.23), ('SE', 'Sweden', 0.25);
SELECT sharding.replicate_table('countries');

CREATE TABLE tenants (
    tenant_id bigint PRIMARY KEY,
    name      text NOT NULL,
    country   char(2) NOT NULL REFERENCES countries,
    credit    numeric NOT NULL CHECK (credit >= 0)
);
INSERT INTO tenants
    SELECT i, 'tenant ' || i, (ARRAY['AT','BE','CH','DE','DK','ES','FR','IT','NL','PL','PT','SE'])[1 + i % 12], 1000
    FROM generate_series(1, 200) i;
SELECT sharding.distribute_table('tenants', 'tenant_id');

CREATE TABLE users (
    tenant_id bigint NOT NULL REFERENCES tenants,
    user_id   bigint NOT NULL,
    email     text NOT NULL,
    PRIMARY KEY (tenant_id, user_id),
    UNIQUE (tenant_id, email)
);
SELECT sharding.distribute_table('users', 'tenant_id', colocate_with => 'tenants');

CREATE TABLE orders (
    tenant_id bigint NOT NULL,
    order_id  bigint NOT NULL,
    user_id   bigint NOT NULL,
    placed    date NOT NULL,
    status    text NOT NULL DEFAULT 'new',
    PRIMARY KEY (tenant_id, order_id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES users
);
SELECT sharding.distribute_table('orders', 'tenant_id', colocate_with => 'tenants');

CREATE TABLE items (
    tenant_id bigint NOT NULL,
    order_id  bigint NOT NULL,
    line      int NOT NULL,
    product   text NOT NULL,
    quantity  int NOT NULL,
    price     numeric(10, 2) NOT NULL,
    PRIMARY KEY (tenant_id, order_id, line),
    FOREIGN KEY (tenant_id, order_id) REFERENCES orders
);
SELECT sharding.distribute_table('items', 'tenant_id', colocate_with => 'tenants');
\set ECHO none
