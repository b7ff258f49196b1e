#!/usr/bin/env bash
# Shows Rowcast at work and proves that nothing is lost or repeated: builds it, starts PostgreSQL, MySQL and Kafka for it in a
# temporary folder, changes rows in both databases, kills the daemon (SIGKILL) in mid-traffic again and again, and compares
# what a read_committed consumer gets with what the databases wrote. Exit code 0 only if nothing is missing or twice.
#
#   demo.sh               the demonstration; leaves nothing behind
#   KEEP=1 demo.sh        leaves it running, and says how to look at it
#   demo.sh stop DIR      stops what KEEP=1 left and removes its folder
#
# Settings: KILLS (4), ROWCAST_BIN (a binary to use instead of building one), ROWCAST_RUN_DIR (/tmp), and those of servers.sh.
set -euo pipefail
export LC_ALL=C
umask 022
HERE=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
REPO=$(dirname "$HERE")
PARTS=$HERE/demo
SERVERS=$HERE/servers.sh
KILLS=${KILLS:-4}
KEEP=${KEEP:-}
SOURCES=(shop-postgres shop-mysql)
LAST='the last one'

BOLD='' PLAIN=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then BOLD=$'\e[1m' PLAIN=$'\e[0m'; fi
WIDTH=${COLUMNS:-$({ stty size </dev/tty | cut -d ' ' -f 2; } 2>/dev/null || echo 120)}
if ! [ "$WIDTH" -ge 60 ] 2>/dev/null; then WIDTH=120; fi

DIR='' DAEMON='' CONSUMER='' PREPARE='' KILLED=0
WRITERS=()

started=$(date +%s%N)
step() { printf '%s%5.1f s  %s%s\n' "$BOLD" "$(seconds_since "$started")" "$*" "$PLAIN"; }
note() { printf '         %s\n' "$*"; }
seconds_since() { awk -v a="$1" -v b="$(date +%s%N)" 'BEGIN { printf "%.1f", (b - a) / 1e9 }'; }

# fail MESSAGE [LOG...]   the message, and the ends of the logs that explain it
fail() {
  printf 'demo: error: %s\n' "$1" >&2
  shift
  local log
  for log in "$@"; do
    [ -s "$log" ] || continue
    printf -- '--- last lines of %s\n' "$log" >&2
    tail -n 20 "$log" | cut -c 1-1000 >&2
  done
  exit 1
}

# Called in the place of the shell that follows, this program ends with this shell, whatever ends it.
bound() {
  if [ -n "$KEEP" ] || ! command -v setpriv >/dev/null 2>&1; then exec "$@"; else exec setpriv --pdeathsig KILL "$@"; fi
}

running() { # PID
  [ -n "$1" ] && case $(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) in '' | Z* | X*) false ;; esac
}

end() { # SIGNAL PID   and wait, at most some seconds
  [ -n "$2" ] || return 0
  local i
  kill -s "$1" "$2" 2>/dev/null || true
  for ((i = 0; i < 200; i++)); do
    running "$2" || break
    if [ "$i" = 150 ]; then kill -s KILL "$2" 2>/dev/null || true; fi
    sleep 0.1
  done
  wait "$2" || true
} 2>/dev/null # where the shell would tell that a job was killed

finish() {
  local rc=$? pid
  trap '' INT TERM HUP
  trap - EXIT
  if [ -n "$PREPARE" ]; then kill -s TERM -- "-$PREPARE" 2>/dev/null || true; fi
  if [ -z "$DIR" ] || [ ! -d "$DIR" ]; then exit "$rc"; fi
  : >"$DIR/stop"
  for pid in "${WRITERS[@]}"; do kill -s TERM -- "-$pid" 2>/dev/null || true; done
  end KILL "$CONSUMER"
  if [ -n "$KEEP" ] && [ "$rc" -lt 128 ]; then
    how_to_look
    exit "$rc"
  fi
  end KILL "$DAEMON"
  "$SERVERS" discard "$DIR" 2>/dev/null || true
  if [ -d "$DIR" ]; then printf 'demo: could not remove %s\n' "$DIR" >&2; fi
  exit "$rc"
}

