#!/bin/bash
# One search on the nodes of a Slurm allocation:
#
#   sbatch --export=ALL,LDNN_OUT=/shared/runs slurm.sh mnist1d-compare --set search.trials=64
#
# LDNN_OUT is a folder that all nodes see.  What follows the script's name is passed on to `ldnn search`.  Two minutes
# before the time limit the search is asked to stop; the same command goes on with the run.
#SBATCH --job-name=ldnn
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=B:TERM@120
set -euo pipefail

: "${1:?which recipe? sbatch --export=ALL,LDNN_OUT=FOLDER slurm.sh RECIPE}"
: "${LDNN_OUT:?must name a folder that all nodes see: sbatch --export=ALL,LDNN_OUT=FOLDER slurm.sh RECIPE}"
mkdir -p "$LDNN_OUT"
export RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=token
RAY_AUTH_TOKEN_PATH=$(mktemp "$LDNN_OUT/.ray-token-XXXXXXXX")  # mode 0600
export RAY_AUTH_TOKEN_PATH
python3 -c 'import secrets; print(secrets.token_hex(32), end="")' > "$RAY_AUTH_TOKEN_PATH"

steps=()
session=/tmp/ldnn-ray-$SLURM_JOB_ID  # on every node; its own, as others may have a Ray there; short, for sockets in it
clean_up() {
  kill "${steps[@]}" 2> /dev/null || true
  wait || true
  rm -rf "$RAY_AUTH_TOKEN_PATH" "$session"
}
trap clean_up EXIT

cpus=${SLURM_CPUS_PER_TASK:-1}
nodes=${SLURM_JOB_NUM_NODES:-1}
port=${LDNN_PORT:-$((20000 + SLURM_JOB_ID % 10000))}
hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${hosts%%$'\n'*}

srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" \
  ray start --head --block --port="$port" --num-cpus="$cpus" --temp-dir="$session" \
  --include-dashboard=false --disable-usage-stats &
steps+=($!)

answers() { (exec 3<> "/dev/tcp/$head/$port") 2> /dev/null; }
for _ in {1..120}; do
  if answers; then break; fi
  sleep 0.5
done
answers || { echo "the head does not answer at $head:$port; choose another LDNN_PORT" >&2; exit 1; }

if ((nodes > 1)); then
  srun --overlap --nodes=$((nodes - 1)) --ntasks=$((nodes - 1)) --exclude="$head" \
    ray start --address="$head:$port" --block --num-cpus="$cpus" --temp-dir="$session" &
  steps+=($!)
fi

# This script runs on the first node, so the driver is on a node of the cluster.
ldnn search "$@" --resume --address "$head:$port" --workers "${LDNN_WORKERS:-$((nodes * cpus))}" --out "$LDNN_OUT" &
search=$!
trap 'kill -TERM "$search" 2> /dev/null || true' TERM INT
code=0
wait "$search" || code=$?
while kill -0 "$search" 2> /dev/null; do  # a signal ends `wait` before the search has ended
  code=0
  wait "$search" || code=$?
done
exit "$code"
