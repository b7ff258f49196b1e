-- All rows, written as the envelope writes them: table, key, `after`.
select 'customers', concat('{"id":', id, '}'),
  concat('{"id":', id, ',"name":', json_quote(name), ',"city":', coalesce(json_quote(city), 'null'), ',"version":', version, '}')
from customers;
select 'orders', concat('{"id":', id, '}'),
  concat('{"id":', id, ',"customer_id":', customer_id, ',"status":', json_quote(status), ',"total":"', total, '","note":', coalesce(json_quote(note), 'null'),
    ',"placed_at":"', date_format(placed_at, '%Y-%m-%dT%H:%i:%s'), '","version":', version, '}')
from orders;
select 'order_lines', concat('{"order_id":', order_id, ',"line":', line, '}'),
  concat('{"order_id":', order_id, ',"line":', line, ',"product":', json_quote(product), ',"quantity":', quantity, ',"price":"', price, '","version":', version, '}')
from order_lines;
