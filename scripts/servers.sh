#!/usr/bin/env bash
# Real, private servers for tests, the demo and benchmarks: PostgreSQL, MySQL, MariaDB, Kafka. They listen on 127.0.0.1
# only, on free ports, and keep everything in one folder.
#
#   servers.sh prepare [NAME...]                   install (unpack) only; quick when there is nothing to do
#   servers.sh start [--while-pid PID] DIR NAME... start servers, in parallel; writes DIR/env (for `.` in a shell); a
#                                                  stopped or killed one starts again with its data, on its port.
#                                                  With --while-pid they end, and DIR goes, when process PID does
#   servers.sh stop|restart|kill DIR [NAME...]     stop in good order; restart; SIGKILL
#   servers.sh discard DIR                         SIGKILL all and remove DIR
#   servers.sh status DIR                          name, process id and state of each
#   servers.sh sql DIR pg|mysql|mariadb ARG...     the administrator's client
#   servers.sh kafka DIR CLASS ARG...              one of Kafka's tools
#   servers.sh faketime                            unpacks libfaketime, and prints where it is
#   servers.sh debezium-server                     gets Debezium Server; prints its version, a Java for it and its class path
#   servers.sh flink                               gets Flink's jars, and prints their class path
#
# NAME is pg, mysql, mariadb or kafka; no name means all of these. By name only: pgbouncer (in front of this folder's pg), kafka_secure (TLS, SASL, ACLs), connect (Kafka Connect with Debezium, on this folder's kafka), and kafka1, kafka2 and kafka3, the brokers of a cluster. Works as root (the servers then run as an unprivileged user) and
# as an ordinary user. Settings: ROWCAST_CACHE (downloads; default .cache in the repository), ROWCAST_START_TIMEOUT,
# ROWCAST_PG_SUITE (trixie: PostgreSQL 17, sid: 18), ROWCAST_PG_PRIMARY (the port of a server to follow as a standby), ROWCAST_MYSQL_SUITE, ROWCAST_MYSQL_KEYRING (1: binary logs can be encrypted), ROWCAST_MARIADB_SUITE, ROWCAST_DEBIAN_MIRROR, ROWCAST_KAFKA_VERSION,
# ROWCAST_KAFKA_HEAP (-Xmx512m), ROWCAST_KAFKA_JVM, ROWCAST_KAFKA_PROXY (a port that a second listener advertises), and more server settings in ROWCAST_PG_CONF, ROWCAST_MYSQL_CONF, ROWCAST_MARIADB_CONF, ROWCAST_KAFKA_CONF.
# shellcheck disable=SC2034 # the parts use the variables
set -euo pipefail
umask 022
SELF=$(readlink -f "${BASH_SOURCE[0]}")
HERE=$(dirname "$SELF")
REPO=$(dirname "$HERE")
ALL=(pg mysql mariadb kafka)
# Those that are only started by name, too.
EVERY=("${ALL[@]}" pgbouncer kafka_secure kafka1 kafka2 kafka3 connect)
for part in common debian postgres pgbouncer mysql kafka kafka_secure cluster connect debezium_server flink faketime; do
  # shellcheck source=/dev/null
  . "$HERE/servers/$part.sh"
done

usage() { sed -n '2,/^# shellcheck/{/^# shellcheck/d;s/^# \{0,1\}//;p}' "$SELF" >&2; exit 2; }

known() { # NAME...
  local n
  for n in "$@"; do
    case " ${EVERY[*]} " in *" $n "*) ;; *) die "unknown server $n: one of ${EVERY[*]}" ;; esac
  done
}

# in_parallel FUNCTION NAME...   runs `FUNCTION NAME` for each; FAILED=1 if one of them failed. (It isn't the function's own
# status, because bash doesn't stop at errors in what an `if` or `||` calls.)
in_parallel() {
  local f=$1 n pids=()
  shift
  FAILED=
  for n in "$@"; do
    "$f" "$n" &
    pids+=($!)
  done
  for n in "${pids[@]}"; do wait "$n" || FAILED=1; done
}

