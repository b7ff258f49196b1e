-- Compressed events.
create table t (id int primary key, v text, c varchar(1000) compressed);
set global log_bin_compress = 1, global log_bin_compress_min_len = 10;
insert into t with recursive n as (select 1 as i union all select i + 1 from n where i < 300) select i, repeat('compressed ', 20), repeat('c', 500) from n;
update t set v = 'short' where id < 10;
delete from t where id > 5;
set global log_bin_compress = 0;
insert into t values (1000, 'plain', 'plain');
