#!/usr/bin/env bash
# The stream and the copy of tables by the release binary beside the servers' own tools:
# scripts/bench.sh [postgres|mysql|mariadb] [ROWS]; the stream is measured for postgres and mysql.
# BENCH=throughput, postgres (its modes and shapes of rows), mysql (its binlog in memory, huge transactions), backfill or latency: only
# this one.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."
benches=()
for bench in ${BENCH:-throughput postgres mysql backfill latency}; do benches+=(--bench "$bench"); done
exec scripts/with-servers.sh --only "pg mysql mariadb kafka" cargo bench "${benches[@]}" -- "$@"
