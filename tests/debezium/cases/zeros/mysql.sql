set sql_mode = '', time_zone = '+00:00';
create table zeros (id int primary key, d date, t0 datetime, t6 datetime(6), i0 timestamp null default null, i6 timestamp(6) null default null, dn date not null, tn0 datetime not null, tn6 datetime(6) not null, in0 timestamp not null default '1971-01-01 00:00:01', in6 timestamp(6) not null default '1971-01-01 00:00:01');
create table zeros_by_default (id int primary key, d date default '0000-00-00', t datetime(3) default '0000-00-00 00:00:00', i timestamp null default '0000-00-00 00:00:00', dn date not null default '0000-00-00', tn datetime not null default '0000-00-00 00:00:00', in0 timestamp not null default '0000-00-00 00:00:00');
insert into zeros values (1, '0000-00-00', '0000-00-00', '0000-00-00', '0000-00-00', '0000-00-00', '0000-00-00', '0000-00-00', '0000-00-00', '0000-00-00', '0000-00-00');
insert into zeros values (2, null, null, null, null, null, '2026-11-22', '2026-11-22', '2026-11-22', '2026-11-22', '2026-11-22');
insert into zeros_by_default (id) values (1);

-- stream
insert into zeros values (3, '0000-00-00', '0000-00-00', '0000-00-00', '0000-00-00', '0000-00-00', '0000-00-00', '0000-00-00', '0000-00-00', '0000-00-00', '0000-00-00');
insert into zeros values (4, '2026-00-00', '2026-00-00', '2026-11-00', null, null, '2026-00-00', '2026-00-00 01:02:03', '2026-11-00 01:02:03.000004', '2026-11-22', '2026-11-22');
insert into zeros values (5, '2026-11-22', '2026-11-22', '2026-11-22', '2026-11-22', '2026-11-22', '0000-00-00', '0000-00-00', '0000-00-00', '2026-11-22', '2026-11-22');
update zeros set d = null, dn = '2026-11-23' where id = 3;
insert into zeros_by_default (id) values (2);
insert into zeros_by_default values (3, null, null, null, '2026-11-22', '2026-11-22', '2026-11-22');
