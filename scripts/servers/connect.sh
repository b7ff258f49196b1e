# shellcheck shell=bash
# shellcheck disable=SC2153,SC2154 # DIR, CACHE, AS_USER and the rest are set by servers.sh
# Kafka Connect, one distributed worker, with the real Debezium: the original that `format: debezium` is compared with. Its broker is the
# Kafka of the same folder, which must have been started before. Everything comes by Maven: PostgreSQL's and MySQL's connectors as their
# published plugins. MariaDB's is published nowhere but in the distribution of Debezium Server, of 780 MB, from which it is taken if
# ROWCAST_DEBEZIUM_MARIADB=1.
#
# Settings: ROWCAST_DEBEZIUM_VERSION (3.6.0.Final), ROWCAST_CONNECT_HEAP (-Xmx512m), ROWCAST_CONNECT_NICE (0).

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
  local d=$1 c name
  need java default-jre-headless
  need mvn maven
  connect_jars "$d/lib" "$d/log" "org.apache.kafka:connect-runtime:$KAFKA_VERSION" org.apache.logging.log4j:log4j-slf4j-impl:2.24.3
  mkdir -p "$d/plugins"
  for c in postgres mysql; do
    name=debezium-connector-$c
    connect_pom >"$d/plugin.pom.xml"
    mvn -q -B -f "$d/plugin.pom.xml" dependency:copy -Dartifact="io.debezium:$name:$DEBEZIUM_VERSION:tar.gz:plugin" -DoutputDirectory="$d" >>"$d/log" 2>&1 || {
      log_tail "$d/log"
      die "cannot get the plugin $name $DEBEZIUM_VERSION by Maven"
    }
    tar -xzf "$d/$name-$DEBEZIUM_VERSION-plugin.tar.gz" -C "$d/plugins" --no-same-owner
    rm -f "$d/$name-$DEBEZIUM_VERSION-plugin.tar.gz"
  done
}

# The jars of the server's own folder that the connector needs; those of sinks and other sources stay where they are.
connect_unpack_mariadb() { # FOLDER
  local d=$1 name=debezium-server-dist
  connect_pom >"$d/pom.xml"
  mvn -q -B -f "$d/pom.xml" dependency:copy -Dartifact="io.debezium:$name:$DEBEZIUM_VERSION:tar.gz" -DoutputDirectory="$d" >>"$d/log" 2>&1 || {
    log_tail "$d/log"
    die "cannot get $name $DEBEZIUM_VERSION by Maven"
  }
  mkdir -p "$d/plugins/debezium-connector-mariadb"
  tar -xzf "$d/$name-$DEBEZIUM_VERSION.tar.gz" -C "$d/plugins/debezium-connector-mariadb" --no-same-owner --strip-components=2 --wildcards \
    'debezium-server/lib/debezium-connector-'{mariadb,binlog,common}'-*' 'debezium-server/lib/debezium-'{api,config,util,ddl-parser,openlineage-api,storage-file,storage-kafka}'-*' \
    'debezium-server/lib/'{mysql-binlog-connector-java,mariadb-java-client,antlr4-runtime,jakarta.ws.rs-api,sketches-java}'-*'
  rm -f "$d/$name-$DEBEZIUM_VERSION.tar.gz"
}

connect_mariadb() { echo "$CACHE/debezium-mariadb-$DEBEZIUM_VERSION"; }

connect_home() { echo "$CACHE/connect-$KAFKA_VERSION-debezium-$DEBEZIUM_VERSION"; }

connect_prepare() {
  unpacked "$(basename "$(connect_home)")" connect_unpack
  if [ "${ROWCAST_DEBEZIUM_MARIADB:-}" = 1 ]; then unpacked "$(basename "$(connect_mariadb)")" connect_unpack_mariadb; fi
  need java default-jre-headless
}

connect_ports() { echo 1; }

connect_setup() { # PORT
  local d=$DIR/connect brokers
  brokers=$(sed -n "s/^KAFKA_BROKERS='\(.*\)'/\1/p" "$DIR/kafka/env" 2>/dev/null) || true
  [ -n "$brokers" ] || die "connect: start kafka in $DIR first"
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
plugin.path=$(connect_home)/plugins$([ "${ROWCAST_DEBEZIUM_MARIADB:-}" != 1 ] || echo ",$(connect_mariadb)/plugins")
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
  case $answer in *PostgresConnector*) ;; *) return 1 ;; esac
}

connect_stop_signal() { echo TERM; }
