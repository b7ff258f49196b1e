-- Text and bytes. debezium-losses: name is null in the stream, xml[] stops the snapshot, refcursor stops it, varbit loses its length
-- and zero bits, bit[] and varbit[] are null or absent, an enum array with a NULL element is null, enum labels with commas.
create extension citext;
create extension ltree;
create domain code as varchar(6) check (value <> 'bad');
create domain codes as code[];
create type mood as enum ('sad', 'o,k', 'äöü "x"', 'NULL');
create domain feeling as mood;
create table texts (id int primary key, body text, title varchar(5), code char(4), one "char", short name, data bytea, flag boolean,
  bits bit(9), varbits varbit, lonebit bit, uid uuid, doc json, docb jsonb, page xml, cursor refcursor, ci citext, path ltree, query lquery,
  jpath jsonpath, how mood, felt feeling, dom code, bodies text[], names name[], datas bytea[], flags bool[], bitss bit(3)[], varbitss varbit[],
  uids uuid[], docs json[], pages xml[], hows mood[], felts feeling[], doms codes, cis citext[]);
-- rows
insert into texts values (1, 'plain', 'title', 'abcd', 'x', 'a_name', '\x00ff', true, B'010100001', B'00000001', B'1', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '{"b": 1, "a":  1.10, "a":2}', '{"b": 1, "a": 1.10, "n": 12345678901234567890.0123456789, "s": "x\"y"}', '<?xml version="1.0" encoding="UTF-8"?><a b="c">ü</a>', 'portal', 'CiText', 'Top.Science.Astronomy', '*.Sci*.!x', '$.a[*] ? (@ > 1)', 'sad', 'o,k', 'ok', '{a,NULL,"NULL","","x \"y\" \\ {z}","ü,1"}', '{a,"b c"}', '{"\\x00",NULL,"\\x"}', '{t,f,NULL}', '{101,010}', '{101,"",1}', '{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11,NULL}', '{"{\"a\": 1}","null","[1, \"x\"]",NULL}', '{"<a>1</a>","<b c=\"d\"/>"}', '{sad,NULL,"o,k","NULL"}', '{"äöü \"x\"",NULL}', '{a,"b,c",NULL}', '{A,b}');
insert into texts values (2, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null);
insert into texts values (3, E'äöü "quoted"\t\n\r\b\f\\ € 😀 \u2028 \x7f', '', 'ü', 'ÿ', 'Ünï "quoted"', '\x', false, B'000000000', B'', B'0', '00000000-0000-0000-0000-000000000000', E'[1,\n 2]', '"text"', '<?xml version="1.1" standalone="yes"?><r><![CDATA[<&>]]></r>', '', 'É', '', 'a|b.*{1,2}', 'lax $."k\"ey"', 'NULL', 'NULL', '', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}');
insert into texts values (4, 'ends in a backslash \', 'ab', 'ab', '', '', '\xdeadbeef', null, B'111111111', B'1', B'1', 'ffffffff-ffff-ffff-ffff-ffffffffffff', 'null', '[]', 'just text', '"', '"', 'a.b', '*', 'strict $', 'äöü "x"', 'sad', 'x,"y"', '[5:6]={a,b}', '{{a,b},{c,d}}', '{{"\\x01"},{"\\x02"}}', '{{t},{f}}', '{{101},{110}}', '{{1},{01}}', null, '{{"{}"},{"[]"}}', null, '{{sad},{NULL}}', null, '[0:0]={x}', '{{"a"},{"B"}}');
insert into texts (id, body) values (5, repeat('long é ', 3));
