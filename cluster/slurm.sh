#!/usr/bin/env bash
# A Ray cluster inside one Slurm job: a head on the first node, workers on all, one command on the head.
#   sbatch cluster/slurm.sh python -m raydistill.tune tune_configs/quickstart.yaml --output /shared/folder/quickstart
# Submit from the repository, where .venv lies on storage that all nodes see; so must --output. The job ends as the
# command does. Taken away by the time limit, it is submitted again with the same line and goes on.
#SBATCH --job-name=raydistill
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --output=raydistill-%j.log
set -euo pipefail

if [[ $# -eq 0 ]]; then
    echo "slurm.sh: must be given a command, got none; see the example at its top" >&2
    exit 2
fi
# shellcheck source=/dev/null
. "${RAYDISTILL_VENV:-.venv}/bin/activate"

export RAY_AUTH_MODE=token  # others on these nodes could run code here without it
export RAY_USAGE_STATS_ENABLED=0
export RAY_TMPDIR="/tmp/ray-$SLURM_JOB_ID"  # /tmp/ray may be another user's
umask 077
ray get-auth-token --generate > /dev/null  # in the home directory, which the nodes share; kept if there is one

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
on_head=(srun --overlap --nodes=1 --ntasks=1 --nodelist="${nodes[0]}")
read -r address _ < <("${on_head[@]}" hostname --ip-address)
head="$address:$((20000 + SLURM_JOB_ID % 10000))"  # two jobs of one node do not meet
export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"  # srun does not take it over from sbatch
start=(ray start --block --disable-usage-stats --num-cpus="$SRUN_CPUS_PER_TASK")

"${on_head[@]}" "${start[@]}" --head --node-ip-address="$address" --port="${head#*:}" --dashboard-host=127.0.0.1 &
trap 'kill $(jobs -p) 2> /dev/null || true; wait' EXIT
for ((seconds = 0; ; seconds++)); do
    ray health-check --address "$head" > /dev/null 2>&1 && break
    if ((seconds >= ${RAYDISTILL_HEAD_SECONDS:-120})); then
        echo "slurm.sh: the head at $head must answer within $seconds tries, got none; see the lines above" >&2
        exit 1
    fi
    sleep 1
done
for node in "${nodes[@]:1}"; do
    srun --overlap --nodes=1 --ntasks=1 --nodelist="$node" "${start[@]}" --address="$head" &
done

RAY_ADDRESS="$head" "${on_head[@]}" "$@"  # it waits for the nodes that it needs: scaling.wait_seconds
