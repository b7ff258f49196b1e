set sql_mode = '';
create table texts (id int primary key, c char(4), v varchar(5) not null default 'std', tt tinytext, tx text, mt mediumtext, lt longtext, tl text character set latin1, vb varchar(10) collate utf8mb4_bin,
  bin binary(5), vbin varbinary(30), tb tinyblob, bl blob, mb mediumblob, lb longblob, e enum('a','b','c d') default 'b', en enum('x','y') not null, s set('one','two','three'), j json);
insert into texts values (1, 'ab', 'x', 'tiny', 'text', 'medium', 'long', 'café €', 'A', x'0102', x'00ff00', x'00', x'deadbeef', x'ff', x'0a0d', 'a', 'y', 'one,three', '{"b": 1, "a": [1.5, "x", null, true]}');
insert into texts (id) values (2);

-- stream
insert into texts values (3, '', '', '', concat('äöü "q"\t\\ \n\r\b € 😀 / <>&', char(39), char(1 using utf8mb4)), '  spaces  ', repeat('é', 10), '', 'a', x'', x'', x'', x'', x'', x'', null, 'x', '', '{}');
insert into texts values (4, 'abcd', 'é', 'é', 'é', 'é', 'é', 'é', 'B', x'0100000000', x'deadbeeffbff3e3f', x'01', x'00', x'0000', x'ffff', 'c d', 'x', 'three,two', '[1, -1, 2147483648, 18446744073709551615, 0.5, "text \\" ü", {"k": {}}, []]');
insert into texts (id) values (5);
update texts set v = 'new', e = 'b' where id = 1;
delete from texts where id = 4;
