create table one (id int primary key, v text);
create table two (id int primary key, one_ int references one);
insert into one values (1, 'x');
insert into two values (1, 1);

-- stream
truncate one cascade;
insert into one values (2, 'y');
truncate two;
