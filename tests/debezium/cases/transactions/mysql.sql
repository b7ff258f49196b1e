create table one (id int primary key, v text);
create table two (id int primary key, v text);
insert into one values (1, 'x');

-- stream
begin;
insert into one values (2, 'y'), (3, 'z');
insert into two values (1, 'a');
update one set v = 'yy' where id = 2;
update two set id = 2 where id = 1;
delete from one where id = 3;
commit;
insert into two values (3, 'c');
begin;
insert into one values (4, 'rolled back');
rollback;
begin;
savepoint a;
insert into one values (5, 'kept');
rollback to a;
insert into one values (6, 'kept');
commit;
