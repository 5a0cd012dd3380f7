#!/usr/bin/env bash
# Starts a real Slurm cluster of one node for the tests, on 127.0.0.1: munged, MariaDB, slurmdbd,
# slurmctld, slurmd, and the sshd that one logs in by. As root; no systemd. It brings everything
# of its own (keys, configuration, state, ports) and neither reads nor changes /etc/slurm or
# /etc/munge: a machine's own Slurm is none of its business. All it leaves outside of its folder
# are two login users.
#
# Starts what doesn't run, so calling it again is how to mend a cluster. It prints KEY=VALUE lines
# and leaves them in $KRAKEN_SLURM_BASE/env.
#
#   start.sh             everything
#   start.sh PART...     only these: munge database accounting controller node ssh
#
# Settings, all optional:
#   KRAKEN_SLURM_BASE=/var/tmp/kraken-slurm   the folder. Not below a folder that is closed to
#                           the login users
#   KRAKEN_SLURM_PORT=2222  sshd's; the daemons have the five after it
#   KRAKEN_SLURM_USER=kraken, KRAKEN_SLURM_OTHER_USER=kraken-other   the login users, made if need
#                           be; the key of both is the same
#   KRAKEN_SLURM_ACCOUNTING=1   0: without MariaDB and slurmdbd, so that there is no sacct
#   KRAKEN_SLURM_CGROUP=    1 or 0: whether memory is limited by cgroups of version 1, which
#                           OUT_OF_MEMORY takes. Found out if not given
#   KRAKEN_SLURM_CPUS=64, KRAKEN_SLURM_MEMORY_MB=16000   of the node; may exceed the machine's
#   KRAKEN_SLURM_MIN_JOB_AGE=300   for how many seconds the controller knows a job that has ended
#
# Partitions: debug (the default), short (two minutes at most), and low, whose jobs are preempted
# by those of high.
set -euo pipefail
umask 022
PATH=$PATH:/usr/sbin:/sbin
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd /

BASE=${KRAKEN_SLURM_BASE:-/var/tmp/kraken-slurm}
PORT=${KRAKEN_SLURM_PORT:-2222}
LOGIN=${KRAKEN_SLURM_USER:-kraken}
OTHER=${KRAKEN_SLURM_OTHER_USER:-kraken-other}
ACCOUNTING=${KRAKEN_SLURM_ACCOUNTING:-1}
CGROUP=${KRAKEN_SLURM_CGROUP:-}
CPUS=${KRAKEN_SLURM_CPUS:-64}
MEMORY_MB=${KRAKEN_SLURM_MEMORY_MB:-16000}
MIN_JOB_AGE=${KRAKEN_SLURM_MIN_JOB_AGE:-300}

# Below the kernel's range of ephemeral ports, or some client's socket holds one now and then.
CONTROLLER_PORT=$((PORT + 1))
NODE_PORT=$((PORT + 2))
ACCOUNTING_PORT=$((PORT + 3))
DATABASE_PORT=$((PORT + 4))
NODE=node$PORT # cgroups are named after it, so two clusters on a machine need two names
PATIENCE_S=120

RUN=$BASE/run
LOG=$BASE/log
SSH=$BASE/ssh
SQL=$BASE/mysql
unset "${!SLURM_@}" # of a job that this may run in
export SLURM_CONF=$BASE/etc/slurm.conf

