#!/usr/bin/env bash
# Several processes on this machine as one run: launch/local.sh PROCESSES FILE [--set FIELD=VALUE ...]
# Each has its own share of the devices: on CPU, DEVICES (default 4) virtual ones. Ctrl-C stops all of
# them with a checkpoint; the same command goes on from there.
set -euo pipefail
processes=$1
shift
port=${PORT:-12357}
export XLA_FLAGS="${XLA_FLAGS:-} --xla_force_host_platform_device_count=${DEVICES:-4}"
for ((i = 0; i < processes; i++)); do
  icl train --distributed --coordinator="127.0.0.1:$port" --num_processes="$processes" --process_id="$i" "$@" &
done
trap 'kill -INT $(jobs -p)' INT TERM
status=0
for job in $(jobs -p); do wait "$job" || status=$?; done
exit "$status"