prepare_one() { "$1_prepare"; }

here() { # DIR   it must exist
  [ -d "${1:?a folder}" ] || die "no folder $1"
  DIR=$(cd "$1" && pwd -P)
}

present() { # names of the servers that have data in $DIR
  local n
  for n in "${EVERY[@]}"; do if [ -e "$DIR/$n/env" ]; then echo "$n"; fi; done
}

start_one() { # NAME
  local name=$1 ports attempt started
  "${name}_prepare"
  started=$(date +%s%N)
  if [ -e "$DIR/$name/env" ]; then
    if alive "$name"; then say "$name: already running"; return; fi
    "${name}_launch"
    wait_ready "$name" "${name}_ready" || { failed "$name"; return 1; }
  else
    for attempt in 1 2 3; do
      mkdir -p "$DIR/$name"
      own "$DIR/$name"
      read -ra ports < <(free_ports "$("${name}_ports")")
      "${name}_setup" "${ports[@]}"
      "${name}_launch"
      if wait_ready "$name" "${name}_ready"; then break; fi
      # Somebody may have taken the port since it was chosen.
      if [ "$attempt" = 3 ] || ! grep -qi 'address already in use' "$DIR/$name/log"; then failed "$name"; return 1; fi
      say "$name: port ${ports[0]} was taken meanwhile, trying another"
      kill_one "$name"
      rm -rf "${DIR:?}/$name"
    done
  fi
  say "$name: ready on 127.0.0.1:$(sed -n "s/^[A-Z0-9_]*_PORT='\(.*\)'/\1/p" "$DIR/$name/env"), $(( ($(date +%s%N) - started) / 1000000 )) ms"
}

failed() { # NAME
  say "$1: did not start"
  log_tail "$DIR/$1/log" "$DIR/$1/ready.log"
}

stop_one() { # NAME
  local name=$1
  alive "$name" || { rm -f "$DIR/$name/pid"; return 0; }
  kill -s "$("${name}_stop_signal")" "$(cat "$DIR/$name/pid")" 2>/dev/null || true
  if wait_gone "$name" "${ROWCAST_STOP_TIMEOUT:-20}"; then
    rm -f "$DIR/$name/pid"
    say "$name: stopped"
  else
    say "$name: does not stop, killing it"
    kill_one "$name"
  fi
}

kill_one() { # NAME
  local name=$1 pid children
  if alive "$name"; then
    pid=$(cat "$DIR/$name/pid")
    # PostgreSQL's sessions would outlive their postmaster for a moment and keep its shared memory.
    children=$(children_of "$pid")
    # shellcheck disable=SC2086
    kill -s KILL "$pid" $children 2>/dev/null || true
    wait_gone "$name" 20 || die "$name: process $pid survives SIGKILL"
    local c i
    for c in $children; do
      for ((i = 0; i < 500; i++)); do
        running "$c" || break
        sleep 0.02
      done
    done
    say "$name: killed"
  fi
  rm -f "$DIR/$name/pid"
}

write_env() {
  {
    env_line ROWCAST_SERVERS_DIR "$DIR"
    env_line ROWCAST_SERVERS "$(present | paste -sd ' ')"
    env_line TLS_CA "$DIR/tls/ca.crt"
    env_line TLS_CLIENT_CERT "$DIR/tls/client.crt"
    env_line TLS_CLIENT_KEY "$DIR/tls/client.key"
    local n
    for n in $(present); do cat "$DIR/$n/env"; done
  } >"$DIR/env.new"
  mv "$DIR/env.new" "$DIR/env"
}

