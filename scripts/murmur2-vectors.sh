#!/usr/bin/env bash
# Writes tests/data/murmur2.tsv: keys in hexadecimal, and their partitions among so many, as Kafka's own Java client chooses
# them. Needs the unpacked Kafka (scripts/servers.sh prepare kafka) and a JDK's `java`.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."
version=${ROWCAST_KAFKA_VERSION:-4.1.1}
lib=${ROWCAST_CACHE:-.cache}/kafka-$version/lib
[ -e "$lib/kafka-clients-$version.jar" ] || { echo "no Kafka in $lib: run scripts/servers.sh prepare kafka" >&2; exit 1; }
java -cp "$lib/*" tests/data/Murmur2.java >tests/data/murmur2.tsv.new
mv tests/data/murmur2.tsv.new tests/data/murmur2.tsv
wc -l tests/data/murmur2.tsv
