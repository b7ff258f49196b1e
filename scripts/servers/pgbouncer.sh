# shellcheck shell=bash
# shellcheck disable=SC2153,SC2154 # DIR, CACHE, AS_USER and the rest are set by servers.sh
# PgBouncer in front of the PostgreSQL of the same folder, which must have been started before; for the tests of what it refuses.
# Its user is cdc. Settings: DIR/pgbouncer/pgbouncer.ini, read at each start.

pgbouncer_program() {
  if [ -x /usr/sbin/pgbouncer ]; then echo /usr/sbin/pgbouncer; else echo "$CACHE/pgbouncer-$(host_suite)/usr/sbin/pgbouncer"; fi
}

pgbouncer_unpack() { # FOLDER
  unpack_debs "$(host_suite)" "$1" 'pgbouncer$' pgbouncer
  run_with_own_libraries "$1" usr/sbin
}

pgbouncer_prepare() {
  [ -x /usr/sbin/pgbouncer ] || unpacked "pgbouncer-$(host_suite)" pgbouncer_unpack
}

pgbouncer_ports() { echo 1; }

pgbouncer_setup() { # PORT
  local d=$DIR/pgbouncer server
  server=$(sed -n "s/^PG_PORT='\(.*\)'/\1/p" "$DIR/pg/env" 2>/dev/null) || true
  [ -n "$server" ] || die "pgbouncer: start pg in $DIR first"
  echo '"cdc" "cdcpw"' >"$d/users"
  cat >"$d/pgbouncer.ini" <<CONF
[databases]
* = host=127.0.0.1 port=$server
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $1
unix_socket_dir =
auth_type = scram-sha-256
auth_file = $d/users
pool_mode = session
CONF
  own "$d"
  env_line PGBOUNCER_PORT "$1" >"$d/env"
}

pgbouncer_launch() { launch pgbouncer "$(pgbouncer_program)" "$DIR/pgbouncer/pgbouncer.ini"; }

pgbouncer_ready() {
  local port
  port=$(sed -n "s/^PGBOUNCER_PORT='\(.*\)'/\1/p" "$DIR/pgbouncer/env")
  [ "$(PGPASSWORD=cdcpw PGCONNECT_TIMEOUT=5 PSQLRC=/dev/null "$(pg_bin)/psql" -h 127.0.0.1 -p "$port" -U cdc -d postgres -qAt -c 'select 1')" = 1 ]
}

pgbouncer_stop_signal() { echo TERM; }
