-- The shop in PostgreSQL, empty. Beside it, in a schema that is not captured, triggers keep the audit that the proof goes
-- by: one row for each event that a reader must get, written in the transaction of the change itself.
\set QUIET on
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
  total numeric(10,2) not null,
  note text,
  placed_at timestamp(0) not null,
  version int not null
);
create table order_lines (
  order_id bigint,
  line int,
  product varchar(80) not null,
  quantity int not null,
  price numeric(8,2) not null,
  version int not null,
  primary key (order_id, line)
);
-- So that `before` is the whole row, as in MySQL; else it is what the server logs: nothing, or the key.
alter table customers replica identity full;
alter table orders replica identity full;
alter table order_lines replica identity full;

create schema audit;
create table audit.changes (
  n bigserial primary key,
  tx bigint not null default txid_current(),
  tbl text not null,
  key text not null,
  op text not null,
  version int not null
);
create function audit.note() returns trigger language plpgsql as $$
declare
  old_key text;
  new_key text;
begin
  if tg_op <> 'INSERT' then
    old_key := case tg_table_name when 'order_lines' then format('{"order_id":%s,"line":%s}', to_jsonb(old)->>'order_id', to_jsonb(old)->>'line')
      else format('{"id":%s}', to_jsonb(old)->>'id') end;
  end if;
  if tg_op <> 'DELETE' then
    new_key := case tg_table_name when 'order_lines' then format('{"order_id":%s,"line":%s}', to_jsonb(new)->>'order_id', to_jsonb(new)->>'line')
      else format('{"id":%s}', to_jsonb(new)->>'id') end;
  end if;
  if tg_op = 'UPDATE' and old_key = new_key then
    insert into audit.changes (tbl, key, op, version) values (tg_table_name, new_key, 'u', new.version);
    return null;
  end if;
  -- A row that moves to another key is a delete and an insert.
  if old_key is not null then
    insert into audit.changes (tbl, key, op, version) values (tg_table_name, old_key, 'd', old.version);
  end if;
  if new_key is not null then
    insert into audit.changes (tbl, key, op, version) values (tg_table_name, new_key, 'c', new.version);
  end if;
  return null;
end $$;
create trigger note after insert or update or delete on customers for each row execute function audit.note();
create trigger note after insert or update or delete on orders for each row execute function audit.note();
create trigger note after insert or update or delete on order_lines for each row execute function audit.note();

-- What an administrator gives Rowcast: the tables to read, and a publication, since only their owner may make one.
grant usage on schema public to cdc;
grant select on customers, orders, order_lines to cdc;
create publication rowcast_shop_postgres for table customers, orders, order_lines;
