"""An upload to an S3 server against `rclone copy --checksum` and `minio`: CPU and memory.

    offsite.py ENDPOINT BUCKET [MEGABYTES]

The bucket must keep versions; credentials come from the environment. Each is a process of its own,
one after the other, with parts of 64 MiB, two on their way at once. CPU is user and system time of
that process, memory its largest resident set: it is a fork, so at least this program's own. The
minio client is Python's, which compares nothing of the source with a record; `rclone --checksum`
reads the source twice. Which of them isn't installed is left out: PYTHONPATH may name a folder with
`minio`, PATH one with `rclone`.
"""

import importlib.util
import os
import platform
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from kraken_dagster.config.offsite import Offsite
from kraken_dagster.fs.digests import digest
from kraken_dagster.fs.rate_limit import RateLimit
from kraken_dagster.fs.stores.backup_reader import Backup
from kraken_dagster.model.raw_file import FileFact
from kraken_dagster.offsite.client import connect
from kraken_dagster.offsite.member import upload_member
from kraken_dagster.offsite.places import Place
from kraken_dagster.offsite.transfer import Transfer

MB, MIB = 1_000_000, 1024 * 1024
PART = 64 * MIB
NAME = "sample.raw"


def main() -> None:
    endpoint, bucket = sys.argv[1:3]
    megabytes = int(sys.argv[3]) if len(sys.argv) > 3 else 10_000
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix="benchmark-") as name:
        source = write(Path(name) / NAME, megabytes * MB)
        recorded = digest(source)  # and all find it in the cache, as far as it fits
        rows = [measured(way, source, recorded, endpoint, bucket) for way in ways()]
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Linux {platform.release()}")
    print(f"{megabytes} MB; load {load:.0f} before and {os.getloadavg()[0]:.0f} after\n")
    print("| upload | CPU, s | memory, MB | wall, s | CPU, ratio to ours |\n|---|---|---|---|---|")
    for way, cpu, memory, wall in rows:
        print(f"| {way} | {cpu:.1f} | {memory:.0f} | {wall:.0f} | {cpu / rows[0][1]:.2f} |")


def ways() -> list[str]:
    found = ["kraken"]
    if shutil.which("rclone"):
        found.append("rclone copy --checksum")
    if importlib.util.find_spec("minio"):
        found.append("minio")
    return found


def write(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        while size > 0:
            size -= file.write(os.urandom(min(size, 8 * MB)))
        os.fsync(file.fileno())
    return path


def measured(
    way: str, source: Path, recorded: FileFact, endpoint: str, bucket: str
) -> tuple[str, float, float, float]:
    """CPU in s, memory in MB and wall time in s of a process that uploads."""
    key, started = f"{secrets.token_hex(4)}/", time.perf_counter()
    if (pid := os.fork()) == 0:
        UPLOADS[way](source, recorded, endpoint, bucket, key)
        os._exit(0)
    _, status, used = os.wait4(pid, 0)
    assert status == 0, way
    wall = time.perf_counter() - started
    return way, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, wall


def by_kraken(source: Path, recorded: FileFact, endpoint: str, bucket: str, key: str) -> None:
    """As an upload does it, with the recorded MD5 known from the backup."""
    config = Offsite.model_validate({"endpoint": endpoint, "bucket": bucket, "part_mb": 64})
    transfer = Transfer(
        connect(config), config, Place(bucket, key), RateLimit(), lambda: datetime.now(UTC)
    )
    with Backup.open(source.parent) as backup:
        upload_member(transfer, backup, NAME, recorded)


def by_rclone(source: Path, _: FileFact, endpoint: str, bucket: str, key: str) -> None:
    remote = f":s3,provider=Ceph,env_auth=true,endpoint='{endpoint}':{bucket}/{key}"
    options = ["--checksum", "--s3-chunk-size=64M", "--s3-upload-concurrency=2"]
    rclone = shutil.which("rclone")
    assert rclone is not None
    os.execv(rclone, ["rclone", "copy", *options, str(source), remote])


def by_minio(source: Path, _: FileFact, endpoint: str, bucket: str, key: str) -> None:
    from minio import Minio

    client = Minio(
        urlsplit(endpoint).netloc,
        access_key=os.environ["AWS_ACCESS_KEY_ID"],
        secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        secure=endpoint.startswith("https"),
    )
    client.fput_object(bucket, key + NAME, str(source), part_size=PART, num_parallel_uploads=2)


UPLOADS: dict[str, Callable[[Path, FileFact, str, str, str], None]] = {
    "kraken": by_kraken,
    "rclone copy --checksum": by_rclone,
    "minio": by_minio,
}

if __name__ == "__main__":
    main()
