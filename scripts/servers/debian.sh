# shellcheck shell=bash
# Unpacks Debian packages with their libraries into a folder, without touching the machine's own packages. The programs
# run through that folder's own dynamic loader and libraries, so a server of a newer suite works on an older machine.

# The mirror that this machine's apt uses, or ROWCAST_DEBIAN_MIRROR.
debian_mirror() {
  local m=${ROWCAST_DEBIAN_MIRROR:-}
  if [ -z "$m" ]; then
    m=$({
      cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null | awk '$1 == "deb" { for (i = 2; i <= NF; i++) if ($i ~ /^https?:/) { print $i; break } }'
      cat /etc/apt/sources.list.d/*.sources 2>/dev/null | awk '$1 == "URIs:" { for (i = 2; i <= NF; i++) print $i }'
    } | sed 's:/*$::' | grep -E '/debian$' | head -n 1) || true
  fi
  [ -n "$m" ] || die "no Debian mirror in this machine's apt sources: set ROWCAST_DEBIAN_MIRROR to one"
  echo "$m"
}

# Suite of this machine if it is a Debian release, else the oldest one that we support.
host_suite() {
  local id='' codename=''
  id=$(. /etc/os-release 2>/dev/null && echo "${ID:-}") || true
  codename=$(. /etc/os-release 2>/dev/null && echo "${VERSION_CODENAME:-}") || true
  if [ "$id" = debian ] && [ -n "$codename" ]; then echo "$codename"; else echo bookworm; fi
}

multiarch() {
  case $(uname -m) in
    x86_64) echo x86_64-linux-gnu ;;
    aarch64) echo aarch64-linux-gnu ;;
    *) die "no server packages for the machine type $(uname -m)" ;;
  esac
}

# unpack_debs SUITE FOLDER PATTERN PACKAGE... [+PACKAGE...]
# Unpacks what PATTERN (an extended regular expression on package names) selects of PACKAGEs and all they depend on;
# libraries are always taken, +PACKAGEs come without their dependencies.
unpack_debs() {
  local suite=$1 dest=$2 pattern=$3 p mirror keyring work
  shift 3
  local roots=() alone=() names=()
  for p in "$@"; do
    case $p in +*) alone+=("${p#+}") ;; *) roots+=("$p") ;; esac
  done
  need apt-get apt
  need dpkg-deb dpkg
  mirror=$(debian_mirror)
  keyring=${ROWCAST_DEBIAN_KEYRING:-/usr/share/keyrings/debian-archive-keyring.gpg}
  [ -r "$keyring" ] || die "$keyring is missing: install the package debian-archive-keyring or set ROWCAST_DEBIAN_KEYRING"
  work=$dest/.apt
  mkdir -p "$work"/{lists/partial,cache/archives/partial,state,etc/apt.conf.d,etc/preferences.d}
  : >"$work/state/status"
  local suites=$suite
  case $suite in sid | unstable) ;; *) suites="$suite $suite-updates" ;; esac
  printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' "$mirror" "$suites" "$keyring" >"$work/etc/debian.sources"
  cat >"$work/apt.conf" <<CONF
Dir::Etc "$work/etc";
Dir::Etc::sourcelist "$work/etc/debian.sources";
Dir::Etc::sourceparts "-";
Dir::Etc::parts "$work/etc/apt.conf.d";
Dir::Etc::preferencesparts "$work/etc/preferences.d";
Dir::State "$work/state";
Dir::State::Lists "$work/lists";
Dir::State::status "$work/state/status";
Dir::Cache "$work/cache";
APT::Architecture "$(dpkg --print-architecture)";
APT::Architectures { "$(dpkg --print-architecture)"; };
APT::Install-Recommends "false";
APT::Sandbox::User "$(id -un)";
Acquire::Languages "none";
Acquire::Check-Valid-Until "false";
Acquire::Check-Date "false";
Acquire::Retries "3";
CONF
  (
    export APT_CONFIG=$work/apt.conf
    cd "$work/cache/archives"
    apt-get -qq update
    apt-get install --simulate --no-install-recommends "${roots[@]}" >"$work/plan"
    mapfile -t names < <(awk '$1 == "Inst" { print $2 }' "$work/plan" | grep -E "^(lib|gcc-[0-9]+-base$|$pattern)" | grep -Ev '^lib(perl|pam-|pam0g-|dbd|dbi|gdbm|db5|debconf|terms|json-perl|[a-z-]+-perl$)')
    apt-get -qq download "${names[@]}" "${alone[@]}"
  ) >"$work/log" 2>&1 || { log_tail "$work/log"; die "cannot download packages of Debian $suite from $mirror: ${roots[*]}"; }
  for p in "$work"/cache/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$p" | tar -x -C "$dest" --no-same-owner --keep-directory-symlink \
      --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' --exclude='./usr/share/locale/*' --exclude='./etc/*' --exclude='./var/*'
    # shellcheck disable=SC2016
    dpkg-deb -W --showformat '${Package} ${Version}\n' "$p" >>"$dest/.packages"
  done
  rm -rf "$work"
}

# run_with_own_libraries ROOT FOLDER   replaces each program in ROOT/FOLDER by a small script that runs it through ROOT's
# own loader. --argv0 keeps the program's idea of where it is, from which servers find their other files.
run_with_own_libraries() {
  local root=$1 folder=$2 lib up f n
  lib=usr/lib/$(multiarch)
  # Before and after Debian's merge of /lib into /usr/lib.
  if [ -d "$root/lib/$(multiarch)" ] && [ ! -L "$root/lib" ]; then
    mkdir -p "$root/$lib"
    cp -an "$root/lib/$(multiarch)/." "$root/$lib/"
  fi
  local loader
  loader=$(cd "$root/$lib" && echo ld-linux-*.so.*)
  [ -e "$root/$lib/$loader" ] || die "no dynamic loader in $root/$lib"
  up=$(realpath -m --relative-to="$root/$folder" "$root")
  mkdir -p "$root/$folder/.programs"
  for f in "$root/$folder"/*; do
    if [ ! -f "$f" ] || [ -L "$f" ]; then continue; fi
    [ "$(head -c 4 "$f" | od -An -tx1 | tr -d ' \n')" = 7f454c46 ] || continue
    n=${f##*/}
    mv "$f" "$root/$folder/.programs/$n"
    cat >"$f" <<SCRIPT
#!/bin/sh
here=\$(dirname "\$(readlink -f "\$0")")
lib=\$here/$up/$lib
exec "\$lib/$loader" --library-path "\$lib" --argv0 "\$here/$n" "\$here/.programs/$n" "\$@"
SCRIPT
    chmod 755 "$f"
  done
}

# unpacked NAME FUNCTION   makes $CACHE/NAME by calling FUNCTION with a temporary folder, once
unpacked() {
  [ -e "$CACHE/$1" ] && return
  with_lock "$1" unpack_once "$@"
}

unpack_once() { # NAME FUNCTION
  local name=$1 make=$2 tmp started=$SECONDS rc
  # Another run may have done it while this one waited for the lock; what an interrupted run left goes away.
  [ -e "$CACHE/$name" ] && return
  rm -rf "$CACHE/.$name".??????
  say "$name: downloading and unpacking"
  tmp=$(mktemp -d "$CACHE/.$name.XXXXXX")
  chmod 755 "$tmp"
  set +e
  (set -e; "$make" "$tmp")
  rc=$?
  set -e
  if [ "$rc" != 0 ]; then
    rm -rf "$tmp"
    return "$rc"
  fi
  mv -T "$tmp" "$CACHE/$name"
  say "$name: unpacked in $((SECONDS - started)) s"
}
