-- All rows, written as the envelope writes them: table, key, `after`.
select 'customers', format('{"id":%s}', id),
  format('{"id":%s,"name":%s,"city":%s,"version":%s}', id, to_json(name), coalesce(to_json(city)::text, 'null'), version)
from customers;
select 'orders', format('{"id":%s}', id),
  format('{"id":%s,"customer_id":%s,"status":%s,"total":"%s","note":%s,"placed_at":"%s","version":%s}', id, customer_id, to_json(status), total,
    coalesce(to_json(note)::text, 'null'), to_char(placed_at, 'YYYY-MM-DD"T"HH24:MI:SS'), version)
from orders;
select 'order_lines', format('{"order_id":%s,"line":%s}', order_id, line),
  format('{"order_id":%s,"line":%s,"product":%s,"quantity":%s,"price":"%s","version":%s}', order_id, line, to_json(product), quantity, price, version)
from order_lines;
