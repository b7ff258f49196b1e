create table `Mixed-Case` (`Id` int primary key, `with space` text, `dash-ed` int, `dot.ted` int, `1digit` int, `日本` int, `dollar$` int);
create table under_score (id int primary key, `UPPER` int);
create table `é` (id int primary key);
insert into `Mixed-Case` values (1, 'x', 1, 2, 3, 4, 5);
insert into under_score values (1, 1);
insert into `é` values (1);

-- stream
insert into `Mixed-Case` values (2, 'y', 1, 2, 3, 4, 5);
update under_score set `UPPER` = 2;
delete from `é`;