how_to_look() {
  local dir servers
  printf -v dir %q "$DIR"
  printf -v servers %q "$SERVERS"
  if running "$DAEMON"; then step "KEEP=1: all of it goes on running"; else step "KEEP=1: the servers go on running, Rowcast does not"; fi
  # shellcheck disable=SC2153
  cat <<TEXT

  events as they come     $servers kafka $dir org.apache.kafka.tools.consumer.ConsoleConsumer --bootstrap-server ${KAFKA_BROKERS:-} --include 'shop-.*' --isolation-level read_committed
  those of one table      the same with --topic shop-mysql.shop.orders --from-beginning
  change PostgreSQL       $servers sql $dir pg -d shop
  change MySQL            $servers sql $dir mysql shop
  the daemon's log        tail -f $dir/rowcast.log
  stop and remove it      $(printf %q "$HERE/demo.sh") stop $dir

TEXT
}

# await SECONDS WHAT COMMAND...   until the command succeeds; asks again and again, and watches over what must be running
await() {
  local limit=$1 what=$2 end=$((SECONDS + $1))
  shift 2
  until "$@"; do
    if [ -n "$DAEMON" ] && ! running "$DAEMON"; then fail "rowcast ended while waiting for $what" "$DIR/rowcast.log"; fi
    if [ -n "$CONSUMER" ] && ! running "$CONSUMER"; then fail "the consumer ended while waiting for $what" "$DIR/consumer.log"; fi
    if [ "$SECONDS" -ge "$end" ]; then fail "$what: not within $limit s" "$DIR/rowcast.log" "$DIR/consumer.log"; fi
    sleep 0.05
  done
}

pg() { "$SERVERS" sql "$DIR" pg -d shop -X -q -v ON_ERROR_STOP=1 "$@"; }
mysql() { "$SERVERS" sql "$DIR" mysql --default-character-set=utf8mb4 "$@"; }

# Numbers the transactions of a script for the audit of MySQL, which has no function for it.
numbered() { # FIRST FILE
  awk -v n="$1" '/^begin;/ { inside = 1; print "set @tx = " n-- ";" } !inside { print "set @tx = " n-- ";" } /^commit;/ { inside = 0 } { print }' "$2"
}

both() { # FIRST FILE   the same statements in both databases
  pg -f "$2" >"$DIR/sql.log" 2>&1 || fail "PostgreSQL refused $2" "$DIR/sql.log"
  numbered "$1" "$2" | mysql shop >"$DIR/sql.log" 2>&1 || fail "MySQL refused $2" "$DIR/sql.log"
}

daemon() {
  bound "$ROWCAST" run "$REPO/config/sources/shop-postgres.yaml" "$REPO/config/sources/shop-mysql.yaml" </dev/null >>"$DIR/rowcast.log" 2>&1
}
start_daemon() {
  daemon &
  DAEMON=$!
  echo "$DAEMON" >"$DIR/rowcast.pid"
}

# What is not a server's question is asked of the servers: is there a reader?
streaming() {
  [ "$(pg -At -c "select count(*) from pg_replication_slots where slot_name = 'rowcast_shop_postgres' and active")" = 1 ] &&
    [ "$(mysql -BN -e "select count(*) from information_schema.processlist where user = 'cdc' and command like 'Binlog Dump%'")" = 1 ]
}

# Kafka's own consumer, in Java, is no relative of the client in Rowcast. A topic that appears makes the group share out
# partitions anew; with a group that commits its positions, nothing is read again then.
consumer() { # MORE...
  bound java -Xmx256m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$KAFKA_CP" org.apache.kafka.tools.consumer.ConsoleConsumer --bootstrap-server "$KAFKA_BROKERS" \
    --include 'shop-(postgres|mysql)\..*' --from-beginning --property print.partition=true --property print.offset=true --property print.key=true \
    --consumer-property metadata.max.age.ms=500 --consumer-property allow.auto.create.topics=false "$@"
}

# A record is: Partition:0, Offset:17, key, value.
events_of() { # SOURCE FILE
  grep -F "\"source\":{\"name\":\"$1\"" "$2" || true
}
count() { grep -cF "$1" "$2" || true; }
at_least() { # NUMBER TEXT FILE
  [ "$(count "$2" "$3")" -ge "$1" ]
}
seen() { wc -c <"$DIR/events"; }
# Events of changes that were made after a moment are the work of a daemon that started before it or later.
flowing() { # BYTES MICROSECONDS   behind so many bytes are events of both sources that were committed after that time
  tail -c "+$(($1 + 1))" "$DIR/events" | awk -v since="$2" '
    # Read to its end even when the answer is known, else `tail` dies of SIGPIPE.
    sources < 2 && match($0, /"source":[{]"name":"[^"]*"/) {
      name = substr($0, RSTART, RLENGTH)
      at = index($0, ",\"ts_us\":")
      if (at && substr($0, at + 9, 16) + 0 > since && !(name in new)) { new[name] = 1; sources++ }
    }
    END { exit sources < 2 }'
}

