-- The tables that every case file finds. Small, full of NULLs, of many types, with odd values.
--
-- distributed   items (id int)          events (item_id int, nullable)      together on 8 shards
--               orders, order_lines     on tenant_id, with foreign keys     together on 4 shards
--               accounts (code text)    docs (id uuid)      days (d date, nullable)
--               prices (p numeric)      bigs (id int8)      smalls (id int2)
--               stamps (at timestamptz) labels (c char(n))
-- reference     products, countries
-- local         loc, words, empty_local
--
-- Some get their rows before they are distributed, some after.

SET client_min_messages = warning;

CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy', 'Ecstatic');
CREATE TYPE point3 AS (x int, y numeric, label text);
CREATE DOMAIN percent AS numeric(5,2) CHECK (VALUE BETWEEN 0 AND 100);

-- items: one row per id, 1..60, every third value or so NULL.
CREATE TABLE items (
    id int PRIMARY KEY,
    small int2,
    k int,
    big int8,
    price numeric(12,3),
    free numeric,
    r4 real,
    f8 double precision,
    txt text,
    ctext text COLLATE "C",
    vc varchar(20),
    ch char(8),
    raw bytea,
    ok bool,
    d date,
    ts timestamp,
    tstz timestamptz,
    tm time,
    iv interval,
    u uuid,
    j json,
    jb jsonb,
    ints int[],
    texts text[],
    feel mood,
    pt point3,
    pct percent,
    span int4range,
    ip inet,
    bits bit(8)
);

INSERT INTO items
SELECT i,
    CASE WHEN i % 5 > 0 THEN i % 7 END,
    CASE WHEN i % 4 > 0 THEN i % 10 END,
    CASE WHEN i % 6 > 0 THEN i * 1000000007::int8 END,
    CASE WHEN i % 7 > 0 THEN i * 1.375 END,
    CASE i % 9 WHEN 0 THEN NULL WHEN 1 THEN 'NaN' WHEN 2 THEN 'Infinity' WHEN 3 THEN '-Infinity'
        ELSE i / 7::numeric END,
    CASE WHEN i % 4 > 0 THEN i / 8.0 END,
    CASE i % 11 WHEN 0 THEN NULL WHEN 1 THEN 'NaN' WHEN 2 THEN 'Infinity' WHEN 3 THEN '-Infinity'
        WHEN 4 THEN '-0' ELSE i / 4.0 END,
    CASE WHEN i % 8 > 0 THEN (ARRAY['apple', 'Pear', 'äpfel', '', 'O''Neil', E'tab\there', '100%',
        E'back\\slash', 'NULL', '東京', 'pear '])[1 + i % 11] END,
    CASE WHEN i % 3 > 0 THEN chr(64 + i % 26) || chr(97 + i % 7) END,
    CASE WHEN i % 5 > 0 THEN 'vc' || i % 6 END,
    CASE WHEN i % 6 > 0 THEN 'c' || i % 4 END,
    CASE WHEN i % 7 > 0 THEN decode(lpad(to_hex(i * 7919), 6, '0'), 'hex') END,
    CASE WHEN i % 3 > 0 THEN i % 3 = 1 END,
    CASE WHEN i = 13 THEN 'infinity' WHEN i = 14 THEN '-infinity' WHEN i % 6 > 0
        THEN date '2024-02-20' + i % 20 END,
    CASE WHEN i % 7 > 0 THEN timestamp '2024-01-31 23:59:58.5' + i * interval '7 hours' END,
    CASE WHEN i % 5 > 0 THEN timestamptz '2024-03-31 00:30:00+00' + i * interval '30 minutes' END,
    CASE WHEN i % 4 > 0 THEN time '08:15' + i * interval '11 minutes' END,
    CASE WHEN i % 4 > 0 THEN make_interval(months => i % 5, days => i % 9, mins => i) END,
    CASE WHEN i % 5 > 0 THEN md5('u' || i % 30)::uuid END,
    CASE WHEN i % 6 > 0 THEN json_build_object('i', i, 'list', json_build_array(i % 3, NULL)) END,
    CASE WHEN i % 4 > 0 THEN jsonb_build_object('i', i % 8, 'tag', 't' || i % 3, 'deep',
        jsonb_build_object('n', i % 5)) END,
    CASE WHEN i % 5 > 0 THEN ARRAY[i % 3, NULL, i % 7] END,
    CASE i % 5 WHEN 0 THEN NULL WHEN 1 THEN '{}' ELSE ARRAY['a' || i % 4, 'b,c', NULL, '"q"'] END,
    CASE WHEN i % 5 > 0 THEN (enum_range(NULL::mood))[1 + i % 4] END,
    CASE WHEN i % 4 > 0 THEN ROW(i % 6, i / 2.0, CASE WHEN i % 3 > 0 THEN 'p,' || i % 4 END)::point3 END,
    CASE WHEN i % 6 > 0 THEN (i * 1.5)::percent END,
    CASE i % 5 WHEN 0 THEN NULL WHEN 1 THEN 'empty' ELSE int4range(i % 10, i % 10 + i % 6 + 1) END,
    CASE WHEN i % 4 > 0 THEN ('10.0.' || i % 3 || '.' || i)::inet END,
    CASE WHEN i % 3 > 0 THEN (i * 5 % 256)::bit(8) END
