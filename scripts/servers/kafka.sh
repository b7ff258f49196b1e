# shellcheck shell=bash
# Apache Kafka from its published jars: one KRaft node, broker and controller in one process.

KAFKA_SCRIPT=${BASH_SOURCE[0]}
KAFKA_VERSION=${ROWCAST_KAFKA_VERSION:-4.1.1}

kafka_unpack() { # FOLDER
  need java default-jre-headless
  need mvn maven
  cat >"$1/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>rowcast</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$KAFKA_VERSION</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>$KAFKA_VERSION</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.24.3</version></dependency>
  </dependencies>
</project>
POM
  mvn -q -B -f "$1/pom.xml" dependency:copy-dependencies -DoutputDirectory="$1/lib" -DincludeScope=runtime >"$1/log" 2>&1 || {
    log_tail "$1/log"
    die "cannot get Kafka $KAFKA_VERSION by Maven"
  }
}

kafka_prepare() {
  unpacked "kafka-$KAFKA_VERSION" kafka_unpack
  need java default-jre-headless
  kafka_template >/dev/null
}

kafka_template() { template "kafka-$KAFKA_VERSION" "$KAFKA_SCRIPT" kafka_initialise; }

# The short session: after a restart the controller waits for the end of the older one before it lets the broker in.
kafka_properties() { # FOLDER PORT CONTROLLER_PORT
  cat <<CONF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$3
listeners=PLAINTEXT://127.0.0.1:$2,CONTROLLER://127.0.0.1:$3
advertised.listeners=PLAINTEXT://127.0.0.1:$2
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=$1/data
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=4
group.initial.rebalance.delay.ms=0
log.cleaner.backoff.ms=1000
auto.create.topics.enable=false
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
CONF
}

# A second listener, which advertises another port than its own: that of a proxy through which a test's daemon comes. Settings
# that come twice in a file of properties count as they stand last.
kafka_proxied() { # PORT CONTROLLER_PORT PROXIED_PORT ADVERTISED_PORT
  cat <<CONF
listeners=PLAINTEXT://127.0.0.1:$1,CONTROLLER://127.0.0.1:$2,PROXIED://127.0.0.1:$3
advertised.listeners=PLAINTEXT://127.0.0.1:$1,PROXIED://127.0.0.1:$4
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
CONF
}

kafka_log4j() {
  cat <<'CONF'
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = [%d] %p %m (%c)%n
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = info
CONF
}

kafka_run() { # JVM-OPTIONS... CLASS ARGS...
  local archive
  archive=$(kafka_template)/kafka.jsa
  java -XX:SharedArchiveFile="$archive" -cp "$CACHE/kafka-$KAFKA_VERSION/lib/*" "$@"
}

kafka_initialise() { # FOLDER
  local d=$1 ports pid i
  read -ra ports < <(free_ports 2)
  kafka_properties "$d" "${ports[@]}" >"$d/server.properties"
  kafka_log4j >"$d/log4j2.properties"
  # A cluster's name is 16 bytes in base64; each start gets one of its own.
  as_user java -XX:TieredStopAtLevel=1 -cp "$CACHE/kafka-$KAFKA_VERSION/lib/*" kafka.tools.StorageTool \
    format -t AAAAAAAAAAAAAAAAAAAAAQ -c "$d/server.properties" >"$d/format.log" 2>&1 || { log_tail "$d/format.log"; die "cannot format Kafka's storage"; }
  grep -q '^cluster.id=AAAAAAAAAAAAAAAAAAAAAQ$' "$d/data/meta.properties" || die "unexpected $d/data/meta.properties"
  cp -a "$d/data" "$d/fresh"
  # One trial run, which leaves the classes that a start loads in an archive: later starts take half the time and CPU. It
  # may fail without harm, since Java does without an archive that it can't use.
  "${AS_USER[@]}" java -Xmx256m -XX:+UseG1GC -XX:ArchiveClassesAtExit="$d/kafka.jsa" -Dlog4j2.configurationFile="$d/log4j2.properties" \
    -cp "$CACHE/kafka-$KAFKA_VERSION/lib/*" kafka.Kafka "$d/server.properties" >"$d/log" 2>&1 &
  pid=$!
  for ((i = 0; i < 1200; i++)); do
    if grep -q 'Kafka Server started' "$d/log" || ! kill -0 "$pid" 2>/dev/null; then break; fi
    sleep 0.05
  done
  kill "$pid" 2>/dev/null || true
  wait "$pid" || true
  rm -rf "$d/data"
  mv "$d/fresh" "$d/data"
}

kafka_ports() { if [ -n "${ROWCAST_KAFKA_PROXY:-}" ]; then echo 3; else echo 2; fi; }

kafka_setup() { # PORT CONTROLLER_PORT [PROXIED_PORT]
  local d=$DIR/kafka id
  cp -a --reflink=auto "$(kafka_template)/data" "$d/data"
  id=$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=')
  sed -i "s/^cluster.id=.*/cluster.id=${id/#-/A}/" "$d/data/meta.properties"
  own "$d/data"
  kafka_properties "$d" "$1" "$2" >"$d/server.properties"
  if [ -n "${ROWCAST_KAFKA_PROXY:-}" ]; then kafka_proxied "$1" "$2" "$3" "$ROWCAST_KAFKA_PROXY" >>"$d/server.properties"; fi
  local setting
  for setting in ${ROWCAST_KAFKA_CONF:-}; do echo "$setting" >>"$d/server.properties"; done
  kafka_log4j >"$d/log4j2.properties"
  {
    env_line KAFKA_BROKERS "127.0.0.1:$1"
    env_line KAFKA_PORT "$1"
    env_line KAFKA_DATA "$d/data"
    if [ -n "${ROWCAST_KAFKA_PROXY:-}" ]; then env_line KAFKA_PROXIED_PORT "$3"; fi
    env_line KAFKA_CP "$CACHE/kafka-$KAFKA_VERSION/lib/*"
  } >"$d/env"
}

kafka_launch() {
  # Readiness looks for a line in this run's log.
  [ ! -e "$DIR/kafka/log" ] || mv -f "$DIR/kafka/log" "$DIR/kafka/log.previous"
  # shellcheck disable=SC2086
  launch kafka java ${ROWCAST_KAFKA_HEAP:--Xmx512m} -XX:+UseG1GC ${ROWCAST_KAFKA_JVM:-} -XX:SharedArchiveFile="$(kafka_template)/kafka.jsa" -Djava.awt.headless=true -Dlog4j2.configurationFile="$DIR/kafka/log4j2.properties" \
    -cp "$CACHE/kafka-$KAFKA_VERSION/lib/*" kafka.Kafka "$DIR/kafka/server.properties"
}

# The server says that it has started, and then really answers an ApiVersions request (the open port alone means little).
kafka_ready() {
  grep -q 'Kafka Server started' "$DIR/kafka/log" || return 1
  local port answer
  port=$(sed -n "s/^KAFKA_PORT='\(.*\)'/\1/p" "$DIR/kafka/env")
  # length 13, key 18, version 0, correlation 7, client id "set"
  exec 7<>"/dev/tcp/127.0.0.1/$port" || return 1
  printf '\0\0\0\15\0\22\0\0\0\0\0\7\0\3set' >&7
  # length (4 bytes), correlation, error code
  answer=$(timeout 5 head -c 10 <&7 | od -An -tx1 | tr -d ' \n')
  exec 7>&-
  [ "${answer:8}" = 000000070000 ]
}

kafka_stop_signal() { echo TERM; }
