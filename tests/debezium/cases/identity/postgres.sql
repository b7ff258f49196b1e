create table full_ (id int primary key, a text not null default 'std', b int);
create table default_ (id int primary key, a text not null default 'std', b int, c numeric(5, 2) not null);
create table index_ (id int primary key, u int not null, b text);
create unique index index_u on index_ (u);
alter table full_ replica identity full;
alter table index_ replica identity using index index_u;
insert into full_ values (1, 'x', 1), (2, 'y', null);
insert into default_ values (1, 'x', 1, 1.5), (2, 'y', null, 2);
insert into index_ values (1, 10, 'x'), (2, 20, 'y');

-- stream
update full_ set b = 2 where id = 1;
update full_ set id = 10 where id = 1;
delete from full_ where id = 2;
update default_ set b = 2 where id = 1;
update default_ set id = 10 where id = 1;
delete from default_ where id = 2;
update index_ set b = 'z' where id = 1;
update index_ set id = 11 where id = 1;
delete from index_ where id = 2;
