#!/bin/sh
# Renews the digest of the base image in base.image: pin.sh [NAME:TAG]. Needs docker with buildx, and the registry.
set -eu
file=$(dirname "$0")/base.image
name=${1:-$(sed 's/@.*//' "$file")}
digest=$(docker buildx imagetools inspect "$name" --format '{{.Manifest.Digest}}')
case $digest in
  sha256:*) echo "$name@$digest" >"$file" && cat "$file" ;;
  *) echo "no digest of $name: $digest" >&2 && exit 1 ;;
esac
