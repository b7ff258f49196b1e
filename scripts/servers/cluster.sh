# shellcheck shell=bash
# shellcheck disable=SC2153,SC2154 # DIR and CACHE are set by servers.sh
# A Kafka cluster of three nodes, each broker and controller in one process: kafka1, kafka2, kafka3. Topics have three
# replicas, two of which must have a record before it is acknowledged. All three are planned when the first one is started.

# cluster_plan NAME...   chooses the ports and the cluster's name, once, if a broker of the cluster is among the servers
cluster_plan() {
  local ports n
  case " $* " in *" kafka1 "* | *" kafka2 "* | *" kafka3 "*) ;; *) return 0 ;; esac
  if [ -e "$DIR/cluster" ]; then return 0; fi
  read -ra ports < <(free_ports 6)
  {
    env_line CLUSTER_ID "A$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=' | cut -c 2-)"
    for n in 1 2 3; do
      env_line "BROKER_$n" "${ports[$((n - 1))]}"
      env_line "CONTROLLER_$n" "${ports[$((n + 2))]}"
    done
  } >"$DIR/cluster"
}

cluster_value() { sed -n "s/^$1='\(.*\)'/\1/p" "$DIR/cluster"; }

broker_setup() { # N
  local d=$DIR/kafka$1 n voters='' brokers=''
  cp -a --reflink=auto "$(kafka_template)/data" "$d/data"
  # each node is made by the tool that formats its storage, since the number of the node is in its files
  for n in 1 2 3; do
    voters+=${voters:+,}$n@127.0.0.1:$(cluster_value "CONTROLLER_$n")
    brokers+=${brokers:+,}127.0.0.1:$(cluster_value "BROKER_$n")
  done
  sed -i -e "s/^cluster.id=.*/cluster.id=$(cluster_value CLUSTER_ID)/" -e "s/^node.id=.*/node.id=$1/" "$d/data/meta.properties"
  # the template's own name of this folder, which must differ from node to node
  sed -i "/^directory.id=/d" "$d/data/meta.properties"
  own "$d/data"
  {
    kafka_properties "$d" "$(cluster_value "BROKER_$1")" "$(cluster_value "CONTROLLER_$1")"
    cat <<CONF
node.id=$1
controller.quorum.voters=$voters
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
replica.lag.time.max.ms=5000
CONF
  } >"$d/server.properties"
  kafka_log4j >"$d/log4j2.properties"
  {
    env_line KAFKA_BROKERS "$brokers"
    env_line "KAFKA$1_PORT" "$(cluster_value "BROKER_$1")"
    env_line KAFKA_CP "$CACHE/kafka-$KAFKA_VERSION/lib/*"
  } >"$d/env"
}

broker_launch() { # N
  local d=$DIR/kafka$1
  [ ! -e "$d/log" ] || mv -f "$d/log" "$d/log.previous"
  launch "kafka$1" java "${ROWCAST_CLUSTER_HEAP:--Xmx256m}" -XX:+UseG1GC -XX:SharedArchiveFile="$(kafka_template)/kafka.jsa" -Djava.awt.headless=true \
    -Dlog4j2.configurationFile="$d/log4j2.properties" -cp "$CACHE/kafka-$KAFKA_VERSION/lib/*" kafka.Kafka "$d/server.properties"
}

# That it answers says little before it has found the others.
broker_ready() { grep -q 'Kafka Server started' "$DIR/kafka$1/log"; }

for broker in 1 2 3; do
  eval "kafka${broker}_prepare() { kafka_prepare; }
    kafka${broker}_ports() { echo 0; }
    kafka${broker}_setup() { broker_setup $broker; }
    kafka${broker}_launch() { broker_launch $broker; }
    kafka${broker}_ready() { broker_ready $broker; }
    kafka${broker}_stop_signal() { echo TERM; }"
done
unset broker