start() {
  local watched=''
  if [ "${1:-}" = --while-pid ]; then
    watched=${2:?a process id}
    shift 2
  fi
  [ $# -ge 1 ] || usage
  mkdir -p "$1"
  here "$1"
  shift
  if [ $# = 0 ]; then set -- "${ALL[@]}"; fi
  known "$@"
  # A socket's path has 108 bytes at most.
  [ "${#DIR}" -le 80 ] || die "the path $DIR is too long for sockets"
  chmod 755 "$DIR"
  as_user test -x "$DIR" || die "the user $RUN_USER can't reach $DIR: choose a folder that everybody may enter"
  trap 'for n in "${EVERY[@]}"; do kill_one "$n"; done; exit 130' INT TERM HUP
  if [ -n "$watched" ]; then watch_in_background "$watched"; fi
  make_tls "$DIR/tls"
  cluster_plan "$@"
  in_parallel start_one "$@"
  if [ -n "$FAILED" ]; then
    in_parallel kill_one "$@"
    if [ -n "$watched" ]; then discard; fi
    die "not all of these started: $*"
  fi
  write_env
}

watch_in_background() { # PID
  kill -0 "$1" 2>/dev/null || [ -d "/proc/$1" ] || die "no process $1"
  (
    local fd
    for fd in /proc/self/fd/*; do
      fd=${fd##*/}
      if [ "$fd" -gt 2 ]; then eval "exec $fd>&-" 2>/dev/null || true; fi
    done
    cd /
    exec setsid "$SELF" watch "$1" "$DIR" </dev/null >/dev/null 2>&1
  ) &
  disown $!
}

# A process id can be used again, but not together with the time of its start.
started_at() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20; }

watch() { # PID
  # Whatever goes wrong with one server, the others and the folder go.
  set +e
  local was
  was=$(started_at "$1") || true
  while [ -d "$DIR" ]; do
    if [ -z "$was" ] || [ "$(started_at "$1")" != "$was" ]; then
      discard
      # The lock of the test process that had them started.
      rm -f "$DIR.lock"
      return
    fi
    sleep 1
  done
}

discard() {
  local n
  for n in "${EVERY[@]}"; do kill_one "$n"; done
  rm -rf "$DIR"
}

RUN_USER=$(run_user)
mapfile -t AS_USER < <(user_words)
CACHE=$(cache_dir)
STATE=$(state_dir)
command=${1:-}
[ $# = 0 ] || shift
case $command in
  prepare)
    [ $# -gt 0 ] || set -- "${ALL[@]}"
    known "$@"
    in_parallel prepare_one "$@"
    [ -z "$FAILED" ] || die "not everything could be prepared"
    ;;
  start) start "$@" ;;
  stop | restart | kill)
    [ $# -ge 1 ] || usage
    # What is not there needs no stopping.
    if [ "$command" != restart ] && [ ! -d "$1" ]; then exit 0; fi
    here "$1"
    shift
    # shellcheck disable=SC2046
    [ $# -gt 0 ] || set -- $(present)
    known "$@"
    case $command in
      stop) in_parallel stop_one "$@" ;;
      kill) in_parallel kill_one "$@" ;;
      restart)
        in_parallel stop_one "$@"
        start "$DIR" "$@"
        ;;
    esac
    ;;
  discard)
    [ -d "${1:?a folder}" ] || exit 0
    here "$1"
    [ -e "$DIR/tls" ] || [ -e "$DIR/env" ] || [ -z "$(ls -A "$DIR")" ] || die "$DIR was not made by servers.sh"
    discard
    ;;
  status)
    here "${1:-}"
    for n in $(present); do
      if alive "$n"; then echo "$n $(cat "$DIR/$n/pid") running"; else echo "$n - stopped"; fi
    done
    ;;
  sql)
    [ $# -ge 2 ] || usage
    here "$1"
    name=$2
    shift 2
    case $name in pg | mysql | mariadb) "${name}_sql" "$@" ;; *) usage ;; esac
    ;;
  kafka)
    [ $# -ge 2 ] || usage
    here "$1"
    shift
    kafka_run -XX:TieredStopAtLevel=1 "$@"
    ;;
  faketime) faketime_library ;;
  flink) flink_classpath ;;
  debezium-server) debezium_server ;;
  watch)
    pid=$1
    here "$2"
    watch "$pid"
    ;;
  *) usage ;;
esac
