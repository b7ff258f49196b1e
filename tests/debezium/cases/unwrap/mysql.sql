create table t (id int primary key, a varchar(20) not null default 'std', b numeric(5, 2));
create table nokey (v int);
insert into t values (1, 'x', 1.5);
insert into nokey values (1);

-- stream
insert into t values (2, 'y', null);
update t set a = 'z' where id = 1;
update t set id = 3 where id = 2;
delete from t where id = 3;
insert into nokey values (2);
