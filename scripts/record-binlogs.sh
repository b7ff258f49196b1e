#!/usr/bin/env bash
# Records connectors/mysql/fixtures: small binlog files of MySQL and MariaDB, for tests that replay them without a server.
#   scripts/record-binlogs.sh ENV     ENV is a file that scripts/servers.sh wrote; these servers' binlogs are rotated
# Each file SERVER-NAME.binlog holds what scripts/record-binlogs/NAME.sql and SERVER-NAME.sql, whichever is there, say; SERVER-collations.tsv
# says which character set each collation's number stands for. After it: ROWCAST_GOLDEN=write cargo test -p rowcast-mysql --lib replay
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=/dev/null
. "$1"
to=connectors/mysql/fixtures
from=scripts/record-binlogs

# GTIDs, times and offsets differ from run to run; all else is the same.
for server in mysql mariadb; do
  case $server in
    mysql) client=$MYSQL_CLIENT socket=$MYSQL_SOCKET data=$MYSQL_DATA name=mysql-9.7 ;;
    mariadb) client=$MARIADB_CLIENT socket=$MARIADB_SOCKET data=$MARIADB_DATA name=mariadb-10.11 ;;
  esac
  # shellcheck disable=SC2086
  sql() { MYSQL_PWD=apppw $client -BN -S "$socket" -u app --default-character-set=utf8mb4 "$@"; }
  sql -e "select id, character_set_name from information_schema.collations where id is not null order by id" >"$to/$name-collations.tsv"
  for what in changes images ddl xa compressed; do
    sql -e "drop database if exists recorded; create database recorded character set utf8mb4; flush binary logs"
    file=$(ls "$data"/binlog.[0-9]* | tail -n 1)
    for part in "$what" "$server-$what"; do
      # sessions that end let go of what they prepared
      if [ -e "$from/$part.sql" ]; then sql recorded <"$from/$part.sql" >/dev/null; fi
    done
    sql -e "flush binary logs"
    cp "$file" "$to/$name-$what.binlog"
    chmod 644 "$to/$name-$what.binlog"
    sql -e "drop database recorded"
  done
done
ls -l "$to"
