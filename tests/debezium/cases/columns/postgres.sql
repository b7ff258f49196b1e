create type mood as enum ('sad', 'ok');
create table t (id int primary key, name varchar(40) not null default 'std', secret text, n numeric(8, 3), f numeric, c char(3), b bytea, ts timestamp(3), iv interval, arr int[], how mood, bits bit(5));
insert into t values (1, 'Adelaide', 'hunter2', 1.5, 1.10, 'a', '\x0102', '2026-01-01 00:00:00', '1 day', '{1}', 'ok', B'10101');

-- stream
insert into t values (2, 'é😀x', null, null, null, null, null, null, null, null, null, null), (3, '', '', null, null, null, null, null, null, null, null, null);
update t set secret = 'ünïcode', n = 2 where id = 1;
delete from t where id = 1;