FROM generate_series(1, 60) i;
CREATE INDEX items_k ON items (k);
CREATE INDEX items_lower ON items (lower(txt)) WHERE ok;
COMMENT ON TABLE items IS 'one row of everything';

-- Made before the table is distributed.
CREATE VIEW item_names AS SELECT id, coalesce(txt, '(none)') AS name, feel FROM items;

-- events: several for an item, some for none, some for an item that is not there.
CREATE TABLE events (
    item_id int,
    seq int NOT NULL,
    kind mood,
    amount numeric(10,2),
    score float8,
    at timestamptz,
    note text DEFAULT 'none',
    tags text[],
    UNIQUE (item_id, seq)
);

-- @distribute(items, id, 8)
-- @distribute(events, item_id, 8, items)

INSERT INTO events
SELECT CASE WHEN i % 13 > 0 THEN 1 + (i * 11) % 70 END,
    i,
    CASE WHEN i % 6 > 0 THEN (enum_range(NULL::mood))[1 + i % 4] END,
    CASE WHEN i % 7 > 0 THEN (i * 37 % 1000) / 10.0 END,
    CASE WHEN i % 9 > 0 THEN i / 16.0 END,
    CASE WHEN i % 8 > 0 THEN timestamptz '2024-05-01 12:00:00+00' + (i * 53 % 200) * interval '1 hour' END,
    CASE WHEN i % 5 > 0 THEN 'note ' || i % 12 END,
    CASE i % 4 WHEN 0 THEN NULL ELSE ARRAY['t' || i % 3, 't' || i % 5] END
FROM generate_series(1, 150) i;

-- orders and their lines: a tenant's rows belong together.
CREATE TABLE orders (
    tenant_id int NOT NULL,
    order_id int NOT NULL,
    customer text,
    total numeric(12,2),
    placed date,
    status mood NOT NULL DEFAULT 'ok',
    note varchar(30),
    PRIMARY KEY (tenant_id, order_id),
    CHECK (total IS NULL OR total >= 0)
);
CREATE TABLE products (
    id int PRIMARY KEY,
    name text NOT NULL,
    category text,
    price numeric(10,2),
    gone bool DEFAULT false,
    added timestamptz
);
CREATE TABLE order_lines (
    tenant_id int NOT NULL,
    order_id int NOT NULL,
    line int NOT NULL,
    product_id int REFERENCES products,
    qty int DEFAULT 1 CHECK (qty <> 0),
    price numeric(10,2),
    PRIMARY KEY (tenant_id, order_id, line),
    FOREIGN KEY (tenant_id, order_id) REFERENCES orders ON DELETE CASCADE ON UPDATE CASCADE
);
INSERT INTO products
SELECT i, 'product ' || i, CASE WHEN i % 4 > 0 THEN 'cat' || i % 3 END,
    CASE WHEN i % 6 > 0 THEN i * 9.99 END, i % 7 = 0,
    CASE WHEN i % 3 > 0 THEN timestamptz '2023-12-24 18:00:00+00' + i * interval '1 day' END
FROM generate_series(1, 20) i;
INSERT INTO orders
SELECT 1 + i % 9, i, CASE WHEN i % 5 > 0 THEN 'customer ' || i % 8 END,
    CASE WHEN i % 6 > 0 THEN (i * 113 % 977) + 0.25 END,
    CASE WHEN i % 7 > 0 THEN date '2024-01-01' + i * 3 END,
    (enum_range(NULL::mood))[1 + i % 4],
    CASE WHEN i % 4 = 0 THEN 'urgent' END
FROM generate_series(1, 40) i;
INSERT INTO order_lines
SELECT 1 + i % 9, i, l, CASE WHEN (i + l) % 5 > 0 THEN 1 + (i * 3 + l) % 20 END, 1 + (i + l) % 4,
    CASE WHEN (i + l) % 4 > 0 THEN (i * l) + 0.5 END
FROM generate_series(1, 40) i, generate_series(1, 3) l WHERE (i + l) % 6 > 0;

-- @replicate(products)
-- @distribute(orders, tenant_id, 4)
-- @distribute(order_lines, tenant_id, 4, orders)

CREATE TABLE countries (
    code char(2) PRIMARY KEY,
    name text,
    region text,
    people int8
);
-- @replicate(countries)
INSERT INTO countries VALUES
    ('DE', 'Germany', 'Europe', 84000000), ('FR', 'France', 'Europe', 68000000),
    ('JP', '日本', 'Asia', 124000000), ('AQ', 'Antarctica', NULL, NULL),
    ('US', 'United States', 'America', 335000000), ('XX', NULL, NULL, 0),
    ('CI', 'Côte d''Ivoire', 'Africa', 28000000);