writer() { # postgres|mysql SESSION SEED   (called in a process group of its own)
  local generate=(awk -v "kind=$1" -v "session=$2" -v "seed=$3" -v "stop=$DIR/stop" -f "$PARTS/writer.awk")
  if [ "$1" = postgres ]; then "${generate[@]}" | pg -o /dev/null -f -; else "${generate[@]}" | mysql shop; fi >"$DIR/writer-$1-$2.log" 2>&1
}

start_writers() {
  local kind session
  # In groups of their own, so that all of a pipeline can be ended.
  set -m
  for kind in postgres mysql; do
    for session in 1 2; do
      writer "$kind" "$session" "$RANDOM" &
      WRITERS+=($!)
    done
  done
  set +m
}

writers_ended() {
  local pid
  for pid in "${WRITERS[@]}"; do ! running "$pid" || return 1; done
}

stop() { # DIR
  [ -e "${1:-}/rowcast.pid" ] || fail "stop needs the folder that KEEP=1 left, which \`$1\` is not"
  local pid
  pid=$(cat "$1/rowcast.pid")
  if tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF 'config/sources/shop-postgres.yaml'; then end TERM "$pid"; fi
  "$SERVERS" discard "$1"
}

show() { # SOURCE   three of the scene's events, each as it lies in Kafka
  local op what
  for what in 'c orders' 'u orders' 'd order_lines'; do
    op=${what%% *}
    events_of "$1" "$DIR/events" | grep -F "{\"op\":\"$op\"" | grep -F "\"table\":\"${what#* }\"" | head -n 1 | cut -f 3-4 |
      awk -F '\t' -v width="$((WIDTH - 9))" '{
        line = "key " $1 "  value " $2
        # not within a letter of several bytes
        while (length(line) > width) {
          cut = width
          while (cut > 1 && substr(line, cut + 1, 1) >= "\200" && substr(line, cut + 1, 1) < "\300") cut--
          printf "         %s\n", substr(line, 1, cut)
          line = substr(line, cut + 1)
        }
        print "         " line
      }'
  done
}

# Without what names the place in a log: source and id.
contents() { # SOURCE
  events_of "$1" "$DIR/events" | sed 's/,"source":{.*//' | cut -f 3-4 | sort
}

figure() { sed -n "s/^$2 //p" "$DIR/figures.$1"; }

line() { printf '         %-44s %14s %14s\n' "$@"; }

if [ "${1:-}" = stop ]; then
  stop "${2:-}"
  exit
fi
[ $# = 0 ] || { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2; }

trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
# Nobody's settings but the example's.
for name in $(compgen -e); do case $name in ROWCAST__* | RUST_LOG) unset "$name" ;; esac; done

step "building the release binary, and unpacking the servers if they are not there yet"
if [ -n "${ROWCAST_BIN:-}" ]; then
  ROWCAST=$(readlink -f "$ROWCAST_BIN")
