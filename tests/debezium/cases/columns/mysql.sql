create table t (id int unsigned auto_increment primary key, name varchar(40) not null default 'std' comment 'who', secret text, n decimal(8,3), f float(7,3), c char(3), b varbinary(20), ts timestamp(3) null, ti time(2), e enum('sad','ok'), bi bit(5), big bigint unsigned, flag tinyint(1), y year, j json);
insert into t values (1, 'Adelaide', 'hunter2', 1.5, 1.10, 'a', x'0102', '2026-01-01 00:00:00', '01:02:03', 'ok', b'10101', 5, 1, 2026, '{}');

-- stream
insert into t (id, name) values (2, 'é😀x'), (3, '');
update t set secret = 'ünïcode', n = 2 where id = 1;
delete from t where id = 1;