# ---------------------------------------------------------------- helpers
die() {
  echo "start.sh: $*" >&2
  local log
  for log in "$LOG"/*; do
    [[ -s $log ]] || continue
    echo "--- the end of $log" >&2
    grep -v ' received opcode ' "$log" | tail -n 15 >&2 || true
  done
  exit 1
}

alive() { # alive NAME [PID]: whether the daemon of that pid file runs; zombies don't
  local pid=${2:-}
  [[ -n $pid ]] || read -r pid 2>/dev/null <"$RUN/$1.pid" || return 1
  [[ $(cat "/proc/$pid/comm" 2>/dev/null) == "$1" ]] || return 1
  [[ $(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null) != [ZX]* ]]
}

stop() { # stop NAME
  alive "$1" || return 0
  local pid # the file goes before the daemon does
  pid=$(<"$RUN/$1.pid")
  kill -CONT "$pid"
  kill "$pid"
  wait_until "$1 to stop" not_alive "$1" "$pid"
}
not_alive() { ! alive "$@"; }

wait_until() { # wait_until WHAT COMMAND...
  local what=$1 end=$((SECONDS + PATIENCE_S))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || die "waited ${PATIENCE_S} s in vain for $what"
    sleep 0.05
  done
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# A daemon must hold neither the lock, nor the pipes of who reads the output of this script.
launch() { # launch NAME PORT COMMAND...
  local name=$1 port=$2
  shift 2
  rm -f "$RUN/$name.pid"
  ! listens "$port" ||
    die "port $port is not free for $name: give another KRAKEN_SLURM_PORT than $PORT"
  "$@" </dev/null >>"$LOG/$name.out" 2>&1 9>&- || die "$name did not start"
  # Most say that they have started, and only then find out why they can't.
  wait_until "$name to listen" listens "$port"
  wait_until "$name to run" alive "$name"
}

write() { # write FILE MODE OWNER: stdin, if it says something new; else returns 1
  local new
  new=$(mktemp "$BASE/new.XXXXXX")
  cat >"$new"
  if cmp -s "$new" "$1"; then
    rm "$new"
    return 1
  fi
  chown "$3" "$new"
  chmod "$2" "$new"
  mv "$new" "$1"
}

# ---------------------------------------------------------------- what has to be there
((EUID == 0)) || die "must run as root: slurmd, sshd and useradd need that"
missing=$(bash "$HERE/install.sh" --missing | tr '\n' ' ')
[[ -z $missing ]] || die "not installed: ${missing}- run $HERE/install.sh"

mkdir -p "$BASE"
exec 9>"$BASE/.lock"
flock -w 300 9 || die "another start.sh or stop.sh is at work in $BASE"

for user in "$LOGIN" "$OTHER"; do
  id "$user" >/dev/null 2>&1 || useradd --create-home --shell /bin/bash "$user"
  # What useradd leaves as a password, `!`, is a locked account to sshd without PAM.
  [[ $(getent shadow "$user" | cut -d: -f2) != '!'* ]] || usermod --password '*' "$user"
done

mkdir -p "$BASE"/{etc,run,log,ssh,munge,controller,node,work}
chown slurm:slurm "$RUN" "$LOG" "$BASE/controller"
chown munge:munge "$BASE/munge"
chmod 755 "$BASE" "$BASE"/{etc,run,log,ssh,munge,controller,node,work}

if [[ -z $CGROUP ]]; then
  CGROUP=0
  memory=/sys/fs/cgroup/memory/kraken-probe-$$
  freezer=/sys/fs/cgroup/freezer/kraken-probe-$$
  if mkdir "$memory" 2>/dev/null; then
    if [[ -e $memory/memory.limit_in_bytes ]] && mkdir "$freezer" 2>/dev/null; then
      CGROUP=1
      rmdir "$freezer"
    fi
    rmdir "$memory"
  fi
fi

# ---------------------------------------------------------------- munge
start_munge() {
  if [[ ! -s $BASE/munge/key ]]; then
    dd if=/dev/urandom bs=1024 count=1 status=none | write "$BASE/munge/key" 600 munge:munge
  fi
  if ! alive munged; then
    install -d -o munge -g munge -m 755 "$RUN/munge"
    runuser -u munge -- munged --force --num-threads=10 --origin=127.0.0.1 \
      --socket="$RUN/munge/socket" --key-file="$BASE/munge/key" \
      --pid-file="$RUN/munge/pid" --log-file="$BASE/munge/log" --seed-file="$BASE/munge/seed" \
      </dev/null >>"$LOG/munged.out" 2>&1 9>&- || die "munged did not start"
    ln -sf munge/pid "$RUN/munged.pid"
    wait_until "munged to run" alive munged
  fi
  wait_until munged bash -c "munge -S '$RUN/munge/socket' -n | unmunge -S '$RUN/munge/socket'"
}

# ---------------------------------------------------------------- accounting
in_background() { setsid "$@" & }
query() { mariadb --no-defaults -h127.0.0.1 -P"$DATABASE_PORT" -uslurm -pslurm -e 'select 1'; }

start_database() {
  ((ACCOUNTING)) || return 0
  if ! alive mariadbd; then
    # A folder that an interrupted installation has left is none.
    if [[ ! -e $SQL/.complete ]]; then
      rm -rf "$SQL"
      install -d -o slurm -g slurm -m 750 "$SQL"
      # --force: the machine's own name may be one that nothing resolves.
      mariadb-install-db --no-defaults --force --user=slurm --datadir="$SQL" --skip-test-db \
        --skip-name-resolve >"$LOG/mariadb-install-db.out" 2>&1 9>&- || die "mariadb-install-db"
      touch "$SQL/.complete"
    fi
    write "$BASE/etc/init.sql" 644 root:root <<SQL || true
CREATE DATABASE IF NOT EXISTS slurm_acct_db;
CREATE USER IF NOT EXISTS 'slurm'@'127.0.0.1' IDENTIFIED BY 'slurm';
GRANT ALL ON slurm_acct_db.* TO 'slurm'@'127.0.0.1';
SQL
    stop slurmdbd # or it goes on with what it knew of the tables
    launch mariadbd "$DATABASE_PORT" in_background mariadbd --no-defaults --user=slurm \
      --datadir="$SQL" --socket="$SQL/socket" --pid-file="$RUN/mariadbd.pid" \
      --bind-address=127.0.0.1 --port="$DATABASE_PORT" --init-file="$BASE/etc/init.sql" \
      --skip-name-resolve --skip-log-bin --innodb-buffer-pool-size=128M \
      --innodb-log-file-size=32M --innodb-lock-wait-timeout=900 --innodb-flush-log-at-trx-commit=0
  fi
  wait_until mariadbd query
}

start_accounting() {
  ((ACCOUNTING)) || return 0
  # slurmdbd refuses a file that others may read, or that is not its user's.
  if write "$BASE/etc/slurmdbd.conf" 600 slurm:slurm <<CONF; then
AuthType=auth/munge
AuthInfo=socket=$RUN/munge/socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$ACCOUNTING_PORT
SlurmUser=slurm
LogFile=$LOG/slurmdbd.log
PidFile=$RUN/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$DATABASE_PORT
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
CONF
    stop slurmdbd
  fi
  alive slurmdbd || launch slurmdbd "$ACCOUNTING_PORT" slurmdbd
  wait_until slurmdbd sacctmgr -n list cluster
}

# ---------------------------------------------------------------- controller and node
configure() {
  local changed=0
  {
    cat <<CONF
ClusterName=kraken
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=$CONTROLLER_PORT
SlurmdPort=$NODE_PORT
AuthType=auth/munge
AuthInfo=socket=$RUN/munge/socket
SlurmUser=slurm
StateSaveLocation=$BASE/controller
SlurmdSpoolDir=$BASE/node
SlurmctldPidFile=$RUN/slurmctld.pid
SlurmdPidFile=$RUN/slurmd.pid
SlurmctldLogFile=$LOG/slurmctld.log
SlurmdLogFile=$LOG/slurmd.log
DebugFlags=Protocol
MailProg=/bin/true
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
MinJobAge=$MIN_JOB_AGE
MaxJobCount=10000
MaxArraySize=10001
KillWait=2
ReturnToService=2
SlurmdTimeout=300
MessageTimeout=10
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,default_queue_depth=1000
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
SlurmdParameters=config_overrides
NodeName=$NODE NodeHostname=localhost NodeAddr=127.0.0.1 CPUs=$CPUS RealMemory=$MEMORY_MB
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=60 PreemptMode=OFF
PartitionName=short Nodes=ALL MaxTime=2 PreemptMode=OFF
PartitionName=low Nodes=ALL DefaultTime=60 PriorityTier=1
PartitionName=high Nodes=ALL DefaultTime=60 PriorityTier=10 PreemptMode=OFF
CONF
    if ((CGROUP)); then
      printf '%s\n' ProctrackType=proctrack/cgroup TaskPlugin=task/cgroup
    else
      printf '%s\n' ProctrackType=proctrack/linuxproc TaskPlugin=task/none \
        JobAcctGatherParams=OverMemoryKill
    fi
    if ((ACCOUNTING)); then
      printf '%s\n' AccountingStorageType=accounting_storage/slurmdbd \
        AccountingStorageHost=127.0.0.1 "AccountingStoragePort=$ACCOUNTING_PORT" \
        "AccountingStoragePass=$RUN/munge/socket"
    else
      printf '%s\n' AccountingStorageType=accounting_storage/none
    fi
  } | write "$SLURM_CONF" 644 root:root && changed=1
  write "$BASE/etc/cgroup.conf" 644 root:root <<CONF && changed=1
CgroupMountpoint=/sys/fs/cgroup
CgroupPlugin=cgroup/v1
ConstrainRAMSpace=yes
ConstrainSwapSpace=yes
AllowedSwapSpace=0
MinRAMSpace=10
CONF
  ((changed)) || return 0
  stop slurmd
  stop slurmctld
}

start_controller() {
  alive slurmctld || launch slurmctld "$CONTROLLER_PORT" slurmctld
  wait_until slurmctld bash -c 'scontrol ping | grep "is UP"'
}

node_serves() {
  # Not by sinfo: that may call a node mixed for good whose last job has just ended.
  case $(scontrol -o show node "$NODE" | sed 's/.* State=//; s/ .*//') in
    *NOT_RESPONDING* | *'*'*) return 1 ;;
    DOWN* | *DRAIN* | *FAIL*) scontrol update NodeName="$NODE" State=RESUME && return 1 ;;
    IDLE* | MIXED* | ALLOCATED*) ;;
    *) return 1 ;;
  esac
}

