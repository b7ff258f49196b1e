create table t (id int primary key, a int, b text);
insert into t values (1, 1, 'x');

-- stream
insert into t values (2, 2, 'y');
-- settle
alter table t add c numeric(6, 2) default 1.5;
insert into t values (3, 3, 'z', null);
update t set a = 10 where id = 1;
-- settle
alter table t drop a;
insert into t values (4, 'w', 2.25);
-- settle
alter table t rename b to bb;
insert into t values (5, 'v', 3);
-- settle
alter table t alter id type bigint;
update t set bb = 'u' where id = 5;
-- settle
create table new_ (k varchar(10) primary key, v timestamptz);
insert into new_ values ('k', '2026-01-01 00:00:00+00');
-- settle
alter table t drop constraint t_pkey;
alter table t replica identity full;
insert into t values (6, 'nokey', 4);
delete from t where id = 6;
