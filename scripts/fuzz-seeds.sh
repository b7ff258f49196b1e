#!/usr/bin/env bash
# Records fuzz/seeds: what a PostgreSQL server sends of the golden tables, as text and in binary form; and what the recorded binlogs of
# connectors/mysql/fixtures hold (scripts/record-binlogs.sh).
#   scripts/fuzz-seeds.sh ENV     ENV is a file that scripts/servers.sh wrote
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=/dev/null
. "$1"
# shellcheck disable=SC2153
export PGPASSWORD=$PG_PASSWORD PGHOST=$PG_HOST PGPORT=$PG_PORT PGUSER=$PG_SUPER
sql() { "$PG_BIN/psql" -qAtX -v ON_ERROR_STOP=1 "$@"; }

database=fuzz_seeds
sql -d postgres -c "drop database if exists $database" -c "create database $database"
for form in binary text; do
  slot=${database}_$form
  sql -d $database -c 'drop schema public cascade' -c 'create schema public' -c "drop publication if exists p" -c 'create publication p for all tables'
  sql -d $database -c "select pg_create_logical_replication_slot('$slot', 'pgoutput')" >/dev/null
  for family in tests/golden/postgres/*.sql; do
    name=$(basename "$family" .sql)
    # these have no binary form, or make extensions up
    case $form:$name in binary:shapes | *:extensions) continue ;; esac
    sql -d $database -f "$family" 2>/dev/null
    sql -d $database -c "update $name set id = id + 1000; delete from $name; truncate $name"
  done
  sql -d $database -c "select pg_logical_emit_message(true, 'prefix', 'content')" >/dev/null
  sql -d $database -c "select encode(data, 'hex') from pg_logical_slot_get_binary_changes('$slot', null, null, 'proto_version', '1', \
    'publication_names', 'p', 'messages', 'true', 'binary', '$([ $form = binary ] && echo true || echo false)')"
  sql -d $database -c "select pg_drop_replication_slot('$slot')" >/dev/null
done | (cd fuzz && cargo run -q --bin record -- seeds)
sql -d postgres -c "drop database $database"
(cd fuzz && cargo run -q --bin cut -- seeds ../connectors/mysql/fixtures/*.binlog)
