#!/usr/bin/env bash
# Starts a real S3 server for the tests on 127.0.0.1: Ceph's radosgw, over one monitor and one OSD
# that keeps everything in memory. As root; no systemd. All it leaves is in its folder.
#
#   start.sh FOLDER PORT MONITOR_PORT   an empty folder; the OSD takes ports that are free.
#                          Ends once the server answers; user `kraken`, secret `kraken-secret`
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
folder=$(realpath -m "$1") port=$2 monitor=$3
mkdir -p "$folder"/{mon,osd,run}
cluster=$(cat /proc/sys/kernel/random/uuid)

cat >"$folder/ceph.conf" <<CONF
[global]
fsid = $cluster
mon_host = [v2:127.0.0.1:$monitor]
mon_initial_members = a
mon_data = $folder/mon
public_network = 127.0.0.0/8
ms_bind_ipv6 = false
keyring = $folder/keyring
run_dir = $folder/run
pid_file = $folder/run/\$name.pid
admin_socket = $folder/run/\$name.asok
log_file = $folder/\$name.log
# One disk is all there is, and nothing waits for a second copy.
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pgp_num = 1
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
mon_max_pg_per_osd = 1000
osd_data = $folder/osd
osd_objectstore = memstore
memstore_device_bytes = 4294967296
[client.rgw.a]
rgw_frontends = beast endpoint=127.0.0.1:$port
rgw_enable_usage_log = false
rgw_crypt_require_ssl = false
rgw_thread_pool_size = 32
# A key service whose keys are written here: one, of the id laboratory.
rgw_crypt_s3_kms_backend = testing
rgw_crypt_s3_kms_encryption_keys = laboratory=bGFib3JhdG9yeS1rZXktb2YtMzItYnl0ZXMtLi4uLi4=
CONF
export CEPH_ARGS="--conf $folder/ceph.conf"

key() { ceph-authtool "$folder/keyring" --gen-key "$@" >/dev/null; }
key --create-keyring -n mon. --cap mon 'allow *'
key -n client.admin --cap mon 'allow *' --cap osd 'allow *'
key -n client.rgw.a --cap mon 'allow rw' --cap osd 'allow rwx'
monmaptool --create --fsid "$cluster" --addv a "[v2:127.0.0.1:$monitor]" "$folder/monmap" >/dev/null
ceph-mon --mkfs -i a --monmap "$folder/monmap" --keyring "$folder/keyring"
ceph-mon -i a

disk=$(cat /proc/sys/kernel/random/uuid)
ceph osd new "$disk" >/dev/null 2>&1
ceph auth get-or-create osd.0 mon 'allow profile osd' osd 'allow *' -o "$folder/osd/keyring"
ceph-osd -i 0 --mkfs --osd-uuid "$disk" --keyring "$folder/osd/keyring" >/dev/null 2>&1
ceph osd crush add osd.0 1 root=default host=here >/dev/null 2>&1
ceph-osd -i 0 --keyring "$folder/osd/keyring" >/dev/null

radosgw -n client.rgw.a
radosgw-admin user create --uid kraken --display-name Kraken \
  --access-key kraken --secret-key kraken-secret >/dev/null
for _ in $(seq 600); do
  curl -s -o /dev/null "http://127.0.0.1:$port/" && exit 0
  sleep 0.1
done
echo "no answer on port $port; see the logs in $folder" >&2
exit 1
