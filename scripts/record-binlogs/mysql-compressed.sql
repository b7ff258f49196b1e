-- Compressed transactions.
create table t (id int primary key, v text, j json);
set session binlog_transaction_compression = on;
insert into t with recursive n(i) as (select 1 union all select i + 1 from n where i < 300) select i, repeat('compressed ', 20), '{"a": 1}' from n;
update t set j = json_set(j, '$.b', 2) where id < 10;
set session binlog_row_value_options = 'PARTIAL_JSON';
update t set j = json_set(j, '$.a', 'replaced by a longer one') where id < 5;
delete from t where id > 5;
set session binlog_transaction_compression = off;
insert into t values (1000, 'plain', null);
