-- Generated columns, stored and virtual, invisible ones, defaults that are expressions; a key that isn't in front.
set sql_mode = '';
create table columns (a int, v int generated always as (a + 1) virtual, s int generated always as (a * 2) stored, t varchar(20) generated always as (concat('x', a)) virtual,
  x int default (7 + 1), y varchar(20) default (concat('d', 'ef')), hidden int invisible default 5, id int, n int not null default 3, primary key (n, id));
-- rows
insert into columns (a, id) values (5, 1);
insert into columns (a, id, hidden, x, y, n) values (null, 2, 9, null, null, -1);
insert into columns (a, id, hidden) values (-1, 3, null);
