begin;
insert into customers values (999999999, 'the last one', null, 1);
insert into orders values (999999999, 999999999, 'new', 0, 'the last one', '2026-11-22 11:32:36', 1);
insert into order_lines values (999999999, 1, 'the last one', 1, 0, 1);
commit;