else
  "$HERE/prepare.sh" build
  # The servers are fetched while the compiler works.
  set -m
  "$HERE/prepare.sh" &
  PREPARE=$!
  set +m
  cd "$REPO"
  "${CARGO:-cargo}" build --release --locked --bin rowcast || fail "the build failed"
  target=$("${CARGO:-cargo}" metadata --format-version 1 --no-deps --locked --offline | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
  ROWCAST=$target/release/rowcast
  wait "$PREPARE" || fail "the servers can't be prepared"
  PREPARE=''
fi
[ -x "$ROWCAST" ] || fail "no program $ROWCAST"
note "$("$ROWCAST" --version)"

DIR=$(mktemp -d "${ROWCAST_RUN_DIR:-/tmp}/rowcast-demo-XXXXXX")
DIR=$(cd "$DIR" && pwd -P)
# The proof is about changes, each exactly once; the tables are empty when the daemon starts, so nothing has to be copied.
export ROWCAST__BACKFILL=never ROWCAST__STATE_DIR="$DIR/state"
free=$(df -Pk "$DIR" | awk 'NR == 2 { print int($4 / 1024) }')
[ "${free:-0}" -ge 1500 ] || fail "only $free MB are free in $DIR; the demonstration needs about 1500 (ROWCAST_RUN_DIR names another place)"

step "starting PostgreSQL, MySQL and Kafka on free ports, in $DIR"
watch=(--while-pid $$)
[ -z "$KEEP" ] || watch=()
"$SERVERS" start "${watch[@]}" "$DIR" pg mysql kafka 2>"$DIR/servers.log" || {
  cat "$DIR/servers.log" >&2
  fail "the servers did not start"
}
sed -n 's/^servers: \(.*ready on.*\)/\1/p' "$DIR/servers.log" | while read -r text; do note "$text"; done
# shellcheck source=/dev/null
. "$DIR/env"
export KAFKA_BROKERS POSTGRES_HOST=127.0.0.1 POSTGRES_PORT=$PG_PORT POSTGRES_PASSWORD=cdcpw MYSQL_HOST=127.0.0.1 MYSQL_PORT MYSQL_PASSWORD=cdcpw
export PGCLIENTENCODING=UTF8

step "creating the same shop in both databases: customers, orders, order_lines (and an audit, which is not captured)"
"$SERVERS" sql "$DIR" pg -q -c 'create database shop' >"$DIR/sql.log" 2>&1 || fail "PostgreSQL refused a database" "$DIR/sql.log"
pg -f "$PARTS/shop-postgres.sql" >"$DIR/sql.log" 2>&1 || fail "PostgreSQL refused shop-postgres.sql" "$DIR/sql.log"
mysql <"$PARTS/shop-mysql.sql" >"$DIR/sql.log" 2>&1 || fail "MySQL refused shop-mysql.sql" "$DIR/sql.log"

step "starting: rowcast run config/sources/shop-postgres.yaml config/sources/shop-mysql.yaml; and Kafka's own consumer, read_committed"
cd "$DIR"
: >events
consumer --isolation-level read_committed --group demo --consumer-property enable.auto.commit=true >events 2>consumer.log &
CONSUMER=$!
start_daemon
await 60 "a stream from both databases" streaming

step "the same statements in both databases: an order of two lines (one transaction), its payment, a line taken back"
both -1 "$PARTS/scene.sql"
for source in "${SOURCES[@]}"; do
  await 60 "the events of $source" at_least 6 "\"source\":{\"name\":\"$source\"" events
done
for source in "${SOURCES[@]}"; do
  note ""
  note "$source, three of its events as the consumer gets them:"
  show "$source"
done
for source in "${SOURCES[@]}"; do contents "$source" >"contents.$source"; done
note ""
if ! cmp -s contents.shop-postgres contents.shop-mysql; then
  diff contents.shop-postgres contents.shop-mysql >&2 || true
  fail "the same rows give different events"
fi
note "all $(wc -l <contents.shop-mysql) events of each database: op, key, before and after are the same, byte by byte"

step "writers change rows in both databases, two sessions each; rowcast is killed (SIGKILL) $KILLS times meanwhile"
start_writers
from=$(seen) restarted=$(date +%s%N) how=''
for ((KILLED = 0; ; )); do
  # The third one comes while it is starting, the others while events of both databases are on their way.
  if [ "$KILLED" != 2 ] || [ "$KILLS" = 2 ]; then
    await 90 "events of both databases after a start" flowing "$from" "${restarted%???}"
    if [ "$KILLED" -gt 0 ]; then note "SIGKILL $KILLED$how; $(seconds_since "$restarted") s after the next start come events of what was changed since"; fi
  fi
  if writers_ended; then fail "the writers ended" "$DIR"/writer-*.log; fi
  moment=$((RANDOM % 2000 + 100))
  sleep "$((moment / 1000)).$(printf %03d $((moment % 1000)))"
  if [ "$KILLED" -ge "$KILLS" ]; then break; fi
  running "$DAEMON" || fail "rowcast ended by itself" rowcast.log
  kill -s KILL "$DAEMON"
  wait "$DAEMON" 2>/dev/null || true
  DAEMON=''
  if [ "$KILLED" = 2 ]; then
    note "SIGKILL 2; and started again"
    how=", $moment ms after that start"
  else
    how=''
  fi
  KILLED=$((KILLED + 1))
  sleep "0.$((RANDOM % 9 + 1))"
  from=$(seen)
  restarted=$(date +%s%N)
  start_daemon
done
: >stop
await 60 "the end of the writers" writers_ended
for i in "${!WRITERS[@]}"; do wait "${WRITERS[$i]}" || fail "a writer failed" "$DIR"/writer-*.log; done
WRITERS=()
both -1001 "$PARTS/last.sql"
written=$(date +%s%N)

step "the writers have ended; waiting for the last row of each table"
declare -A caught_up=()
all_caught_up() {
  local source missing=0
  for source in "${SOURCES[@]}"; do
    if [ -z "${caught_up[$source]:-}" ]; then
      if [ "$(events_of "$source" events | count "\"$LAST\"" -)" -ge 3 ]; then caught_up[$source]=$(seconds_since "$written"); else missing=1; fi
    fi
  done
  [ "$missing" = 0 ]
}
await 120 "the last rows" all_caught_up
daemon_end=$DAEMON DAEMON=''
kill -s TERM "$daemon_end"
rc=0
wait "$daemon_end" || rc=$?
[ "$rc" = 0 ] || fail "rowcast ended with code $rc after SIGTERM" rowcast.log
end TERM "$CONSUMER"
CONSUMER=''

step "the proof: the whole topics are read again and compared with the audit and the tables"
# It ends when nothing has come for a while; with the daemon stopped nothing can come any more. A machine may be too busy for that
# while, so the last rows must be there.
complete() {
  local source
  for source in "${SOURCES[@]}"; do [ "$(events_of "$source" proof | grep -F "\"$LAST\"" | sort -u | wc -l)" -ge 3 ] || return 1; done
  # Who reads the uncommitted ones as well gets all that, and perhaps more.
  [ "$(grep -c '^Partition:' uncommitted)" -ge "$(grep -c '^Partition:' proof)" ]
}
pg -At -F $'\t' -c 'select tbl, key, op, version from audit.changes order by n' >audit.shop-postgres
pg -At -F $'\t' -f "$PARTS/rows-postgres.sql" >rows.shop-postgres
# shellcheck disable=SC2016 # MySQL's quotes
mysql -BN -r -e 'select tbl, `key`, op, version from audit.changes order by n' >audit.shop-mysql
mysql -BN -r shop <"$PARTS/rows-mysql.sql" >rows.shop-mysql
committed_pg=$(pg -At -c 'select count(distinct tx) from audit.changes')
committed_mysql=$(mysql -BN -e 'select count(distinct tx) from audit.changes')
for patience in 3000 10000 30000; do
  consumer --isolation-level read_uncommitted --timeout-ms "$patience" >uncommitted 2>uncommitted.log &
  other=$!
  (consumer --isolation-level read_committed --timeout-ms "$patience") >proof 2>proof.log || true
  wait "$other" || true
  if complete; then break; fi
done
complete || fail "the topics can't be read to their end" proof.log
for source in "${SOURCES[@]}"; do
  awk -v source="$source" -f "$PARTS/verify.awk" "audit.$source" "rows.$source" proof >"figures.$source" || fail "verify.awk failed"
done
# A delete is followed by a record without a value, for compacted topics.
tombstones=$(awk -F '\t' '$1 ~ /^Partition:/ && $4 == "null" { n++ } END { print n + 0 }' proof)
records=$(grep -c '^Partition:' proof || true)
dropped=$(($(grep -c '^Partition:' uncommitted || true) - records))

two() { line "$1" "$(figure shop-postgres "$2")" "$(figure shop-mysql "$2")"; }
line "" PostgreSQL MySQL
line "transactions that changed rows" "$committed_pg" "$committed_mysql"
two "transactions read from Kafka" transactions
two "changes of rows, by the audit" expected
two "events read from Kafka" read
two "lost" lost
two "repeated" repeated
two "out of order within their key" disorder
two "never written (or rolled back)" unknown
two "rows in the tables at the end" rows
two "rows that differ from what the events say" differ
line "SIGKILLs of rowcast meanwhile" "$KILLED" "$KILLED"
line "caught up after the last change, seconds" "${caught_up[shop-postgres]}" "${caught_up[shop-mysql]}"
note "$dropped records of transactions that a SIGKILL cut off are in the topics too; a read_committed consumer never gets them"

bad=0
for source in "${SOURCES[@]}"; do
  for name in lost repeated disorder unknown differ; do bad=$((bad + $(figure "$source" "$name"))); done
  [ "$(figure "$source" read)" = "$(figure "$source" expected)" ] || bad=$((bad + 1))
  grep '^example ' "figures.$source" >&2 || true
done
[ "$(figure shop-postgres transactions)" = "$committed_pg" ] && [ "$(figure shop-mysql transactions)" = "$committed_mysql" ] || bad=$((bad + 1))
deleted=$(($(figure shop-postgres deleted) + $(figure shop-mysql deleted)))
if [ "$tombstones" != "$deleted" ]; then
  printf 'demo: %s rows were deleted, but there are %s tombstones\n' "$deleted" "$tombstones" >&2
  bad=$((bad + 1))
fi
if [ "$bad" != 0 ]; then fail "what Kafka has is not what the databases wrote" rowcast.log; fi
if [ -n "$KEEP" ]; then start_daemon; fi
step "every change is in Kafka exactly once, in order"
