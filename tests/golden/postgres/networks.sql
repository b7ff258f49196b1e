-- Networks, the server's own types, and maps. debezium-losses: pg_lsn, xid, xid8 are absent, int2vector is empty (numbers.sql), unchanged
-- hstore has the placeholder as its key and value.
create extension hstore;
create extension isn;
create table networks (id int primary key, host inet, net cidr, mac macaddr, mac8 macaddr8, at_lsn pg_lsn, tx xid, tx8 xid8, cmd cid, place tid, snap pg_snapshot,
  oldsnap txid_snapshot, vec tsvector, map hstore, book isbn13, rights aclitem, hosts inet[], nets cidr[], macs macaddr[], lsns pg_lsn[], vecs tsvector[],
  maps hstore[]);
-- rows
insert into networks values (1, '10.0.0.1', '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05', '16/B374D848', '7', '18446744073709551615', '1', '(0,1)', '10:20:10,14,15', '10:20:10', $$'fat':2,4A 'rat':3B,5C 'it''s \\':1$$, '"a"=>"1", "bb"=>NULL, "c d"=>"x \"y\" \\", ""=>""', '978-0-393-04002-9', 'postgres=r/postgres', '{10.0.0.1/8,::1,NULL}', '{10.0.0.0/8,::/0}', '{08:00:2b:01:02:03}', '{0/0,FFFFFFFF/FFFFFFFF}', '{"''a'':1 ''b''",""}', '{"\"a\"=>NULL","",NULL}');
insert into networks values (2, '::ffff:1.2.3.4', '::/0', 'ff:ff:ff:ff:ff:ff', '00:00:00:00:00:00:00:00', '0/0', '4294967295', '0', '0', '(4294967295,65535)', '1:1:', '9223372036854775806:9223372036854775807:', '', '', null, null, '{}', '{}', '{}', '{}', '{}', '{}');
insert into networks values (3, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null);
insert into networks values (4, '2001:db8::1/64', '2001:db8:0:1:1:1:1:1/128', '00:00:00:00:00:00', null, null, null, null, null, null, null, null, 'ä:1 日本:16383D', 'ключ=>"значение", NULL=>"NULL"', null, null, '{{1.2.3.4},{::2}}', null, null, null, null, null);
insert into networks values (5, '1::2:0:0:3:4', '0.0.0.0/0', null, null, null, null, null, null, null, null, null, 'a:1,2,3', 'a=>b', null, null, '{::10.1.2.3,::1:0:0,fe80::,1:0:2:3:4:5:6:7,::}', null, null, null, null, null);
