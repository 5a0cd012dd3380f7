"""The verified copy between two disks of 100 MB/s each way, against the bare transfer time.

    limited_disks.py [MEGABYTES] [ROUNDS] [MEGABYTES_PER_SECOND]      as root

Source and store are ext4 on loop devices, which the kernel's block throttling (cgroup version 1)
holds to so many bytes a second for reading, and as many for writing. The bare transfer time is the
size by that speed. `cp` and `sync` are what they are on the same disks: nothing of theirs is read
back. `cp`, `sync` and `md5sum` of the copy read it back, as ours does.
"""

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from verified_copy import MB, by_cp, drop, ours, write

THROTTLE = Path("/sys/fs/cgroup/blkio")


def main() -> None:
    given = [int(argument) for argument in sys.argv[1:]]
    megabytes, rounds, speed = [*given, *(2048, 3, 100)[len(given) :]]
    if os.geteuid() != 0 or not (THROTTLE / "blkio.throttle.read_bps_device").exists():
        raise SystemExit("needs root, and block throttling of cgroup version 1")
    load = os.getloadavg()[0]
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix="benchmark-") as name:
        room = megabytes * 5 // 4 + 64
        with (
            disk(Path(name) / "instrument", room, speed) as instrument,
            disk(Path(name) / "store", room, speed) as store,
        ):
            write(instrument / "raw" / "sample.raw", megabytes * MB)
            for _ in range(rounds):
                for what, way in {"ours": ours, "cp": cp, "cp and md5sum": by_cp}.items():
                    times.setdefault(what, []).append(timed(way, instrument / "raw", store))
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Linux {platform.release()}")
    print(f"Load {load:.0f} before and {os.getloadavg()[0]:.0f} after\n")
    bare = megabytes / speed
    print(f"{megabytes} MB at {speed} MB/s: {bare:.1f} s\n")
    print("| copy | s, median (least to most) | ratio to the bare transfer |\n|---|---|---|")
    for what, seconds in times.items():
        middle = statistics.median(seconds)
        spread = f"{middle:.1f} ({min(seconds):.1f} to {max(seconds):.1f})"
        print(f"| {what} | {spread} | {middle / bare:.2f} |")


def cp(source: Path, target: Path) -> None:
    (name,) = os.listdir(source)
    subprocess.run(["cp", source / name, target / name], check=True)
    subprocess.run(["sync", target / name], check=True)


def timed(way: Callable[[Path, Path], object], source: Path, store: Path) -> float:
    target = store / "copy"
    target.mkdir()
    drop(source)
    started = time.perf_counter()
    way(source, target)
    seconds = time.perf_counter() - started
    subprocess.run(["rm", "-r", target], check=True)
    return seconds


@contextmanager
def disk(folder: Path, megabytes: int, speed: int) -> Iterator[Path]:
    """A disk of its own, limited once it is made."""
    folder.mkdir()
    image = folder.with_suffix(".image")
    subprocess.run(["fallocate", "-l", str(megabytes * MB), image], check=True)
    format_ = ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image]
    subprocess.run(format_, check=True)
    attach = ["losetup", "--find", "--show", "--direct-io=on", image]
    device = subprocess.run(attach, check=True, capture_output=True, text=True).stdout.strip()
    number = os.stat(device).st_rdev
    try:
        subprocess.run(["mount", device, folder], check=True)
        try:
            limit(number, speed * MB)
            yield folder
        finally:
            limit(number, 0)
            subprocess.run(["umount", folder], check=True)
    finally:
        subprocess.run(["losetup", "-d", device], check=True)
        image.unlink()


def limit(number: int, bytes_per_s: int) -> None:
    """Of a device, each way; 0: no limit."""
    for way in ("read", "write"):
        rule = f"{os.major(number)}:{os.minor(number)} {bytes_per_s}"
        (THROTTLE / f"blkio.throttle.{way}_bps_device").write_text(rule)


if __name__ == "__main__":
    main()
