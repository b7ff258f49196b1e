# shellcheck shell=bash
# shellcheck disable=SC2153,SC2154 # DIR, REPO, CACHE, STATE, RUN_USER and AS_USER are set by servers.sh
# Shared by servers.sh: messages, the cache folder, users, ports, processes, readiness.

say() { printf 'servers: %s\n' "$*" >&2; }
die() { printf 'servers: error: %s\n' "$*" >&2; exit 1; }

# The program's log in an error message: what a person needs to see first.
log_tail() { # FILE...
  local f
  for f in "$@"; do
    [ -s "$f" ] || continue
    printf -- '--- last lines of %s\n' "$f" >&2
    tail -n 40 "$f" >&2
  done
}

need() { # PROGRAM PACKAGE
  command -v "$1" >/dev/null 2>&1 || die "$1 is missing: install the Debian package $2 (or run scripts/prepare.sh as root)"
}

is_root() { [ "$(id -u)" = 0 ]; }

# Database servers refuse to run as root, so as root everything runs as the first of these users.
run_user() {
  is_root || { id -un; return; }
  local u
  for u in postgres mysql nobody; do
    if getent passwd "$u" >/dev/null; then echo "$u"; return; fi
  done
  die "no unprivileged user (postgres, mysql or nobody) to run servers as"
}

# The words in front of a command that make it run as that user.
user_words() {
  if is_root; then printf '%s\n' setpriv --reuid="$RUN_USER" --regid="$(id -g "$RUN_USER")" --clear-groups; fi
}

# as_user COMMAND...   run as the unprivileged user, in a folder that it can read
as_user() { (cd / && exec "${AS_USER[@]}" "$@"); }

own() { # PATH...   hand over to the unprivileged user
  if is_root; then chown -R "$RUN_USER:$(id -g "$RUN_USER")" "$@"; fi
}

# Downloads, unpacked servers and initialised data folders live here.
cache_dir() {
  local c=${ROWCAST_CACHE:-$REPO/.cache}
  mkdir -p "$c"
  c=$(cd "$c" && pwd)
  # A checkout below /root is closed to the user that the servers run as.
  if is_root && ! as_user test -x "$c"; then
    c=/var/cache/rowcast
    mkdir -p "$c"
  fi
  echo "$c"
}

# Locks and templates: the cache, or a folder of the user's own where the cache can only be read.
state_dir() {
  local s=$CACHE
  if [ ! -w "$s" ]; then
    s=${XDG_CACHE_HOME:-${HOME:?}/.cache}/rowcast
    mkdir -p "$s"
  fi
  echo "$s"
}

# with_lock NAME COMMAND...   one at a time on this machine; the lock is not passed on to the command's children
with_lock() {
  local name=$1 fd rc
  shift
  mkdir -p "$STATE/locks"
  exec {fd}>"$STATE/locks/$name"
  flock "$fd" || die "cannot lock $STATE/locks/$name"
  set +e
  (set -e; exec {fd}>&-; "$@")
  rc=$?
  set -e
  exec {fd}>&-
  return "$rc"
}

# template NAME SCRIPT FUNCTION   prints the path of an initialised data folder, made once by calling FUNCTION with the
# folder to fill; made anew when SCRIPT, which holds the settings, has changed.
template() {
  local name=$1 script=$2 make=$3 path
  path=$STATE/template-$name-$RUN_USER-$(cksum "$script" | cut -d ' ' -f 1)
  [ -e "$path" ] || with_lock "template-$name" template_once "$name" "$path" "$make"
  echo "$path"
}

template_once() { # NAME PATH FUNCTION
  local name=$1 path=$2 make=$3 tmp started=$SECONDS rc
  [ -e "$path" ] && return
  rm -rf "$STATE/template-$name-$RUN_USER"-* "$STATE/.template-$name".??????
  tmp=$(mktemp -d "$STATE/.template-$name.XXXXXX")
  chmod 755 "$tmp"
  own "$tmp"
  set +e
  (set -e; "$make" "$tmp") >&2
  rc=$?
  set -e
  if [ "$rc" != 0 ]; then
    rm -rf "$tmp"
    return "$rc"
  fi
  mv -T "$tmp" "$path"
  say "$name: data folder initialised in $((SECONDS - started)) s"
}

