create table t (id int primary key);
insert into t values (1);

-- stream
select pg_logical_emit_message(false, 'alone', 'text ü');
select pg_logical_emit_message(false, 'bytes', '\x00ff'::bytea);
begin;
insert into t values (2);
select pg_logical_emit_message(true, 'audit', '{"who": 1}');
insert into t values (3);
commit;
begin;
select pg_logical_emit_message(true, 'audit', 'nothing else');
commit;
begin;
select pg_logical_emit_message(true, 'audit', 'rolled back');
select pg_logical_emit_message(false, 'alone', 'in a rolled back transaction');
rollback;
