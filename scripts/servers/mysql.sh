# shellcheck shell=bash
# MySQL 9 (no MySQL is in Debian's releases, so it comes from sid) and MariaDB (bookworm's), both unpacked.

MYSQL_SCRIPT=${BASH_SOURCE[0]}
MYSQL_SUITE=${ROWCAST_MYSQL_SUITE:-sid}
MARIADB_SUITE=${ROWCAST_MARIADB_SUITE:-bookworm}

my_root() { # mysql|mariadb
  case $1 in mysql) echo "$CACHE/mysql-$MYSQL_SUITE" ;; mariadb) echo "$CACHE/mariadb-$MARIADB_SUITE" ;; esac
}

mysql_unpack() { # FOLDER
  unpack_debs "$MYSQL_SUITE" "$1" 'mysql-' mysql-server-core mysql-client-core
  run_with_own_libraries "$1" usr/sbin
  run_with_own_libraries "$1" usr/bin
}

mariadb_unpack() { # FOLDER
  # The ed25519 plugin is in the package mariadb-server, which is taken without its dependencies.
  unpack_debs "$MARIADB_SUITE" "$1" 'mariadb-' mariadb-server-core mariadb-client-core +mariadb-server +mariadb-client
  run_with_own_libraries "$1" usr/sbin
  run_with_own_libraries "$1" usr/bin
}

mysql_prepare() { unpacked "mysql-$MYSQL_SUITE" mysql_unpack; mysql_template >/dev/null; }
mariadb_prepare() { unpacked "mariadb-$MARIADB_SUITE" mariadb_unpack; mariadb_template >/dev/null; }
mysql_template() { template "mysql-$MYSQL_SUITE" "$MYSQL_SCRIPT" mysql_initialise; }
mariadb_template() { template "mariadb-$MARIADB_SUITE" "$MYSQL_SCRIPT" mariadb_initialise; }

my_places() { # mysql|mariadb
  local r
  r=$(my_root "$1")
  printf '%s\n' --no-defaults --basedir="$r/usr" --lc-messages-dir="$r/usr/share/$1" --character-sets-dir="$r/usr/share/$1/charsets" --plugin-dir="$r/usr/lib/mysql/plugin"
}

# Our users. cdc has what the documentation asks for, norepl lacks the right to replicate.
my_users() { # mysql|mariadb
  local replicate='REPLICATION SLAVE, REPLICATION CLIENT' u
  echo "CREATE USER 'app'@'%' IDENTIFIED BY 'apppw'; GRANT ALL ON *.* TO 'app'@'%' WITH GRANT OPTION;"
  [ "$1" = mysql ] || replicate='REPLICATION SLAVE, BINLOG MONITOR'
  for u in cdc cdc_tls cdc_cert; do
    case $u in
      cdc) echo "CREATE USER 'cdc'@'%' IDENTIFIED BY 'cdcpw';" ;;
      cdc_tls) echo "CREATE USER 'cdc_tls'@'%' IDENTIFIED BY 'cdcpw' REQUIRE SSL;" ;;
      cdc_cert) echo "CREATE USER 'cdc_cert'@'%' IDENTIFIED BY 'cdcpw' REQUIRE X509;" ;;
    esac
    echo "GRANT $replicate, SELECT, RELOAD, LOCK TABLES ON *.* TO '$u'@'%';"
  done
  echo "CREATE USER 'norepl'@'%' IDENTIFIED BY 'noreplpw'; GRANT SELECT ON *.* TO 'norepl'@'%';"
}

