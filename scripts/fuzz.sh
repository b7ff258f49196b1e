#!/usr/bin/env bash
# Runs each target of fuzz/ for a while: decoders and messages against bytes that no server sends.
#   FUZZ_SECONDS=60 scripts/fuzz.sh [TARGET...]
# Needs a nightly compiler; installs cargo-fuzz if it is missing. What a run finds is in fuzz/artifacts, and makes it fail.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
FUZZ_VERSION=0.13.2

if ! cargo +nightly --version >/dev/null 2>&1; then
  echo "fuzz: a nightly compiler is needed: rustup toolchain install nightly --profile minimal" >&2
  exit 1
fi
if ! cargo fuzz --version >/dev/null 2>&1; then cargo install --locked "cargo-fuzz@$FUZZ_VERSION"; fi
targets=("$@")
if [ $# = 0 ]; then targets=(message row text binary mysql_binlog mysql_row mysql_value mysql_document mysql_number mysql_gtid mysql_statement); fi
for target in "${targets[@]}"; do
  # not every target has seeds
  mkdir -p "fuzz/corpus/$target" "fuzz/seeds/$target"
  echo "==> fuzz $target: ${FUZZ_SECONDS:-60} s"
  # the first folder is where what is found goes
  cargo +nightly fuzz run "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
    -max_total_time="${FUZZ_SECONDS:-60}" -max_len=8192 -rss_limit_mb=2048 -timeout=10 -print_final_stats=1
done
