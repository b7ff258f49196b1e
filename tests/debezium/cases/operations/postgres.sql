create table t (id int primary key, a int, b int);
alter table t replica identity full;
insert into t values (1, 1, 1);

-- stream
insert into t values (2, 2, 2);
update t set a = 20 where id = 2;
update t set b = 30 where id = 2;
update t set a = a where id = 2;
update t set id = 3 where id = 2;
delete from t where id = 3;
