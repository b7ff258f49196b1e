create table t (id int primary key, a int, b varchar(20));
create table gone (id int primary key);
insert into t values (1, 1, 'x');
insert into gone values (1);

-- stream
insert into t values (2, 2, 'y');
alter table t add c decimal(6, 2) default 1.5 comment 'money', add first_ int first;
insert into t values (1, 3, 3, 'z', null);
update t set a = 10 where id = 1;
alter table t drop a;
insert into t values (null, 4, 'w', 2.25);
alter table t change b bb varchar(30) not null default 'std';
insert into t (id, bb) values (5, 'v');
alter table t modify id bigint unsigned;
update t set bb = 'u' where id = 5;
create table new_ (k varchar(10) primary key, e enum('a','b') not null default 'a', v timestamp(3) null);
insert into new_ values ('k', 'b', '2026-01-01 00:00:00');
create index v_at on new_ (v);
rename table t to renamed;
insert into renamed (id, bb) values (6, 'r');
drop table gone;
alter table renamed drop primary key;
insert into renamed (id, bb) values (7, 'nokey');
delete from renamed where id = 7;
create view looks as select id from renamed;
truncate table new_;
