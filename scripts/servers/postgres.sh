# shellcheck shell=bash
# PostgreSQL: the machine's newest installed one (13 or later), else this suite's, unpacked. ROWCAST_PG_SUITE=trixie
# (PostgreSQL 17) or sid (18) unpacks that Debian suite's instead.

PG_SCRIPT=${BASH_SOURCE[0]}

pg_bin() {
  local suite=${ROWCAST_PG_SUITE:-} b
  if [ -z "$suite" ]; then
    for b in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -t / -k 5,5nr); do
      if [ -x "$b/postgres" ] && [ "$(basename "$(dirname "$b")")" -ge 13 ]; then echo "$b"; return; fi
    done
    suite=$(host_suite)
  fi
  echo "$CACHE/postgresql-$suite"/usr/lib/postgresql/*/bin
}

pg_unpack() { # FOLDER
  unpack_debs "${ROWCAST_PG_SUITE:-$(host_suite)}" "$1" 'postgresql(-client)?-[0-9]+$' postgresql
  run_with_own_libraries "$1" "$(cd "$1" && echo usr/lib/postgresql/*/bin)"
}

pg_prepare() {
  case $(pg_bin) in
    /usr/lib/postgresql/*) ;;
    *) unpacked "postgresql-${ROWCAST_PG_SUITE:-$(host_suite)}" pg_unpack ;;
  esac
  pg_template >/dev/null
}

pg_template() {
  local bin
  bin=$(pg_bin)
  template "pg$(basename "$(dirname "$bin")")" "$PG_SCRIPT" pg_initialise
}

pg_initialise() { # FOLDER
  local bin
  bin=$(pg_bin)
  echo postgrespw >"$1/password"
  chmod 644 "$1/password"
  as_user "$bin/initdb" -D "$1/data" -U postgres -A scram-sha-256 --pwfile="$1/password" -E UTF8 --locale=C.UTF-8 --no-sync \
    >"$1/log" 2>&1 || { log_tail "$1/log"; die "initdb failed"; }
  cat >"$1/data/pg_hba.conf" <<'HBA'
local   all,replication all                    trust
hostssl all,replication cdc_cert 127.0.0.1/32  cert
hostssl all,replication cdc_tls  127.0.0.1/32  scram-sha-256
host    all,replication cdc_tls  127.0.0.1/32  reject
host    all,replication all      127.0.0.1/32  scram-sha-256
HBA
  echo "include 'rowcast.conf'" >>"$1/data/postgresql.conf"
  : >"$1/data/rowcast.conf"
  # A single-user server reads one statement per line.
  as_user "$bin/postgres" --single -D "$1/data" -c password_encryption=scram-sha-256 postgres >>"$1/log" 2>&1 <<'SQL' || { log_tail "$1/log"; die "cannot create PostgreSQL's users"; }
create role cdc login replication password 'cdcpw'
create role cdc_tls login replication password 'cdcpw'
create role cdc_cert login replication
create role norepl login password 'noreplpw'
create role app login superuser password 'apppw'
SQL
  # pg_read_all_data came with PostgreSQL 14.
  local major
  major=$(cat "$1/data/PG_VERSION")
  if [ "$major" -ge 14 ]; then
    as_user "$bin/postgres" --single -D "$1/data" postgres >>"$1/log" 2>&1 <<<"grant pg_read_all_data to cdc, cdc_tls, cdc_cert, norepl"
  fi
  if grep -qE '(ERROR|FATAL|PANIC):' "$1/log"; then log_tail "$1/log"; die "cannot create PostgreSQL's users"; fi
}

pg_ports() { echo 1; }

# The data of a running server, which this one then follows.
pg_follow() { # FOLDER PRIMARY_PORT
  PGPASSWORD=postgrespw as_user "$(pg_bin)/pg_basebackup" -h 127.0.0.1 -p "$2" -U postgres -D "$1/data" -X stream -c fast -C -S standby \
    >"$1/log" 2>&1 || { log_tail "$1/log"; die "cannot copy the server on port $2"; }
  : >"$1/data/standby.signal"
  own "$1/data/standby.signal"
}

pg_follow_settings() { # PRIMARY_PORT MAJOR
  cat <<CONF
primary_conninfo = 'host=127.0.0.1 port=$1 user=postgres password=postgrespw dbname=postgres'
primary_slot_name = 'standby'
hot_standby_feedback = on
CONF
  if [ "$2" -ge 17 ]; then echo 'sync_replication_slots = on'; fi
}

pg_setup() { # PORT
  local d=$DIR/pg bin
  bin=$(pg_bin)
  if [ -n "${ROWCAST_PG_PRIMARY:-}" ]; then
    pg_follow "$d" "$ROWCAST_PG_PRIMARY"
  else
    cp -a --reflink=auto "$(pg_template)/data" "$d/data"
  fi
  cat >"$d/data/rowcast.conf" <<CONF
listen_addresses = '127.0.0.1'
port = $1
unix_socket_directories = '$d'
wal_level = logical
max_wal_senders = 40
max_replication_slots = 40
max_connections = 300
max_prepared_transactions = 20
fsync = off
full_page_writes = off
shared_buffers = 128MB
max_wal_size = 2GB
password_encryption = 'scram-sha-256'
ssl = on
ssl_ca_file = '$DIR/tls/ca.crt'
ssl_cert_file = '$DIR/tls/server.crt'
ssl_key_file = '$DIR/tls/server.key'
log_line_prefix = '%m [%p] %q%u@%d %a '
CONF
  if [ -n "${ROWCAST_PG_PRIMARY:-}" ]; then pg_follow_settings "$ROWCAST_PG_PRIMARY" "$(cat "$d/data/PG_VERSION")" >>"$d/data/rowcast.conf"; fi
  # A user's own settings go behind ours: ROWCAST_PG_CONF="wal_sender_timeout=5s max_slot_wal_keep_size=64MB"
  local setting
  for setting in ${ROWCAST_PG_CONF:-}; do printf "%s = '%s'\n" "${setting%%=*}" "${setting#*=}" >>"$d/data/rowcast.conf"; done
  {
    env_line PG_HOST 127.0.0.1
    env_line PG_PORT "$1"
    env_line PG_BIN "$bin"
    env_line PG_SUPER postgres
    env_line PG_PASSWORD postgrespw
    env_line PG_SOCKET_DIR "$d"
    env_line PG_DATA "$d/data"
    env_line PG_MAJOR "$(cat "$d/data/PG_VERSION")"
  } >"$d/env"
}

pg_launch() {
  # What a killed server left; process ids are used again.
  rm -f "$DIR/pg/data/postmaster.pid" "$DIR"/pg/.s.PGSQL.*
  launch pg "$(pg_bin)/postgres" -D "$DIR/pg/data"
}

pg_psql() {
  local port
  port=$(sed -n "s/^PG_PORT='\(.*\)'/\1/p" "$DIR/pg/env")
  PGPASSWORD=postgrespw PGCONNECT_TIMEOUT=5 PSQLRC=/dev/null "$(pg_bin)/psql" -h 127.0.0.1 -p "$port" -U postgres "$@"
}

pg_ready() { [ "$(pg_psql -qAt -d postgres -c 'show data_directory')" = "$DIR/pg/data" ]; }

# A fast shutdown: sessions are ended, WAL senders get the rest of the log first.
pg_stop_signal() { echo INT; }

pg_sql() { if [ "${1:-}" = -d ]; then pg_psql "$@"; else pg_psql -d postgres "$@"; fi; }
