# An endless stream of transactions for psql or mysql, until the file `stop` is there.
#   -v kind=postgres|mysql -v session=N -v seed=N -v stop=FILE
# Keys lie in a range of the session's own. `version` starts at 1 and goes up by 1 with each update of a row.

function some(n) { return 1 + int(rand() * n) }
function order() { return base + some(orders) }
function text(n) { # the n-th text, quoted for SQL
  n %= 6
  if (n == 0) return "null"
  if (n == 1) return "'ring twice, it''s \"upstairs\"'"
  if (n == 2) return "'für Zoë – 5 €'"
  if (n == 3) return "'two\nlines'"
  if (n == 4) return "'プレゼント 🎁'"
  return "''"
}
function place(   id, lines, i, sql) {
  id = base + ++orders
  printf "insert into orders values (%d, %d, 'new', %d.%02d, %s, '2026-11-22 %02d:%02d:%02d', 1);\n", id, base + some(customers), some(900), some(99), text(some(6)), some(23), some(59), some(59)
  lines = some(4)
  for (i = 1; i <= lines; i++) sql = sql (i > 1 ? ", " : "") sprintf("(%d, %d, '%s', %d, %d.%02d, 1)", id, i, product[some(5)], some(9), some(90), some(99))
  print "insert into order_lines values " sql ";"
}
function change(   what, id) {
  what = rand()
  if (what < 0.35) place()
  else if (what < 0.65) printf "update orders set status = '%s', version = version + 1 where id = %d;\n", status[some(4)], order()
  else if (what < 0.75) printf "update order_lines set quantity = quantity + 1, version = version + 1 where order_id = %d;\n", order()
  else if (what < 0.80) { id = order(); printf "update orders set total = total + 0.01, note = %s, version = version + 1 where id between %d and %d;\n", text(some(6)), id, id + 19 }
  else if (what < 0.90) { id = order(); printf "delete from order_lines where order_id = %d;\ndelete from orders where id = %d;\n", id, id }
  else if (what < 0.93) { printf "update orders set id = id + %.0f, version = version + 1 where id = %d;\n", 1000000000 * ++moves, order() }
  else if (what < 0.96) printf "update customers set city = %s, version = version + 1 where id = %d;\n", text(some(6)), base + some(customers)
  else printf "insert into customers values (%d, 'customer %d', %s, 1);\n", base + ++customers, customers, text(some(6))
}
function stopped(   line, found) {
  found = (getline line < stop)
  close(stop)
  return found >= 0
}
BEGIN {
  srand(seed)
  base = session * 10000000
  split("teapot;green tea;cup;\"samovar\";sugar tongs", product, ";")
  split("paid;packed;sent;returned", status, ";")
  if (kind == "mysql") print "set session transaction isolation level read committed;"
  while (!stopped()) {
    for (burst = 0; burst < 5; burst++) {
      if (kind == "mysql") printf "set @tx = %d;\n", base + ++transactions
      print "begin;"
      if (!orders) { printf "insert into customers values (%d, 'customer 1', null, 1);\n", base + ++customers; place() }
      for (changes = some(3); changes > 0; changes--) change()
      # What is rolled back must never be seen.
      print (rand() < 0.03 ? "rollback;" : "commit;")
    }
    # A pause, so that the demonstration's volume doesn't depend on the machine's speed.
    print (kind == "mysql" ? "do sleep(0.02);" : "do $$ begin perform pg_sleep(0.02); end $$;")
    fflush()
  }
}
