#!/usr/bin/env bash
# with-servers.sh [--only "NAME..."] COMMAND ARG...   runs a command beside private servers (all four unless told otherwise)
# with ROWCAST_TEST_ENV naming the file that describes them; they end with it, whatever ends it. ROWCAST_KEEP=1 keeps their
# folder (data, logs) when the command fails. Where ROWCAST_TEST_ENV is set already, those servers are used.
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
names=(pg mysql mariadb kafka)
if [ "${1:-}" = --only ]; then
  read -ra names <<<"$2"
  shift 2
fi
[ $# -gt 0 ] || { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }
if [ -n "${ROWCAST_TEST_ENV:-}" ]; then exec "$@"; fi

dir=$(mktemp -d "${ROWCAST_RUN_DIR:-/tmp}/rowcast-XXXXXX")
child=
# shellcheck disable=SC2317 # called by the traps
finish() {
  local rc=$?
  trap '' INT TERM HUP
  trap - EXIT
  if [ -n "$child" ]; then kill -s TERM -- "-$child" 2>/dev/null || true; fi
  if [ "$rc" != 0 ] && [ -n "${ROWCAST_KEEP:-}" ]; then
    "$here/servers.sh" kill "$dir" || true
    printf 'servers: kept %s\n' "$dir" >&2
  else
    "$here/servers.sh" discard "$dir" 2>/dev/null || true
  fi
  exit "$rc"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

# With ROWCAST_KEEP nothing may remove the folder behind our back; else a watcher does even if this shell is killed.
watch=(--while-pid $$)
[ -z "${ROWCAST_KEEP:-}" ] || watch=()
"$here/servers.sh" start "${watch[@]}" "$dir" "${names[@]}"
export ROWCAST_TEST_ENV=$dir/env
# In the background, so that a signal to this shell is handled at once, and as a process group of its own, so that what the
# command has started ends with it.
set -m
"$@" <&0 &
child=$!
set +m
rc=0
wait "$child" || rc=$?
child=
exit "$rc"
