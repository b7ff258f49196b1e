# shellcheck shell=bash
# shellcheck disable=SC2153,SC2154 # DIR, CACHE, RUN_USER and the rest are set by servers.sh
# A second Kafka, with TLS, mutual TLS, SASL and access control lists, for the tests of security; apart from the ordinary one, so
# that all other tests keep a broker that starts quickly and allows everything.
#
#   PLAINTEXT  KAFKA_SECURE_BROKERS   no questions asked: ANONYMOUS is a super user
#   SSL        KAFKA_SECURE_SSL       TLS; the user is ANONYMOUS too
#   MTLS       KAFKA_SECURE_MTLS      TLS with a client certificate; user CN=cdc_cert
#   SASL_SSL   KAFKA_SECURE_SASL      TLS with PLAIN (plain/plainpw), SCRAM-SHA-256 and -512 (scram/scrampw, limited/limitedpw,
#                                     reader/readerpw)
#
# All but `limited` and `reader` are super users; those two may do nothing until a test says so.

KAFKA_SECURE_SCRIPT=${BASH_SOURCE[0]}

kafka_secure_prepare() {
  kafka_prepare
  kafka_secure_template >/dev/null
}

kafka_secure_template() { template "kafka_secure-$KAFKA_VERSION" "$KAFKA_SECURE_SCRIPT" kafka_secure_initialise; }

# Only the ordinary listener's users come with the storage: SCRAM's are records of the cluster.
kafka_secure_initialise() { # FOLDER
  local d=$1 ports mechanism users=()
  read -ra ports < <(free_ports 2)
  kafka_properties "$d" "${ports[@]}" >"$d/server.properties"
  for mechanism in SCRAM-SHA-256 SCRAM-SHA-512; do
    users+=(--add-scram "$mechanism=[name=scram,password=scrampw]" --add-scram "$mechanism=[name=limited,password=limitedpw]" --add-scram "$mechanism=[name=reader,password=readerpw]")
  done
  as_user java -XX:TieredStopAtLevel=1 -cp "$CACHE/kafka-$KAFKA_VERSION/lib/*" kafka.tools.StorageTool \
    format -t AAAAAAAAAAAAAAAAAAAAAQ -c "$d/server.properties" "${users[@]}" >"$d/format.log" 2>&1 || { log_tail "$d/format.log"; die "cannot format Kafka's storage"; }
}

kafka_secure_ports() { echo 5; }

kafka_secure_properties() { # FOLDER PORT CONTROLLER_PORT SSL_PORT MTLS_PORT SASL_PORT
  local all
  # what stands further down wins
  kafka_properties "$1" "$2" "$3"
  all="PLAINTEXT://127.0.0.1:$2,SSL://127.0.0.1:$4,MTLS://127.0.0.1:$5,SASL_SSL://127.0.0.1:$6"
  cat <<CONF
listeners=$all,CONTROLLER://127.0.0.1:$3
advertised.listeners=$all
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,MTLS:SSL,SASL_SSL:SASL_SSL
ssl.keystore.type=PEM
ssl.keystore.location=$1/server.pem
ssl.truststore.type=PEM
ssl.truststore.location=$DIR/tls/ca.crt
listener.name.mtls.ssl.client.auth=required
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_plain="plainpw";
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:CN=cdc_cert;User:plain;User:scram
CONF
}

kafka_secure_setup() { # PORT CONTROLLER_PORT SSL_PORT MTLS_PORT SASL_PORT
  local d=$DIR/kafka_secure id
  cp -a --reflink=auto "$(kafka_secure_template)/data" "$d/data"
  id=$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=')
  sed -i "s/^cluster.id=.*/cluster.id=${id/#-/A}/" "$d/data/meta.properties"
  cat "$DIR/tls/server.key" "$DIR/tls/server.crt" >"$d/server.pem"
  chmod 600 "$d/server.pem"
  own "$d/data" "$d/server.pem"
  kafka_secure_properties "$d" "$@" >"$d/server.properties"
  kafka_log4j >"$d/log4j2.properties"
  {
    env_line KAFKA_SECURE_BROKERS "127.0.0.1:$1"
    env_line KAFKA_SECURE_PORT "$1"
    env_line KAFKA_SECURE_SSL "127.0.0.1:$3"
    env_line KAFKA_SECURE_MTLS "127.0.0.1:$4"
    env_line KAFKA_SECURE_SASL "127.0.0.1:$5"
  } >"$d/env"
}

kafka_secure_launch() {
  local d=$DIR/kafka_secure
  [ ! -e "$d/log" ] || mv -f "$d/log" "$d/log.previous"
  # shellcheck disable=SC2086
  launch kafka_secure java ${ROWCAST_KAFKA_HEAP:--Xmx512m} -XX:+UseG1GC ${ROWCAST_KAFKA_JVM:-} -XX:SharedArchiveFile="$(kafka_template)/kafka.jsa" -Djava.awt.headless=true -Dlog4j2.configurationFile="$d/log4j2.properties" \
    -cp "$CACHE/kafka-$KAFKA_VERSION/lib/*" kafka.Kafka "$d/server.properties"
}

kafka_secure_ready() {
  local d=$DIR/kafka_secure
  grep -q 'Kafka Server started' "$d/log" || return 1
  # the last listener that it opens
  (exec 7<>"/dev/tcp/127.0.0.1/$(sed -n "s/^KAFKA_SECURE_SASL='127.0.0.1:\(.*\)'/\1/p" "$d/env")")
}

kafka_secure_stop_signal() { echo TERM; }
