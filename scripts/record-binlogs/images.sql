-- Rows with parts left out.
create table t (id int primary key, a int default 7, b text, c varchar(20), j json);
create table n (v int, w text);
set session binlog_row_image = 'MINIMAL';
insert into t (id, b) values (1, 'blob'), (2, null);
update t set c = 'c' where id = 1;
update t set id = 20 where id = 2;
insert into n values (1, 'w');
update n set v = 2;
delete from n;
delete from t where id = 1;
set session binlog_row_image = 'NOBLOB';
insert into t (id, a, b, j) values (3, 3, 'blob', '{"k": 1}');
update t set a = 4 where id = 3;
update t set b = 'other', j = json_set(j, '$.k', 2) where id = 3;
delete from t where id = 3;
set session binlog_row_image = 'FULL';
update t set a = 5 where id = 20;
