-- XA transactions: in one phase, in two, rolled back, with another one between.
create table t (id int primary key, v varchar(10));
xa start 'one'; insert into t values (1, 'one'); xa end 'one'; xa commit 'one' one phase;
xa start 'two', 'branch', 7; insert into t values (2, 'two'); xa end 'two', 'branch', 7; xa prepare 'two', 'branch', 7;
xa commit 'two', 'branch', 7;
xa start 'three'; insert into t values (3, 'three'); xa end 'three'; xa prepare 'three';
xa rollback 'three';
insert into t values (4, 'plain');
