#!/bin/sh
# A real SLURM of one node on 127.0.0.1, without systemd and without accounts: for tests/cluster/test_slurm.py.
#
#   sh cluster.sh start FOLDER    FOLDER/bin then has what belongs first on PATH, FOLDER/etc/slurm.conf in SLURM_CONF
#   sh cluster.sh stop FOLDER     cancels what runs and ends the daemons
#
# FOLDER is short (a socket's path has at most 107 characters) and not on a disk that others may write to. Nothing is
# installed here: where a program is missing, it says which, and ends with 3.
set -eu
action=${1:?start or stop} folder=$(realpath -m "${2:?a folder}")
PATH="$PATH:/usr/sbin:/sbin"
export SLURM_CONF="$folder/etc/slurm.conf"

stop() {
    scancel --user="$(id -un)" 2>/dev/null || true
    for _ in $(seq 20); do
        test -z "$(squeue --noheader 2>/dev/null)" && break
        sleep 0.5
    done
    for daemon in slurmd slurmctld munged; do
        pid=$(cat "$folder/run/$daemon.pid" 2>/dev/null) || continue
        kill "$pid" 2>/dev/null || continue
        while test -s "$folder/run/$daemon.pid" && kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
    done
}

if test "$action" = stop; then
    stop
    exit
fi

missing=
for program in slurmctld slurmd sbatch srun squeue scancel munged; do
    command -v $program >/dev/null || missing="$missing $program"
done
if test -n "$missing"; then
    echo "missing:$missing; on Debian and Ubuntu: apt install slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge"
    exit 3
fi

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

mkdir -p "$folder/bin" "$folder/etc" "$folder/run" "$folder/log" "$folder/state" "$folder/spool"
chmod 755 "$folder" "$folder/etc" "$folder/run"
user=$(id -un) host=$(hostname -s)
(umask 377 && head -c 1024 /dev/urandom >"$folder/etc/munge.key")

# Twice as many CPUs as there are, so that more jobs run at once; the graphics card is a name without a card.
cat >"$SLURM_CONF" <<END
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$folder/run/munge.socket
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=600
SchedulerParameters=sched_interval=5,bf_interval=5
GresTypes=gpu
NodeName=$host NodeAddr=127.0.0.1 CPUs=${CLUSTER_CPUS:-$(($(nproc) * 2))} RealMemory=1000000 Gres=gpu:1 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=30-0 State=UP
END
echo "Name=gpu File=/dev/null" >"$folder/etc/gres.conf"
# a job's own call of srun comes without SLURM_CONF: the executor's plugin leaves it out
printf '#!/bin/sh\nSLURM_CONF=%s exec %s "$@"\n' "$SLURM_CONF" "$(command -v srun)" >"$folder/bin/srun"
chmod 755 "$folder/bin/srun"

trap 'stop' EXIT
munged --socket="$folder/run/munge.socket" --key-file="$folder/etc/munge.key" --pid-file="$folder/run/munged.pid" \
    --log-file="$folder/log/munged.log" --seed-file="$folder/run/munged.seed"
slurmctld -c
slurmd
for _ in $(seq 60); do
    if test "$(sinfo --noheader --format=%T 2>/dev/null)" = idle; then
        trap - EXIT
        exit 0
    fi
    sleep 0.5
done
echo "the cluster did not start; the ends of its logs:"
tail -n 5 "$folder"/log/*.log
exit 1
