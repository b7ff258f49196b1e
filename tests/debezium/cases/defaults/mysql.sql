set sql_mode = '', time_zone = '+00:00';
create table defaults (id int primary key, t tinyint default -7, tu tinyint unsigned default 200, b boolean default true, i int default 8, iu int unsigned default 4294967295, g bigint default -9223372036854775808, gu bigint unsigned default 18446744073709551615, n decimal(10,2) default 1.5, f float default 0.5, d double default 0.1, bi1 bit(1) default b'1', bi9 bit(9) default b'101',
  v varchar(10) default 'std', ve varchar(10) default '', c char(5) default 'x', bin binary(3) default 'ab', vb varbinary(5) default 'ab', e enum('a','b') default 'b', s set('x','y') default 'x,y', da date default '2026-01-01', ti time(3) default '12:00:00.5', tn time default '-12:00:00', dt datetime default '2026-01-01 00:00:00', dt6 datetime(6) default '2026-01-01 00:00:00.5', ts timestamp null default '2026-01-01 00:00:00',
  y year default 2026, nowd datetime default current_timestamp, nowt timestamp(3) null default current_timestamp(3) on update current_timestamp(3), ex int default (7 + 1), nn int not null default 5, nv varchar(5) not null default 'nn', com int generated always as (id * 2) stored, vir int generated always as (id * 3) virtual);
insert into defaults (id, nowd, nowt) values (1, '2026-01-01 00:00:00', '2026-01-01 00:00:00');

-- stream
insert into defaults (id, nowd, nowt) values (2, '2026-01-01 00:00:00', '2026-01-01 00:00:00');
insert into defaults values (3, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, 1, '', default, default);
delete from defaults where id = 2;
