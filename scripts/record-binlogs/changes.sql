-- Rows of a table with most kinds of columns, in transactions of all forms.
set time_zone = '+00:00', timestamp = 1795600000;
create table t (id bigint primary key, i int, u int unsigned, d decimal(20,6), f double, c char(5) character set latin1, v varchar(40), t text,
  b varbinary(10), bin binary(4), e enum('a','ö','c'), s set('x','y'), dt datetime(3), ts timestamp(6) null, ti time(2), da date, y year, bi bit(10), j json);
create table k (v int, w varchar(10));
insert into t values (1, -1, 4294967295, -12345.678901, 0.1, 'é', '汉', 'text', x'00ff', x'0102', 'ö', 'x,y', '2026-11-22 10:11:12.345',
  '2026-11-22 10:11:12.345678', '-12:34:56.78', '2026-02-28', 2026, b'1000000001', '{"a": [1, 2.5, null], "b": {"c": "d"}, "n": -9007199254740993}');
insert into t (id) values (2), (3), (4);
update t set v = 'changed', j = json_set(coalesce(j, '{}'), '$.a', 'x'), t = repeat('long ', 500) where id < 3;
begin; insert into k values (1, 'one'); savepoint s; insert into k values (2, 'two'); rollback to s; insert into k values (3, null); commit;
begin; insert into k values (9, 'nine'); rollback;
update t set id = 40 where id = 4;
replace into t (id, i) values (3, 33), (5, 55);
insert into t (id, i) values (5, 56), (6, 66) on duplicate key update i = values(i);
update t join k on t.id = k.v set t.i = 100, k.w = 'joined';
delete t, k from t join k on t.id = k.v where t.id = 1;
insert into k select id, v from t where id > 2;
truncate k;
delete from t where id = 40;