mysql_initialise() { # FOLDER
  local places
  mapfile -t places < <(my_places mysql)
  my_users mysql | tr '\n' ' ' | sed 's/; */;\n/g' >"$1/users.sql"
  chmod 644 "$1/users.sql"
  as_user "$(my_root mysql)/usr/sbin/mysqld" "${places[@]}" --initialize-insecure --init-file="$1/users.sql" --datadir="$1/data" \
    --skip-log-bin --innodb-redo-log-capacity=16M --innodb-buffer-pool-size=64M --performance-schema=OFF --log-error="$1/log.err" || {
    log_tail "$1/log.err"
    die "mysqld --initialize failed"
  }
  if grep -qF '[ERROR]' "$1/log.err"; then log_tail "$1/log.err"; die "mysqld --initialize failed"; fi
  # Each server makes its own identity and keys.
  rm -f "$1"/data/{auto.cnf,*.pem,binlog.*}
}

mariadb_initialise() { # FOLDER
  local places r
  r=$(my_root mariadb)
  mapfile -t places < <(my_places mariadb)
  {
    # mysqld --bootstrap runs without users until it has been told to read them.
    echo 'FLUSH PRIVILEGES;'
    my_users mariadb
    if [ -e "$r/usr/lib/mysql/plugin/auth_ed25519.so" ]; then
      echo "INSTALL SONAME 'auth_ed25519';"
      echo "CREATE USER 'cdc_ed'@'%' IDENTIFIED VIA ed25519 USING PASSWORD('cdcpw');"
      echo "GRANT REPLICATION SLAVE, BINLOG MONITOR, SELECT, RELOAD, LOCK TABLES ON *.* TO 'cdc_ed'@'%';"
    fi
  } | tr '\n' ' ' | sed 's/; */;\n/g' >"$1/users.sql"
  chmod 644 "$1/users.sql"
  as_user "$r/usr/bin/mariadb-install-db" --no-defaults --basedir="$r/usr" --datadir="$1/data" --auth-root-authentication-method=normal \
    --skip-test-db --innodb-log-file-size=16M --innodb-buffer-pool-size=64M --extra-file="$1/users.sql" >"$1/log" 2>&1 || {
    log_tail "$1/log"
    die "mariadb-install-db failed"
  }
  if grep -qF '[ERROR]' "$1/log"; then log_tail "$1/log"; die "mariadb-install-db failed"; fi
}

