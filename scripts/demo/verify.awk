# Compares what the database wrote with what came out of Kafka. Fields are separated by tabs.
#   awk -v source=NAME -f verify.awk AUDIT ROWS EVENTS
# AUDIT: table, key, op, version, in order.  ROWS: table, key, row as JSON.  EVENTS: partition, offset, key, value, of all sources.
# Prints `name value` lines, then `example ...` lines about what is wrong.

function between(text, from, to,   start, rest, end) {
  start = index(text, from)
  if (!start) return ""
  rest = substr(text, start + length(from))
  end = index(rest, to)
  return end ? substr(rest, 1, end - 1) : ""
}
function wrong(what) { if (examples++ < 5) example[examples] = what }
BEGIN { FS = "\t"; marker = "\"source\":{\"name\":\"" source "\"" }
FNR == 1 { file++ }
file == 1 {
  expected++
  change = $1 FS $2 FS $3 FS $4
  place[change] = ++steps[$1 FS $2]
  if ($3 == "d") deleted++
  next
}
file == 2 { rows++; row[$1 FS $2] = $3; next }
# In strings every quote is escaped, so these places are found in no value of a column.
index($4, marker) {
  value = $4
  table = between(value, ",\"table\":\"", "\"")
  op = substr(value, 8, 1)
  before = between(value, ",\"before\":", ",\"after\":")
  after = between(value, ",\"after\":", ",\"source\":")
  id = between(value, ",\"id\":\"" source "/", "\"}")
  tx = between(value, ",\"tx\":\"", "\"")
  image = op == "d" ? before : after
  version = substr(image, index(image, ",\"version\":") + 11) + 0
  # A consumer may hand out one and the same record of Kafka twice (a rebalance); that is no repetition in the topic.
  if ((table FS $1 FS $2) in offset) next
  offset[table FS $1 FS $2] = 1
  read++
  if (!(tx in seen_tx)) { seen_tx[tx] = 1; transactions++ }
  change = table FS $3 FS op FS version
  if (id in seen) { repeated++; wrong("repeated: " value); next }
  seen[id] = 1
  if (!(change in place)) { unknown++; wrong("never written: " value); next }
  if (change in got) { repeated++; wrong("repeated with another id: " value); next }
  got[change] = 1
  if (place[change] <= reached[table FS $3]) { disorder++; wrong("out of order: " value) }
  else reached[table FS $3] = place[change]
  if (op == "d") { delete state[table FS $3] }
  else state[table FS $3] = after
}
END {
  for (change in place) if (!(change in got)) { lost++; wrong("lost: " change) }
  for (key in row) if (row[key] != state[key]) { differ++; wrong("row " key " is " row[key] " but the events say " state[key]) }
  for (key in state) if (state[key] != "" && !(key in row)) { differ++; wrong("row " key " is gone but the events say " state[key]) }
  print "expected " expected + 0
  print "read " read + 0
  print "transactions " transactions + 0
  print "deleted " deleted + 0
  print "rows " rows + 0
  print "lost " lost + 0
  print "repeated " repeated + 0
  print "disorder " disorder + 0
  print "unknown " unknown + 0
  print "differ " differ + 0
  for (i = 1; i <= examples && i <= 5; i++) print "example " example[i]
}
