#!/usr/bin/env bash
# Stops the daemons that start.sh has started, and the jobs of the cluster. As root.
#
#   KRAKEN_SLURM_BASE=/var/tmp/kraken-slurm   the cluster's folder
#   KRAKEN_SLURM_REMOVE=1                     removes that folder, too
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
cd /

BASE=${KRAKEN_SLURM_BASE:-/var/tmp/kraken-slurm}
RUN=$BASE/run
NODE=$(sed -n 's/^KRAKEN_SLURM_NODE=//p' "$BASE/env" 2>/dev/null || true)
export SLURM_CONF=$BASE/etc/slurm.conf

((EUID == 0)) || {
  echo "stop.sh: must run as root" >&2
  exit 1
}
[[ -d $BASE ]] || exit 0
exec 9>"$BASE/.lock"
flock -w 300 9

alive() { # alive NAME [PID]: whether the daemon of that pid file runs; zombies don't
  local pid=${2:-}
  [[ -n $pid ]] || read -r pid 2>/dev/null <"$RUN/$1.pid" || return 1
  [[ $(cat "/proc/$pid/comm" 2>/dev/null) == "$1" ]] || return 1
  [[ $(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null) != [ZX]* ]]
}

stop() { # stop NAME: by SIGTERM, and by SIGKILL where that is of no use
  local pid
  if alive "$1"; then
    pid=$(<"$RUN/$1.pid")
    kill -CONT "$pid" # one that a test has suspended
    kill "$pid"
    for _ in {1..600}; do
      alive "$1" "$pid" || break # by its pid: the file goes before the daemon does
      sleep 0.05
    done
    if alive "$1" "$pid"; then
      echo "stop.sh: $1 ($pid) does not stop, so it is killed" >&2
      kill -KILL "$pid"
    fi
  fi
  rm -f "$RUN/$1.pid"
}

of_a_job() { # of_a_job PID: by what Slurm puts into the environment of a job and of its keeper
  local facts
  facts=$(tr '\0' '\n' 2>/dev/null <"/proc/$1/environ") || return 1
  grep -qxF "SLURM_CONF=$SLURM_CONF" <<<"$facts" || return 1
  [[ $(cat "/proc/$1/comm" 2>/dev/null) == slurmstepd ]] || grep -q '^SLURM_JOB_ID=' <<<"$facts"
}

cgroups() { # those of the node, the innermost first
  find /sys/fs/cgroup -maxdepth 2 -type d -name "slurm_$NODE" -exec find {} -depth -type d \;
}

# Cancelled first, or the cluster takes its jobs up again when it is started the next time.
if alive slurmctld; then
  kill -CONT "$(<"$RUN/slurmctld.pid")" # in case a test has suspended it
  for _ in {1..50}; do
    jobs=$(timeout 30 squeue -h -o %A | sort -u) || break # it is of no use any more
    [[ -n $jobs ]] || break
    timeout 30 xargs -r scancel <<<"$jobs" || true
    sleep 0.2
  done
fi
stop slurmd # while there is a controller: it goes on telling it of jobs, else
stop slurmctld
for folder in /proc/[0-9]*; do # jobs outlive the node's daemon
  if of_a_job "${folder#/proc/}"; then
    kill -KILL "${folder#/proc/}" 2>/dev/null || true
  fi
done
for daemon in sshd slurmdbd mariadbd munged; do
  stop "$daemon"
done

for _ in {1..100}; do # a killed process leaves its cgroup a moment later
  mapfile -t left < <(cgroups 2>/dev/null)
  ((${#left[@]})) || break
  rmdir "${left[@]}" 2>/dev/null || true
  sleep 0.05
done
if [[ ${KRAKEN_SLURM_REMOVE:-0} == 1 ]]; then
  rm -rf "$BASE"
fi
