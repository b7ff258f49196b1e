#!/usr/bin/env bash
# Installs what building and testing Rowcast needs on a Debian-like machine, beyond Rust: as root by apt-get, else it says
# what to install. Then unpacks the servers that tests run against (scripts/servers.sh prepare). Quick when nothing is missing.
#
#   prepare.sh            all of it
#   prepare.sh build      only what `cargo build` needs
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
# shellcheck source=/dev/null
. "$here/servers/common.sh"

packages=()
want() { # COMMAND PACKAGE
  command -v "$1" >/dev/null 2>&1 || packages+=("$2")
}
want cc gcc
want c++ g++
want make make
want pkg-config pkg-config
if ! command -v pkg-config >/dev/null 2>&1 || ! pkg-config --exists openssl; then packages+=(libssl-dev); fi
[ -e /etc/ssl/certs/ca-certificates.crt ] || packages+=(ca-certificates)
if [ "${1:-}" != build ]; then
  want openssl openssl
  want java default-jre-headless
  want mvn maven
  want perl perl
  want setpriv util-linux
  [ -r "${ROWCAST_DEBIAN_KEYRING:-/usr/share/keyrings/debian-archive-keyring.gpg}" ] || packages+=(debian-archive-keyring)
fi

if [ ${#packages[@]} -gt 0 ]; then
  if ! is_root || ! command -v apt-get >/dev/null 2>&1; then
    die "missing on this machine; install these packages (Debian's names): ${packages[*]}"
  fi
  say "installing ${packages[*]}"
  log=$(mktemp)
  export DEBIAN_FRONTEND=noninteractive
  if ! { apt-get -qq update && apt-get -qq install -y --no-install-recommends "${packages[@]}"; } >"$log" 2>&1; then
    log_tail "$log"
    rm -f "$log"
    die "apt-get could not install ${packages[*]}"
  fi
  rm -f "$log"
fi
command -v cargo >/dev/null 2>&1 || die "no cargo: install Rust (rustup.rs), at least the version in Cargo.toml"

if [ "${1:-}" != build ]; then
  "$here/servers.sh" prepare
  # the tests of failover need slots that standbys keep a copy of: PostgreSQL 17
  ROWCAST_PG_SUITE=trixie "$here/servers.sh" prepare pg
  # the test of the login by parsec needs a server that has it: MariaDB 11.8
  ROWCAST_MARIADB_SUITE=trixie "$here/servers.sh" prepare mariadb
  # the test of clocks that jump
  "$here/servers.sh" faketime >/dev/null
  # the tests of consumers made for Debezium
  ROWCAST_CONNECT_PLUGINS=jdbc "$here/servers.sh" prepare connect
  "$here/servers.sh" flink >/dev/null
fi
