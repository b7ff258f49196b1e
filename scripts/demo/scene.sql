begin;
insert into customers values (1, 'Zoë Müller', 'Zürich', 1);
insert into orders values (1, 1, 'new', 41.70, 'gift wrap, "red" 🎁', '2026-11-22 11:32:36', 1);
insert into order_lines values (1, 1, 'teapot', 1, 29.90, 1), (1, 2, 'green tea', 2, 5.90, 1);
commit;
update orders set status = 'paid', version = version + 1 where id = 1;
delete from order_lines where order_id = 1 and line = 2;