# free_ports N   N distinct TCP ports that nobody listens on. They are taken from below the range that the kernel uses
# for outgoing connections, so that no client socket can be sitting on a server's port when it is restarted.
free_ports() {
  perl -MSocket -e '
    my ($n) = @ARGV; my ($low, $high) = (10240, 32767);
    if (open(my $f, "<", "/proc/sys/net/ipv4/ip_local_port_range")) { my ($l) = split " ", <$f>; $high = $l - 1 if $l > $low + 4000; }
    my (@held, @ports);
    for (1 .. 2000) {
      last if @ports == $n;
      my $port = $low + int(rand($high - $low));
      socket(my $s, PF_INET, SOCK_STREAM, 0) or die "socket: $!";
      next unless bind($s, sockaddr_in($port, inet_aton("127.0.0.1"))) && listen($s, 1);
      push @held, $s; push @ports, $port;
    }
    die "no free port\n" unless @ports == $n;
    print join(" ", @ports), "\n";' "$1"
}

# launch NAME COMMAND...   start a server in a session of its own; its process id goes to $DIR/NAME/pid
launch() {
  local name=$1 fd
  shift
  (
    # Locks, pipes and job server descriptors of the caller stay here.
    for fd in /proc/self/fd/*; do
      fd=${fd##*/}
      if [ "$fd" -gt 2 ]; then eval "exec $fd>&-" 2>/dev/null || true; fi
    done
    cd /
    HOME=$DIR/$name exec setsid "${AS_USER[@]}" "$@" </dev/null >>"$DIR/$name/log" 2>&1
  ) &
  echo $! >"$DIR/$name/pid"
  disown $!
}

# alive NAME   true if the recorded process still is that server (and not another one with a reused id)
alive() {
  local pid line
  pid=$(cat "$DIR/$1/pid" 2>/dev/null) && [ -n "$pid" ] || return 1
  line=$(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline") || return 1
  case $line in
    # Right after the fork the command line is still the shell's.
    *"$DIR/$1/"* | *servers.sh*) return 0 ;;
    # While a process is replacing its program, it reads as empty, as a dead one's does.
    '') running "$pid" ;;
    *) return 1 ;;
  esac
}

# Process id of every child of a process, without needing procps.
children_of() { # PID
  # Processes may end while they are listed.
  { cat /proc/[0-9]*/stat 2>/dev/null || true; } | sed -E 's/^([0-9]+) \(.*\) [A-Za-z] ([0-9]+) .*/\1 \2/' | awk -v p="$1" '$2 == p { print $1 }'
}

# running PID   exists and is more than a dead process that nobody has asked about
running() {
  case $(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) in '' | Z* | X*) return 1 ;; *) return 0 ;; esac
}

# wait_gone NAME SECONDS
wait_gone() {
  local i
  for ((i = 0; i < $2 * 20; i++)); do
    alive "$1" || return 0
    sleep 0.05
  done
  return 1
}

# wait_ready NAME FUNCTION   ask until the server answers, it dies, or time is up
wait_ready() {
  local name=$1 check=$2 limit=${ROWCAST_START_TIMEOUT:-180}
  local end=$((SECONDS + limit))
  while :; do
    if ! alive "$name"; then return 1; fi
    if "$check" >"$DIR/$name/ready.log" 2>&1; then
      # Another server might have answered on this port.
      alive "$name" && return 0
      return 1
    fi
    if [ "$SECONDS" -ge "$end" ]; then
      say "$name: no answer in $limit s"
      return 1
    fi
    sleep 0.1
  done
}

# env_line KEY VALUE   one line of the env file; values are single-quoted for the shell
env_line() { printf "%s='%s'\n" "$1" "$2"; }

# Throw-away certificates: an authority, a server certificate for localhost and 127.0.0.1, a client certificate.
make_tls() { # FOLDER
  local d=$1 n subject usage
  [ -s "$d/ok" ] && return
  need openssl openssl
  mkdir -p "$d"
  (
    cd "$d"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=rowcast test authority" \
      -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign" -keyout ca.key -out ca.crt
    for n in server client; do
      if [ "$n" = server ]; then
        subject=localhost usage=$'extendedKeyUsage=serverAuth\nsubjectAltName=DNS:localhost,IP:127.0.0.1'
      else
        subject=cdc_cert usage='extendedKeyUsage=clientAuth'
      fi
      openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$subject" -keyout "$n.key" -out "$n.csr"
      printf 'basicConstraints=CA:FALSE\n%s\n' "$usage" >"$n.ext"
      openssl x509 -req -in "$n.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -extfile "$n.ext" -out "$n.crt"
    done
    rm -f ./*.csr ./*.ext ./*.srl
    chmod 600 ./*.key
    chmod 644 ./*.crt
  ) >"$d/log" 2>&1 || { log_tail "$d/log"; die "cannot make certificates in $d"; }
  if is_root; then chown "$RUN_USER" "$d/server.key"; fi
  echo made >"$d/ok"
}
