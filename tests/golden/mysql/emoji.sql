-- Labels that information_schema can't show. Lost elsewhere: an emoji in a label is a question mark.
set sql_mode = '';
create table emoji (id int primary key, e enum('😀','?','plain'), s set('😀','a','?😀'), u enum('x','😀') character set utf16);
-- rows
insert into emoji values (1, '😀', '😀,a', 'x');
insert into emoji values (2, '?', '?😀', '😀');
insert into emoji values (3, 'plain', 'a', null);
insert into emoji values (4, null, '', 0);