# MySQL looks for the list of its keyring components beside its own program, and for their settings beside the plugins: a program that
# says it is elsewhere, and a folder with links.
mysql_keyring() { # FOLDER
  local r k=$1/keyring
  r=$(my_root mysql)
  mkdir -p "$k/plugins" "$k/keys"
  ln -s "$r"/usr/lib/mysql/plugin/*.so "$k/plugins/"
  sed "s#^here=.*#here=$r/usr/sbin#; s#--argv0 \"\$here/mysqld\"#--argv0 \"$k/mysqld\"#" "$r/usr/sbin/mysqld" >"$k/mysqld"
  chmod 755 "$k/mysqld"
  echo '{"components": "file://component_keyring_file"}' >"$k/mysqld.my"
  echo "{\"path\": \"$k/keys/keyring\", \"read_only\": false}" >"$k/plugins/component_keyring_file.cnf"
  own "$k/keys"
  sed -i "1s#.*#$k/mysqld#; s#^--plugin-dir=.*#--plugin-dir=$k/plugins#" "$1/command"
}

my_setup() { # mysql|mariadb PORT
  local kind=$1 d=$DIR/$1 r upper=${1^^} tool=mysql places
  [ "$kind" = mysql ] || tool=mariadb
  r=$(my_root "$kind")
  cp -a --reflink=auto "$("${kind}_template")/data" "$d/data"
  mkdir -p "$d/tmp"
  own "$d/tmp"
  mapfile -t places < <(my_places "$kind")
  # The whole command line, one argument a line: a restart uses the same.
  {
    printf '%s\n' "$r/usr/sbin/${tool}d" "${places[@]}" --datadir="$d/data" --tmpdir="$d/tmp" --socket="$d/s.sock" --pid-file="$d/server.pid" \
      --bind-address=127.0.0.1 --port="$2" --server-id=$((2000 + $2)) --skip-name-resolve --max-connections=300 --max-connect-errors=100000 \
      --log-bin="$d/data/binlog" --binlog-format=ROW --binlog-row-image=FULL --binlog-row-metadata=FULL --sync-binlog=0 \
      --innodb-flush-log-at-trx-commit=2 --innodb-buffer-pool-size=64M --innodb-log-buffer-size=8M --performance-schema=OFF --table-open-cache=400 \
      --ssl-ca="$DIR/tls/ca.crt" --ssl-cert="$DIR/tls/server.crt" --ssl-key="$DIR/tls/server.key" --max-allowed-packet=256M
    if [ "$kind" = mysql ]; then
      printf '%s\n' --log-replica-updates=ON --gtid-mode=ON --enforce-gtid-consistency=ON --mysqlx=OFF --secure-file-priv=NULL --innodb-redo-log-capacity=64M
    else
      printf '%s\n' --log-slave-updates=1 --gtid-strict-mode=1 --gtid-domain-id=0 --innodb-log-file-size=64M
    fi
    # ROWCAST_MYSQL_CONF="--binlog-row-image=MINIMAL": a user's own settings, last one wins.
    local more=ROWCAST_${upper}_CONF
    # shellcheck disable=SC2086
    [ -z "${!more:-}" ] || printf '%s\n' ${!more}
  } >"$d/command"
  [ "$kind" = mariadb ] || [ -z "${ROWCAST_MYSQL_KEYRING:-}" ] || mysql_keyring "$d"
  {
    env_line "${upper}_HOST" 127.0.0.1
    env_line "${upper}_PORT" "$2"
    env_line "${upper}_SOCKET" "$d/s.sock"
    env_line "${upper}_DATA" "$d/data"
    if [ "$kind" = mysql ]; then
      env_line MYSQL_CLIENT "$r/usr/bin/mysql --no-defaults"
      env_line MYSQLBINLOG "$r/usr/bin/mysqlbinlog"
    else
      env_line MARIADB_CLIENT "$r/usr/bin/mariadb --no-defaults --plugin-dir=$(echo "$r"/usr/lib/*/libmariadb3/plugin)"
      env_line MARIADBBINLOG "$r/usr/bin/mariadb-binlog"
      env_line MARIADB_ED25519 "$([ ! -e "$r/usr/lib/mysql/plugin/auth_ed25519.so" ] || echo 1)"
    fi
  } >"$d/env"
}

my_launch() { # mysql|mariadb
  local command
  mapfile -t command <"$DIR/$1/command"
  rm -f "$DIR/$1/s.sock" "$DIR/$1/s.sock.lock"
  launch "$1" "${command[@]}"
}

my_client() { # mysql|mariadb ARGS...
  local kind=$1 port
  shift
  port=$(sed -n "s/^${kind^^}_PORT='\(.*\)'/\1/p" "$DIR/$kind/env")
  # The password by environment: on the command line it brings a warning.
  MYSQL_PWD=apppw "$(my_root "$kind")/usr/bin/$kind" --no-defaults --connect-timeout=5 -h 127.0.0.1 -P "$port" -u app "$@"
}

my_ready() { [ "$(my_client "$1" -BN -e 'select @@datadir')" = "$DIR/$1/data/" ]; }

mysql_ports() { echo 1; }
mysql_setup() { my_setup mysql "$1"; }
mysql_launch() { my_launch mysql; }
mysql_ready() { my_ready mysql; }
mysql_stop_signal() { echo TERM; }
mysql_sql() { my_client mysql "$@"; }

mariadb_ports() { echo 1; }
mariadb_setup() { my_setup mariadb "$1"; }
mariadb_launch() { my_launch mariadb; }
mariadb_ready() { my_ready mariadb; }
mariadb_stop_signal() { echo TERM; }
mariadb_sql() { my_client mariadb "$@"; }
