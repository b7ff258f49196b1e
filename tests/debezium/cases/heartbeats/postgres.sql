create table t (id int primary key, a int);
insert into t values (1, 1);

-- stream
insert into t values (2, 2);
