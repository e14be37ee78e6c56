-- Values of type xml, where Postgres was built with it.
-- @readonly
-- @needs(SELECT 1 FROM pg_config WHERE name = 'CONFIGURE' AND setting LIKE '%with-libxml%')

SELECT id, xmlelement(name item, xmlattributes(k AS k), txt)::text FROM items WHERE id < 12;
SELECT xmlagg(xmlelement(name x, id) ORDER BY id)::text FROM items WHERE id < 5;
SET xmloption = 'document';
SELECT id, (xmlparse(CONTENT '<a/>'))::text FROM items WHERE id < 3;
RESET xmloption;
