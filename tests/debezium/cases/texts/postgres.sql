create extension hstore;
create extension citext;
create extension ltree;
create extension isn;
create type mood as enum ('sad', 'ok', 'happy');
alter type mood add value 'so so' before 'ok';
create domain code as varchar(6) check (value <> 'bad');
create domain amount as numeric(8, 3);
create type pair as (a int, b text);
create table texts (id int primary key, body text, title varchar(5), code_ char(4), one "char", data bytea, flag boolean, bits bit(9), varbits varbit(20), freebits varbit, lonebit bit, bits64 bit(64), uid uuid,
  doc json, docb jsonb, page xml, ci citext, path ltree, map hstore, book isbn, how mood not null default 'ok', dom code, cost amount, pair_ pair, path_ jsonpath, query tsquery, vec tsvector);
insert into texts values (1, 'plain', 'title', 'ab', 'x', '\x00ff', true, B'010100001', B'00000001', B'101', B'1', B'1000000000000000000000000000000000000000000000000000000000000001', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '{"b": 1, "a":  1.10}', '{"b": 1, "a": 1.10}', '<a b="c">ü</a>', 'CiText', 'Top.Science', '"a"=>"1", "bb"=>NULL, "c d"=>"x \"y\""', '0-393-04002-X', 'sad', 'ok', 1.5, '(1,x)', '$.a', '''fat'' & ''cat''', '''fat'':2 ''rat'':3');
insert into texts (id) values (2);

-- stream
insert into texts values (3, E'äöü "quoted"\t\n\r\b\f\\ € 😀 \u2028 \x7f \x01 / <>&''', '', '', '', '\x', false, B'000000000', B'', B'', B'0', B'0000000000000000000000000000000000000000000000000000000000000000', '00000000-0000-0000-0000-000000000000', '[1,
 2]', '"text"', '<r/>', '', '', '', null, 'so so', '', 0, '(,)', '$', '', '');
insert into texts values (4, repeat('long é ', 3), 'ab', 'abcd', 'y', '\xdeadbeeffbff3e3f', null, B'111111111', B'11111111111111111111', B'00000000000000000000000000000000000000001', B'1', B'1111111111111111111111111111111111111111111111111111111111111111', 'ffffffff-ffff-ffff-ffff-ffffffffffff', 'null', '[]', 'just text', '"', 'a.b', 'k=>v', null, 'happy', 'x', -0.001, null, null, null, null);
insert into texts (id) values (5);
update texts set title = 'new', how = 'ok' where id = 1;
delete from texts where id = 4;
