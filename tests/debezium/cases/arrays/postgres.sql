set timezone = 'UTC';
create type mood as enum ('sad', 'ok');
create table arrays (id int primary key, bools bool[], smalls int2[], ints int4[], bigs int8[], oids oid[], reals real[], doubles float8[], nums numeric[], fixeds numeric(10, 2)[], texts text[], chars char(3)[],
  varchars varchar(5)[], uids uuid[], days date[], clocks time[], locals timestamp[], instants timestamptz[], datas bytea[], docs json[], docbs jsonb[], moods mood[], hosts inet[], ranges int4range[], dayranges daterange[]);
insert into arrays values (1, '{t,f,NULL}', '{1,-2,NULL}', '{1,2}', '{9223372036854775807}', '{4294967295}', '{0.5,NaN}', '{0.1,-Infinity}', '{1.10,NULL}', '{1.5,-0.01}', '{a,NULL,"NULL","","x \"y\" \\ {z}","ü,1"}', '{ab,abc}', '{a,b}', '{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}', '{2026-11-22,NULL}', '{12:00,12:00:00.5}', '{"2026-11-22 11:32:36.5"}', '{"2026-11-22 11:32:36.5+00"}', '{"\\x00ff",NULL}', '{"{\"a\": 1}",NULL}', '{"[1, 2]"}', '{sad,ok}', '{10.0.0.1}', '{"[1,2)",empty}', '{"[2026-01-01,2026-02-01)"}');
insert into arrays (id) values (2);

-- stream
insert into arrays values (3, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}');
insert into arrays select 4, bools, smalls, ints, bigs, oids, reals, doubles, nums, fixeds, texts, chars, varchars, uids, days, clocks, locals, instants, datas, docs, docbs, moods, hosts, ranges, dayranges from arrays where id = 1;
insert into arrays (id) values (5);
