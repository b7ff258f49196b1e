# shellcheck shell=bash
# shellcheck disable=SC2153,SC2154 # CACHE is set by servers.sh
# Flink's table engine with its Kafka connector and its JSON formats, by Maven: one of the consumers that read Debezium's events. It runs inside of
# the program that uses it; there is no server.

FLINK_VERSION=${ROWCAST_FLINK_VERSION:-2.2.1}
FLINK_KAFKA_VERSION=${ROWCAST_FLINK_KAFKA_VERSION:-5.0.0-2.2}

flink_unpack() { # FOLDER
  local part parts=()
  need java default-jre-headless
  need mvn maven
  for part in clients table-api-java-bridge table-planner-loader table-runtime connector-base json; do
    parts+=("org.apache.flink:flink-$part:$FLINK_VERSION")
  done
  connect_jars "$1/lib" "$1/log" "${parts[@]}" "org.apache.flink:flink-sql-connector-kafka:$FLINK_KAFKA_VERSION" \
    org.apache.logging.log4j:log4j-slf4j-impl:2.24.3
}

# Prints a class path.
flink_classpath() {
  unpacked "flink-$FLINK_VERSION-kafka-$FLINK_KAFKA_VERSION" flink_unpack
  echo "$CACHE/flink-$FLINK_VERSION-kafka-$FLINK_KAFKA_VERSION/lib/*"
}
