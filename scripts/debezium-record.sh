#!/usr/bin/env bash
# debezium-record.sh [CONNECTOR...]   records what the real Debezium says: starts PostgreSQL, MySQL, Kafka and Connect with its connectors, runs the
# cases of tests/debezium/cases and writes tests/debezium/recorded (its form: tests/debezium/README.md). Without CONNECTOR (postgres, mysql,
# mariadb) all three; MariaDB's comes in a download of 780 MB. ROWCAST_DEBEZIUM_CASES="plain types" chooses cases, ROWCAST_DEBEZIUM_VERSION the version.
#
#   debezium-record.sh --test NAME   runs this test of tests/debezium_live.rs instead: `live` for `make diff-debezium`, `handover` for taking over
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
test=record
if [ "${1:-}" = --test ]; then
  test=$2
  shift 2
fi
if [ $# = 0 ]; then set -- postgres mysql mariadb; fi
servers=kafka
for connector in "$@"; do
  case $connector in
    postgres) servers="$servers pg" ;;
    mysql) servers="$servers mysql" ;;
    mariadb) servers="$servers mariadb" ;;
    *) sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
done
export ROWCAST_CONNECT_PLUGINS=$*
export ROWCAST_DEBEZIUM_CONNECTORS=${ROWCAST_DEBEZIUM_CONNECTORS:-$*}
cd "$here/.."
# Connect needs a Kafka that is there already.
# shellcheck disable=SC2016 # for the inner shell
exec "$here/with-servers.sh" --only "$servers" bash -c '
  set -euo pipefail
  dir=$(dirname "$ROWCAST_TEST_ENV")
  [ -e "$dir/connect/env" ] || "$1/servers.sh" start "$dir" connect
  exec "${CARGO:-cargo}" test --test debezium_live -- --ignored --exact --nocapture "$2"' - "$here" "$test"
