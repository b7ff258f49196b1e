create table nokey (a int, b text);
create table composite (b text, a bigint, v int, primary key (a, b));
create table uniq (u int not null unique, v text);
create table uniqnull (u int unique, v text);
create table uniqtwo (x int not null, y uuid not null, v text, unique (x, y));
create table reversed (v int, k1 smallint, k0 varchar(3), primary key (k0, k1));
insert into nokey values (1, 'x'), (null, null);
insert into composite values ('x', 1, 1), ('y', 2, 2);
insert into uniq values (1, 'x');
insert into uniqnull values (1, 'x');
insert into uniqtwo values (1, 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', 'x');
insert into reversed values (1, 2, 'abc');

-- stream
alter table nokey replica identity full;
insert into nokey values (2, 'y');
update nokey set b = 'z' where a = 2;
delete from nokey where a = 2;
insert into composite values ('z', 3, 3);
update composite set v = 10 where a = 1;
update composite set a = 20 where a = 2;
update composite set a = 30, b = 'w', v = 31 where a = 3;
delete from composite where a = 1;
insert into uniq values (2, 'y');
insert into uniqnull values (2, 'y');
insert into uniqtwo values (2, 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', 'y');
insert into reversed values (2, 3, 'd');
update reversed set v = 3;
delete from reversed where k1 = 3;
