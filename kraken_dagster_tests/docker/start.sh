#!/usr/bin/env bash
# An engine of Docker of the tests' own, for machines without one: no init system, no image registry.
# As root, on Debian. Prints what a shell takes by eval: DOCKER_HOST, and BASE_IMAGE, Debian with Python.
# Its end: kill "$(cat "$KRAKEN_DOCKER/dockerd.pid")".
set -euo pipefail
folder=${KRAKEN_DOCKER:-/var/tmp/kraken-docker}
base=kraken-base:bookworm
export DOCKER_HOST=unix://$folder/docker.sock

packages=()
command -v dockerd >/dev/null || packages+=(docker.io iptables)
command -v debootstrap >/dev/null || packages+=(debootstrap)
if ((${#packages[@]})); then
  apt-get update -qq >&2
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >&2
fi

answers() { docker version >/dev/null 2>&1; }
engine() { # with these options; fails if it ends before it answers
  setsid dockerd --data-root "$folder/data" --exec-root "$folder/exec" \
    --pidfile "$folder/dockerd.pid" -H "$DOCKER_HOST" --log-level warn "$@" \
    >>"$folder/dockerd.log" 2>&1 </dev/null &
  local pid=$!
  until answers; do
    kill -0 "$pid" 2>/dev/null || return 1
    sleep 0.5
  done
}
mkdir -p "$folder"
# With the kernel's netfilter if it has one; containers with networks of their own need it.
answers || engine || engine --iptables=false --ip6tables=false || {
  tail -n 20 "$folder/dockerd.log" >&2
  exit 1
}

if ! docker image inspect "$base" >/dev/null 2>&1; then
  tree=$folder/base
  rm -rf "$tree"
  debootstrap --variant=minbase --include=python3-venv,ca-certificates bookworm "$tree" \
    >"$folder/debootstrap.log" 2>&1
  rm -rf "$tree"/var/cache/apt/* "$tree"/var/lib/apt/lists/* "$tree"/usr/share/{doc,man,locale}/*
  tar -C "$tree" --one-file-system -c . | docker import -c 'CMD ["python3"]' - "$base" >&2
  rm -rf "$tree"
fi
echo "export DOCKER_HOST=$DOCKER_HOST BASE_IMAGE=$base"
