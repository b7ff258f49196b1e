# shellcheck shell=bash
# shellcheck disable=SC2153,SC2154 # DIR, CACHE, AS_USER and the rest are set by servers.sh
# Kafka Connect, one distributed worker, with Debezium's connectors: the original that `format: debezium` is compared with, and the sink that
# is fed with it. Its broker is the Kafka of the same folder, which must have been started before. Everything comes by Maven, as the published
# plugins. MariaDB's is published nowhere but in the distribution of Debezium Server, of 780 MB.
#
# Settings: ROWCAST_CONNECT_PLUGINS (names among postgres, mysql, mariadb, jdbc; "postgres mysql"), ROWCAST_DEBEZIUM_VERSION (3.6.0.Final),
# ROWCAST_CONNECT_HEAP (-Xmx512m), ROWCAST_CONNECT_NICE (0).

DEBEZIUM_VERSION=${ROWCAST_DEBEZIUM_VERSION:-3.6.0.Final}

connect_pom() { # ARTIFACTS...   group:artifact:version each
  local it group artifact version
  echo '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion><groupId>rowcast</groupId><artifactId>connect</artifactId>'
  echo '<version>1</version><packaging>pom</packaging><dependencies>'
  for it in "$@"; do
    IFS=: read -r group artifact version <<<"$it"
    echo "<dependency><groupId>$group</groupId><artifactId>$artifact</artifactId><version>$version</version></dependency>"
  done
  echo '</dependencies></project>'
}

connect_jars() { # FOLDER LOG ARTIFACTS...
  local to=$1 log=$2
  shift 2
  mkdir -p "$to"
  connect_pom "$@" >"$to.pom.xml"
  mvn -q -B -f "$to.pom.xml" dependency:copy-dependencies -DoutputDirectory="$to" -DincludeScope=runtime >>"$log" 2>&1 || {
    log_tail "$log"
    die "cannot get by Maven: $*"
  }
}

connect_unpack() { # FOLDER
  need java default-jre-headless
  need mvn maven
  connect_jars "$1/lib" "$1/log" "org.apache.kafka:connect-runtime:$KAFKA_VERSION" org.apache.logging.log4j:log4j-slf4j-impl:2.24.3
}

connect_artifact() { # FOLDER ARTIFACT FILE   one file by Maven
  connect_pom >"$1/pom.xml"
  mvn -q -B -f "$1/pom.xml" dependency:copy -Dartifact="$2" -DoutputDirectory="$1" >>"$1/log" 2>&1 || {
    log_tail "$1/log"
    die "cannot get $2 by Maven"
  }
}

# A plugin's folder is the only one in its plugin path.
connect_unpack_plugin() { # FOLDER
  local d=$1 name
  need mvn maven
  if [ "$CONNECT_PLUGIN" = mariadb ]; then
    connect_unpack_mariadb "$d"
    return
  fi
  name=debezium-connector-$CONNECT_PLUGIN
  connect_artifact "$d" "io.debezium:$name:$DEBEZIUM_VERSION:tar.gz:plugin"
  mkdir -p "$d/plugins"
  tar -xzf "$d/$name-$DEBEZIUM_VERSION-plugin.tar.gz" -C "$d/plugins" --no-same-owner
  rm -f "$d/$name-$DEBEZIUM_VERSION-plugin.tar.gz"
}

# The jars of the server's own folder that the connector needs; those of sinks and other sources stay where they are.
connect_unpack_mariadb() { # FOLDER
  local d=$1 name=debezium-server-dist
  connect_artifact "$d" "io.debezium:$name:$DEBEZIUM_VERSION:tar.gz"
  mkdir -p "$d/plugins/debezium-connector-mariadb"
  tar -xzf "$d/$name-$DEBEZIUM_VERSION.tar.gz" -C "$d/plugins/debezium-connector-mariadb" --no-same-owner --strip-components=2 --wildcards \
    'debezium-server/lib/debezium-connector-'{mariadb,binlog,common}'-*' 'debezium-server/lib/debezium-'{api,config,util,ddl-parser,openlineage-api,storage-file,storage-kafka}'-*' \
    'debezium-server/lib/'{mysql-binlog-connector-java,mariadb-java-client,antlr4-runtime,jakarta.ws.rs-api,sketches-java}'-*'
  rm -f "$d/$name-$DEBEZIUM_VERSION.tar.gz"
}

connect_plugins() { echo "${ROWCAST_CONNECT_PLUGINS:-postgres mysql}"; }

connect_plugin() { echo "debezium-$1-$DEBEZIUM_VERSION"; } # PLUGIN

connect_home() { echo "$CACHE/connect-$KAFKA_VERSION"; }

connect_prepare() {
  local plugin
  unpacked "$(basename "$(connect_home)")" connect_unpack
  for plugin in $(connect_plugins); do
    CONNECT_PLUGIN=$plugin unpacked "$(connect_plugin "$plugin")" connect_unpack_plugin
  done
  need java default-jre-headless
}

connect_ports() { echo 1; }

connect_setup() { # PORT
  local d=$DIR/connect brokers plugin paths=
  brokers=$(sed -n "s/^KAFKA_BROKERS='\(.*\)'/\1/p" "$DIR/kafka/env" 2>/dev/null) || true
  [ -n "$brokers" ] || die "connect: start kafka in $DIR first"
  for plugin in $(connect_plugins); do paths="$paths,$CACHE/$(connect_plugin "$plugin")/plugins"; done
  # The pauses of a cluster that waits for other workers have no use here.
  cat >"$d/worker.properties" <<CONF
bootstrap.servers=$brokers
group.id=connect
key.converter=org.apache.kafka.connect.json.JsonConverter
value.converter=org.apache.kafka.connect.json.JsonConverter
offset.storage.topic=connect-offsets
offset.storage.replication.factor=1
offset.storage.partitions=1
offset.flush.interval.ms=1000
config.storage.topic=connect-configs
config.storage.replication.factor=1
status.storage.topic=connect-status
status.storage.replication.factor=1
status.storage.partitions=1
scheduled.rebalance.max.delay.ms=0
listeners=HTTP://127.0.0.1:$1
plugin.path=${paths#,}
CONF
  kafka_log4j >"$d/log4j2.properties"
  own "$d"
  env_line CONNECT_PORT "$1" >"$d/env"
}

connect_launch() {
  # shellcheck disable=SC2086
  launch connect nice -n "${ROWCAST_CONNECT_NICE:-0}" java ${ROWCAST_CONNECT_HEAP:--Xmx512m} -XX:+UseSerialGC -Djava.awt.headless=true -Dlog4j2.configurationFile="$DIR/connect/log4j2.properties" \
    -cp "$(connect_home)/lib/*" org.apache.kafka.connect.cli.ConnectDistributed "$DIR/connect/worker.properties"
}

# It answers, and has scanned its plugins.
connect_ready() {
  local port answer
  port=$(sed -n "s/^CONNECT_PORT='\(.*\)'/\1/p" "$DIR/connect/env")
  exec 7<>"/dev/tcp/127.0.0.1/$port" || return 1
  printf 'GET /connector-plugins HTTP/1.0\r\n\r\n' >&7
  answer=$(timeout 5 cat <&7)
  exec 7>&-
  case $answer in *io.debezium.connector*) ;; *) return 1 ;; esac
}

connect_stop_signal() { echo TERM; }
