#!/usr/bin/env bash
# P16: what a second node on the same Postgres adds, on a machine whose cores one node could use alone.
#
# Each node is held to a part of a core by a control group, so that its own share of the work is what limits
# it, and publishers, receivers and Postgres have the rest. Every node has a publisher, a merchant and a
# receiver of its own. Needs root, psql, and an empty database that it may make schemas in:
#
#   bench/second-node.sh 'postgres:///postgres?host=/run/postgresql&user=harkara' [PERCENT [COUNT [NODES]]]
#
# after `cargo build --profile dist -p harkara` and `cargo build --release -p webhook-bench`. Prints, for one
# node and then for NODES (2), what each delivered in a second.
set -euo pipefail

database=$1 percent=${2:-25} count=${3:-4000} nodes=${4:-2}
root=$(cd "$(dirname "$0")/.." && pwd)
server=$root/target/dist/harkara bench=$root/target/release/webhook-bench

# Whatever happens, nothing that was started goes on.
started=()
trap 'kill "${started[@]}" 2> /dev/null || true' EXIT

# Holds this process and what it starts to its part of a core.
hold() {
  if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mkdir -p "/sys/fs/cgroup/$1"
    echo "$((percent * 200)) 20000" > "/sys/fs/cgroup/$1/cpu.max"
    echo "$BASHPID" > "/sys/fs/cgroup/$1/cgroup.procs"
  else
    mkdir -p "/sys/fs/cgroup/cpu/$1"
    echo 20000 > "/sys/fs/cgroup/cpu/$1/cpu.cfs_period_us"
    echo "$((percent * 200))" > "/sys/fs/cgroup/cpu/$1/cpu.cfs_quota_us"
    echo "$BASHPID" > "/sys/fs/cgroup/cpu/$1/cgroup.procs"
  fi
}

# Waits for the address that a process says it listens at.
address() {
  for _ in $(seq 100); do
    grep -s -o -m 1 "127\.0\.0\.1:[0-9]*" "$1" && return
    sleep 0.1
  done
  echo "nothing listens: $1" >&2
  exit 1
}

measure() {
  local nodes=$1 folder schema loads=() node at receiver
  started=()
  folder=$(mktemp -d)
  schema=second_node_$$_$nodes
  psql -q "$database" -c "create schema $schema"
  export HARKARA_STORE="$database&options=-c%20search_path%3D$schema" HARKARA_DATA_DIR=$folder/data
  export HARKARA_LISTEN=127.0.0.1:0 HARKARA_LOG__LEVEL=warn HARKARA_DESTINATIONS__ALLOW_HTTP=true
  export HARKARA_DESTINATIONS__ALLOW_PRIVATE=127.0.0.0/8 HARKARA_DELIVERY__PERMITS_PER_ADDRESS=2000
  export HARKARA_DESTINATIONS__STATIC_NAMES=sink.bench.example=127.0.0.1
  "$server" migrate > "$folder/migrate"
  for node in $(seq "$nodes"); do
    (hold "harkara-node-$node" && exec "$server" serve > "$folder/server-$node" 2>&1) &
    started+=($!)
    address "$folder/server-$node" > "$folder/at-$node"
    "$bench" sink --addr 127.0.0.1:0 > "$folder/sink-$node" 2>&1 &
    started+=($!)
    address "$folder/sink-$node" > "$folder/receiver-$node"
  done
  for node in $(seq "$nodes"); do
    at=$(cat "$folder/at-$node") receiver=$(cat "$folder/receiver-$node")
    "$bench" load --adapter events --merchant "merchant-$node" --count "$count" --body-size 2048 \
      --server "http://$at" --data-dir "$folder/data" --sink-url "http://$receiver" --timeout-s 60 \
      --endpoint-url "http://sink.bench.example:${receiver##*:}/hook" > "$folder/out-$node" &
    loads+=($!)
  done
  wait "${loads[@]}"
  for node in $(seq "$nodes"); do
    grep -E '"(delivered_per_s|machine_busy)"' "$folder/out-$node" | tr -d ' \n'
    echo
  done
  kill "${started[@]}"
  wait "${started[@]}" || true
  started=()
  psql -q "$database" -c "set client_min_messages = error; drop schema $schema cascade"
  rm -rf "$folder"
}

echo "one node at $percent % of a core"
measure 1
echo "$nodes nodes at $percent % of a core each"
measure "$nodes"
