# shellcheck shell=bash
# shellcheck disable=SC2153,SC2154 # CACHE is set by servers.sh
# Debezium Server, the original as a process of its own: who Rowcast races against. Its distribution comes by Maven (780 MB); it needs Java 21.

debezium_server_unpack() { # FOLDER
  local name=debezium-server-dist
  connect_artifact "$1" "io.debezium:$name:$DEBEZIUM_VERSION:tar.gz"
  tar -xzf "$1/$name-$DEBEZIUM_VERSION.tar.gz" -C "$1" --no-same-owner --strip-components=1 --wildcards 'debezium-server/*runner.jar' 'debezium-server/lib/*'
  rm -f "$1/$name-$DEBEZIUM_VERSION.tar.gz"
}

# The path of a Java that is new enough.
debezium_server_java() {
  local java version
  for java in "${ROWCAST_RACE_JAVA:-java}" /usr/lib/jvm/*/bin/java; do
    version=$("$java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p') || continue
    if [ "${version:-0}" -ge 21 ]; then
      command -v "$java"
      return
    fi
  done
  die "Debezium Server needs Java 21 or later, and there is none on PATH or in /usr/lib/jvm: install one, or set ROWCAST_RACE_JAVA to its program"
}

# Prints its version, the Java to run it with, and its class path without a configuration's folder.
debezium_server() {
  local home=$CACHE/debezium-server-$DEBEZIUM_VERSION java
  java=$(debezium_server_java)
  unpacked "$(basename "$home")" debezium_server_unpack
  printf '%s\n' "$DEBEZIUM_VERSION" "$java" "$(echo "$home"/*runner.jar):$home/lib/*"
}