start_node() {
  alive slurmd || launch slurmd "$NODE_PORT" slurmd -N "$NODE"
  wait_until "the node" node_serves
}

# ---------------------------------------------------------------- ssh
log_in() { # log_in USER COMMAND...
  ssh -F /dev/null -o BatchMode=yes -o IdentitiesOnly=yes -o ConnectTimeout=10 \
    -o StrictHostKeyChecking=yes -o UserKnownHostsFile="$SSH/known_hosts" \
    -i "$SSH/id_ed25519" -p "$PORT" "$1@127.0.0.1" "${@:2}" </dev/null
}

start_ssh() {
  local key
  for key in host_ed25519 id_ed25519; do
    [[ -s $SSH/$key.pub ]] || {
      rm -f "$SSH/$key"
      ssh-keygen -q -t ed25519 -N '' -C "kraken-test-$key" -f "$SSH/$key"
    }
  done
  write "$SSH/authorized_keys" 644 root:root <"$SSH/id_ed25519.pub" || true
  echo "[127.0.0.1]:$PORT $(cut -d' ' -f1,2 "$SSH/host_ed25519.pub")" |
    write "$SSH/known_hosts" 644 root:root || true
  # StrictModes would refuse keys below a folder that all may write to, as /var/tmp.
  if write "$SSH/sshd_config" 644 root:root <<CONF; then
ListenAddress 127.0.0.1:$PORT
HostKey $SSH/host_ed25519
PidFile $RUN/sshd.pid
AllowUsers $LOGIN $OTHER
AuthorizedKeysFile $SSH/authorized_keys
StrictModes no
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
MaxStartups 100
PrintMotd no
SetEnv SLURM_CONF=$SLURM_CONF
Subsystem sftp internal-sftp
LogLevel VERBOSE
CONF
    stop sshd
  fi
  if ! alive sshd; then
    install -d -m 755 /run/sshd # sshd refuses to start without
    launch sshd "$PORT" "$(command -v sshd)" -f "$SSH/sshd_config" -E "$LOG/sshd.log" # by its full path
  fi
  local user
  for user in "$LOGIN" "$OTHER"; do
    wait_until "sshd, as $user" log_in "$user" true
  done
}

