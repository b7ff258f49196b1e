-- The shop in MySQL, empty. Beside it, in a database that is not captured, triggers keep the audit that the proof goes by:
-- one row for each event that a reader must get, written in the transaction of the change itself.
create database shop character set utf8mb4;
create database audit character set utf8mb4;
create table audit.changes (
  n bigint auto_increment primary key,
  tx bigint not null,
  tbl varchar(20) not null,
  `key` varchar(80) not null,
  op char(1) not null,
  version int not null
);
use shop;
create table customers (
  id int primary key,
  name varchar(80) not null,
  city varchar(80),
  version int not null
);
create table orders (
  id bigint primary key,
  customer_id int not null,
  status varchar(20) not null,
  total decimal(10,2) not null,
  note text,
  placed_at datetime not null,
  version int not null
);
create table order_lines (
  order_id bigint,
  line int,
  product varchar(80) not null,
  quantity int not null,
  price decimal(8,2) not null,
  version int not null,
  primary key (order_id, line)
);
-- The number of the transaction is the session's variable @tx, which the writers count up.
create trigger customers_c after insert on customers for each row
  insert into audit.changes values (default, coalesce(@tx, 0), 'customers', concat('{"id":', new.id, '}'), 'c', new.version);
create trigger customers_u after update on customers for each row
  insert into audit.changes values (default, coalesce(@tx, 0), 'customers', concat('{"id":', new.id, '}'), 'u', new.version);
create trigger customers_d after delete on customers for each row
  insert into audit.changes values (default, coalesce(@tx, 0), 'customers', concat('{"id":', old.id, '}'), 'd', old.version);
create trigger orders_c after insert on orders for each row
  insert into audit.changes values (default, coalesce(@tx, 0), 'orders', concat('{"id":', new.id, '}'), 'c', new.version);
delimiter //
create trigger orders_u after update on orders for each row
begin
  if old.id = new.id then
    insert into audit.changes values (default, coalesce(@tx, 0), 'orders', concat('{"id":', new.id, '}'), 'u', new.version);
  else
    -- A row that moves to another key is a delete and an insert.
    insert into audit.changes values (default, coalesce(@tx, 0), 'orders', concat('{"id":', old.id, '}'), 'd', old.version);
    insert into audit.changes values (default, coalesce(@tx, 0), 'orders', concat('{"id":', new.id, '}'), 'c', new.version);
  end if;
end //
delimiter ;
create trigger orders_d after delete on orders for each row
  insert into audit.changes values (default, coalesce(@tx, 0), 'orders', concat('{"id":', old.id, '}'), 'd', old.version);
create trigger order_lines_c after insert on order_lines for each row
  insert into audit.changes values (default, coalesce(@tx, 0), 'order_lines', concat('{"order_id":', new.order_id, ',"line":', new.line, '}'), 'c', new.version);
create trigger order_lines_u after update on order_lines for each row
  insert into audit.changes values (default, coalesce(@tx, 0), 'order_lines', concat('{"order_id":', new.order_id, ',"line":', new.line, '}'), 'u', new.version);
create trigger order_lines_d after delete on order_lines for each row
  insert into audit.changes values (default, coalesce(@tx, 0), 'order_lines', concat('{"order_id":', old.order_id, ',"line":', old.line, '}'), 'd', old.version);
