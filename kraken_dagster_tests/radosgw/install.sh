#!/usr/bin/env bash
# Installs what the S3 test server needs: Debian packages. Does nothing when all are there.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

missing=()
for program in radosgw:radosgw ceph-mon:ceph-mon ceph-osd:ceph-osd ceph:ceph-common; do
  command -v "${program%%:*}" >/dev/null || missing+=("${program##*:}")
done
((${#missing[@]})) || exit 0
sudo=()
((EUID == 0)) || sudo=(sudo)
"${sudo[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"