# ---------------------------------------------------------------- all of it
if (($#)); then
  for part in "$@"; do
    case $part in
      munge | database | accounting | controller | node | ssh) "start_$part" ;;
      *) die "no such part: $part" ;;
    esac
  done
  exit 0
fi

start_munge
configure # before anything asks a daemon: Slurm's programs wait a minute for their configuration
start_database
start_accounting
start_controller
start_node
start_ssh

write "$BASE/env" 644 root:root <<ENV || true
KRAKEN_SLURM_BASE=$BASE
KRAKEN_SLURM_HOST=127.0.0.1
KRAKEN_SLURM_PORT=$PORT
KRAKEN_SLURM_USER=$LOGIN
KRAKEN_SLURM_OTHER_USER=$OTHER
KRAKEN_SLURM_KEY=$SSH/id_ed25519
KRAKEN_SLURM_KNOWN_HOSTS=$SSH/known_hosts
KRAKEN_SLURM_NODE=$NODE
KRAKEN_SLURM_ACCOUNTING=$ACCOUNTING
KRAKEN_SLURM_CGROUP=$CGROUP
KRAKEN_SLURM_CPUS=$CPUS
KRAKEN_SLURM_MEMORY_MB=$MEMORY_MB
KRAKEN_SLURM_MIN_JOB_AGE=$MIN_JOB_AGE
KRAKEN_SLURM_VERSION=$(sbatch --version | cut -d' ' -f2)
SLURM_CONF=$SLURM_CONF
ENV
cat "$BASE/env"