-- Keys of other types.
CREATE TABLE accounts (
    code text PRIMARY KEY,
    owner text,
    balance numeric(14,2) NOT NULL DEFAULT 0,
    country char(2),
    opened date
);
INSERT INTO accounts
SELECT CASE i WHEN 1 THEN '' WHEN 2 THEN ' ' WHEN 3 THEN 'O''Neil' WHEN 4 THEN E'a\\b' WHEN 5 THEN 'ÄÖÜ'
        WHEN 6 THEN E'line\nbreak' WHEN 7 THEN '"quoted"' WHEN 8 THEN 'NULL' ELSE 'acc' || i END,
    CASE WHEN i % 4 > 0 THEN 'owner' || i % 5 END, i * 10.5,
    CASE WHEN i % 5 > 0 THEN (ARRAY['DE', 'FR', 'JP', 'ZZ'])[1 + i % 4] END,
    CASE WHEN i % 3 > 0 THEN date '2020-02-29' + i * 100 END
FROM generate_series(1, 30) i;
-- @distribute(accounts, code, 4)

CREATE TABLE docs (
    id uuid PRIMARY KEY,
    item_id int,
    title text,
    body jsonb
);
-- @distribute(docs, id, 4)
INSERT INTO docs
SELECT md5('doc' || i)::uuid, CASE WHEN i % 4 > 0 THEN i * 2 END, 'title ' || i % 9,
    CASE WHEN i % 5 > 0 THEN jsonb_build_object('words', i * 11, 'tags', jsonb_build_array('x', i % 3)) END
FROM generate_series(1, 25) i;

CREATE TABLE days (d date, n int, what text);
INSERT INTO days
SELECT CASE WHEN i % 7 > 0 THEN date '2024-02-26' + i % 12 END, i, CASE WHEN i % 3 > 0 THEN 'day ' || i % 4 END
FROM generate_series(1, 30) i;
INSERT INTO days VALUES ('infinity', 31, 'end'), ('-infinity', 32, 'start'), ('0044-03-15 BC', 33, 'ides');
-- @distribute(days, d, 4)

CREATE TABLE prices (p numeric, label text, n int);
-- @distribute(prices, p, 4)
INSERT INTO prices VALUES
    (1, 'one', 1), (1.0, 'one point zero', 2), (1.00, 'one point zero zero', 3), (NULL, 'none', 4),
    ('NaN', 'not a number', 5), ('Infinity', 'infinite', 6), ('-Infinity', NULL, 7), (0, 'zero', 8),
    (-0.0, 'minus zero', 9), (1e30, 'large', 10), (1e-20, 'tiny', 11), (-7.5, 'negative', 12),
    (NULL, NULL, 13), (7.50, 'seven', 14), (7.5, NULL, 15);

CREATE TABLE bigs (id int8 PRIMARY KEY, v int, other int8);
-- @distribute(bigs, id, 4)
INSERT INTO bigs
SELECT (i - 15) * 4294967297, CASE WHEN i % 4 > 0 THEN i % 5 END, CASE WHEN i % 3 > 0 THEN (i % 8 - 3) * 4294967297 END
FROM generate_series(1, 30) i;
INSERT INTO bigs VALUES (9223372036854775807, 1, NULL), (-9223372036854775808, 2, 5), (5, 3, 5);

CREATE TABLE smalls (id int2, v text);
-- @distribute(smalls, id, 4)
INSERT INTO smalls SELECT CASE WHEN i % 6 > 0 THEN i - 10 END, 'v' || i % 4 FROM generate_series(1, 20) i;
INSERT INTO smalls VALUES (32767, 'max'), (-32768, 'min');

CREATE TABLE stamps (at timestamptz, n int);
-- @distribute(stamps, at, 4)
INSERT INTO stamps
SELECT CASE WHEN i % 5 > 0 THEN timestamptz '2024-10-27 00:00:00+00' + i * interval '20 minutes' END, i
FROM generate_series(1, 20) i;

CREATE TABLE labels (c char(6), n int);
-- @distribute(labels, c, 4)
INSERT INTO labels SELECT CASE WHEN i % 6 > 0 THEN 'l' || i % 8 END, i FROM generate_series(1, 24) i;

-- Tables of the coordinator alone.
CREATE TABLE loc (id int PRIMARY KEY, item_id int, word text, amt numeric(8,2), feel mood);
INSERT INTO loc
SELECT i, CASE WHEN i % 5 > 0 THEN 1 + (i * 11) % 65 END, CASE WHEN i % 4 > 0 THEN 'w' || i % 6 END,
    CASE WHEN i % 3 > 0 THEN i * 2.5 END, CASE WHEN i % 6 > 0 THEN (enum_range(NULL::mood))[1 + i % 4] END
FROM generate_series(1, 25) i;
CREATE TABLE words (w text, n int);
INSERT INTO words VALUES ('apple', 1), ('Pear', 2), (NULL, 3), ('w1', 4), ('', 5), ('vc2', NULL);
CREATE TABLE empty_local (id int, v text);

CREATE VIEW order_totals AS
    SELECT o.tenant_id, o.order_id, o.customer, count(l.line) AS lines, sum(l.qty * l.price) AS amount
    FROM orders o LEFT JOIN order_lines l USING (tenant_id, order_id)
    GROUP BY o.tenant_id, o.order_id;
