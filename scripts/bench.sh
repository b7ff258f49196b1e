#!/usr/bin/env bash
# Throughput of the release binary beside the servers' own tools: scripts/bench.sh [postgres|mysql] [ROWS]
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."
exec scripts/with-servers.sh --only "pg mysql kafka" cargo bench --bench throughput -- "$@"
