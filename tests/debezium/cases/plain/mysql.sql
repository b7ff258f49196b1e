create table customers (id int primary key, name varchar(40) not null, email text, balance decimal(10, 2) default 0.00, born date, active boolean not null default true, since datetime(3));
create table orders (region char(2), number bigint, customer int, total double, paid timestamp(6) null, note text, primary key (region, number));
insert into customers values (1, 'Ada', 'ada@example.org', 10.50, '1815-12-10', true, '2026-01-02 03:04:05.678'), (2, 'Zoë "Z"', null, null, null, false, null), (3, 'Gone', '', -0.01, '2000-02-29', true, '1970-01-01 00:00:00');
insert into orders values ('de', 1, 1, 9.99, '2026-01-02 03:04:05.678901', 'first'), ('fr', 9007199254740993, 2, 1e21, null, 'two\nlines');

-- stream
insert into customers values (4, 'Grace', 'grace@example.org', 99999999.99, '1906-12-09', true, '2026-11-26 12:00:00.001');
insert into customers (id, name) values (5, 'Defaults');
update customers set balance = 0.01, email = null where id = 1;
update customers set id = 30 where id = 3;
delete from customers where id = 2;
begin;
insert into orders values ('de', 2, 4, 0.1, '2026-01-02 03:04:05', ''), ('de', 3, 4, -0.5, null, null);
update orders set total = 2 where region = 'de' and number = 2;
update customers set active = false where id = 4;
delete from orders where region = 'de' and number = 3;
commit;
update orders set region = 'it', note = 'moved' where number = 1;
delete from orders where region = 'fr';
update customers set balance = balance - 1 where id in (1, 4, 5);
