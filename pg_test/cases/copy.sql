-- COPY FROM and TO, text and CSV, with options and errors.

COPY items (id, k, txt) FROM STDIN;
101	1	plain
102	\N	null k
103	3	tab\there
104	4	back\\slash
105	5	new\nline
106	6	
107	7	\N
108	8	\x41\102C
109	9	東京
110	10	quote " and '
\.
SELECT id, k, txt, length(txt) FROM items WHERE id > 100;
COPY items (txt, id) FROM STDIN;
swapped	111
\.
COPY items (id, feel, pt, ints, texts, jb, raw, d, iv, span, pct, f8) FROM STDIN;
112	happy	(1,2.5,"a,b")	{1,NULL,3}	{"x y",NULL,"\\"q\\""}	{"a": [1, 2]}	\\x00ff	2024-02-29	1 mon 2 days	[1,5)	12.5	NaN
113	\N	\N	{}	\N	null	\\x	infinity	00:00:01	empty	0	-Infinity
\.
SELECT id, feel, pt, ints, texts, jb, raw, d, iv, span, pct, f8 FROM items WHERE id IN (112, 113);
COPY items (id, k, txt) FROM STDIN (FORMAT csv);
120,1,plain
121,,"quoted, with comma"
122,2,"two ""quotes"""
123,3,"line
break"
124,4,
125,5,""
126,6,\N
127,7,\.x
\.
SELECT id, k, txt FROM items WHERE id BETWEEN 120 AND 130;
COPY items (id, txt, vc) FROM STDIN (FORMAT csv, HEADER, DELIMITER ';', NULL 'nil', QUOTE '''', ESCAPE '\');
id;txt;vc
131;'it\'s';x
132;nil;'nil'
133;a"b;
\.
SELECT id, txt, vc FROM items WHERE id BETWEEN 131 AND 139;
COPY items (id, txt, vc) FROM STDIN (FORMAT csv, FORCE_NOT_NULL (txt), FORCE_NULL (vc));
140,,""
141,"",
\.
SELECT id, txt, vc FROM items WHERE id BETWEEN 140 AND 149;
COPY items (id, txt) FROM STDIN WITH DELIMITER '|' NULL '-';
150|x
151|-
152|a\|b
\.
SELECT id, txt FROM items WHERE id BETWEEN 150 AND 159;
COPY items (id, k) FROM STDIN WHERE k > 5 AND id % 2 = 0;
160	9
161	9
162	1
164	8
\.
SELECT id FROM items WHERE id BETWEEN 160 AND 169;
COPY items (id, txt) FROM STDIN (ENCODING 'LATIN1');
170	caf
\.
COPY events (item_id, seq) FROM STDIN;
\N	8000
1	8000
2	8000
\N	8001
\.
SELECT item_id, seq, note FROM events WHERE seq >= 8000;
COPY events (seq, note, item_id) FROM STDIN (FORMAT csv, NULL 'NULL');
8100,NULL,NULL
8101,x,5
\.
-- @error(23505)
COPY accounts (code, balance) FROM STDIN;
with\ttab	1
with\\backslash	2
	99
\.
SELECT count(*) FROM accounts WHERE code LIKE 'with%';
COPY accounts (code, balance) FROM STDIN (FORMAT csv);
"csv ""key""",1
csv\backslash,2
"csv
newline",3
\.
SELECT code, balance FROM accounts WHERE code LIKE 'csv%';
COPY docs FROM STDIN;
a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11	1	t	{"x": 1}
A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A12	2	t	\N
{a0eebc999c0b4ef8bb6d6bb9bd380a13}	3	\N	[]
\.
SELECT * FROM docs WHERE item_id < 4;
COPY days FROM STDIN;
2024-02-29	1000	iso
February 28, 2024	1001	spelled
infinity	1002	end
\N	1003	none
\.
SELECT * FROM days WHERE n >= 1000;
COPY prices (p, n) FROM STDIN;
1.000	1000
 7.5	1001
NaN	1002
1e3	1003
\N	1004
\.
SELECT p, n FROM prices WHERE n >= 1000;
SELECT n FROM prices WHERE p = 7.5;
COPY labels FROM STDIN;
l3	1000
l3    	1001
\.
SELECT n FROM labels WHERE c = 'l3';
SET TimeZone = 'America/New_York';
COPY stamps FROM STDIN;
2024-11-03 01:30:00	500
2024-11-03 01:30:00-05	501
\.
RESET TimeZone;
SELECT at, n FROM stamps WHERE n >= 500;
SET DateStyle = 'SQL, DMY';
COPY days FROM STDIN;
01/02/2024	2000	first of February
\.
COPY days TO STDOUT (FORMAT csv);
RESET DateStyle;
SELECT d FROM days WHERE n = 2000;
COPY orders (tenant_id, order_id) FROM STDIN;
1	800
2	800
3	800
\.
SELECT * FROM orders WHERE order_id = 800;
COPY products (id, name) FROM STDIN;
400	copied
401	copied too
\.
COPY countries FROM STDIN (FORMAT csv, HEADER match);
code,name,region,people
BR,Brazil,America,215000000
KE,Kenya,Africa,
\.
COPY loc (id, word) FROM STDIN;
300	local
\.
COPY items (id) FROM STDIN;
\.

-- errors leave nothing
-- @error(23505)
COPY items (id, k) FROM STDIN;
900	1
901	1
5	1
902	1
\.
-- @error(22P02)
COPY items (id, k) FROM STDIN;
903	1
904	x
\.
-- @error(22P04)
COPY items (id, k) FROM STDIN;
905	1
906
\.
-- @error(22P04)
COPY items (id, k) FROM STDIN;
905	1
906	1	2
\.
-- @error(23502)
COPY items (id, k) FROM STDIN;
907	1
\N	1
\.
-- @error(23514)
COPY orders (tenant_id, order_id, total) FROM STDIN;
1	850	5
2	850	-5
\.
-- @error(23503)
COPY order_lines (tenant_id, order_id, line) FROM STDIN;
1	800	1
77	1	1
\.
-- @error(22P02)
COPY items (id, feel) FROM STDIN;
908	angry
\.
-- @error(22001)
COPY items (id, vc) FROM STDIN;
909	this is much longer than twenty characters
\.
-- @error(42703)
COPY items (id, nothing) FROM STDIN;
1	1
\.
-- @error(22P04)
COPY items (id, k) FROM STDIN (FORMAT csv);
910,"1
\.
SELECT count(*) FROM items WHERE id >= 900;

-- out
COPY items (id, k, txt) TO STDOUT;
COPY items TO STDOUT;
COPY items TO STDOUT (FORMAT csv, HEADER, FORCE_QUOTE *);
COPY events (item_id, seq, tags) TO STDOUT (FORMAT csv, NULL 'null', DELIMITER '|');
-- @ordered
COPY (SELECT id, txt, feel FROM items ORDER BY id DESC LIMIT 10) TO STDOUT;
-- @ordered
COPY (SELECT k, count(*) FROM items GROUP BY k ORDER BY k) TO STDOUT (FORMAT csv);
COPY (SELECT i.id, p.name FROM items i JOIN products p ON p.id = i.k) TO STDOUT;
COPY (DELETE FROM events WHERE item_id = 8 RETURNING *) TO STDOUT;
COPY products TO STDOUT;
COPY loc TO STDOUT;
-- @error(42809)
COPY item_names TO STDOUT;

-- in transactions
BEGIN;
COPY items (id, k) FROM STDIN;
1001	1
1002	2
1003	3
\.
SELECT count(*) FROM items WHERE id > 1000;
UPDATE items SET k = 9 WHERE id = 1002;
COPY (SELECT id, k FROM items WHERE id > 1000) TO STDOUT;
ROLLBACK;
SELECT count(*) FROM items WHERE id > 1000;
BEGIN;
SAVEPOINT a;
-- @error(23505)
COPY items (id) FROM STDIN;
1010
5
\.
ROLLBACK TO a;
COPY items (id) FROM STDIN;
1011
\.
COMMIT;
SELECT id FROM items WHERE id > 1000;
