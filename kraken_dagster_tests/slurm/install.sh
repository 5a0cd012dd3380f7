#!/usr/bin/env bash
# Installs what the Slurm test cluster needs: Debian packages. Does nothing when all are there.
#
#   install.sh             installs what is missing; root, or sudo
#   install.sh --missing   only prints the packages that are missing, one per line
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

missing=()
want() { # want PROGRAM PACKAGE
  command -v "$1" >/dev/null || missing+=("$2")
}
want slurmctld slurmctld
want slurmd slurmd
want sbatch slurm-client
want slurmdbd slurmdbd
want munged munge
want sshd openssh-server
want ssh openssh-client
want mariadbd mariadb-server-core
want mariadb mariadb-client-core
want runuser util-linux
want useradd passwd

if [[ ${1:-} == --missing ]]; then
  ((${#missing[@]} == 0)) || printf '%s\n' "${missing[@]}"
  exit 0
fi
((${#missing[@]})) || exit 0

command -v apt-get >/dev/null || {
  echo "install.sh: not a Debian, so install these yourself: ${missing[*]}" >&2
  exit 1
}
sudo=()
((EUID == 0)) || sudo=(sudo)

# Without it the packages start daemons of their own, on the ports and with the files of a
# machine's real ones.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
  trap '"${sudo[@]}" rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee "$policy" >/dev/null
  "${sudo[@]}" chmod 755 "$policy"
fi

apt=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -y -qq
  -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 -o Dpkg::Options::=--force-confold)
"${apt[@]}" update
"${apt[@]}" install --no-install-recommends "${missing[@]}"
