"""The verified copy against what an administrator would type: cp, then md5sum of both sides.

Alternates the two, and prints the ratio of their times pair by pair. Both end with two digests that
were read from the disks; ours reads the source once in place of twice.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kraken_dagster.backup.copier import CopyPlan, copy_members

ROUNDS = 5


def ours(source: Path, target: Path) -> None:
    plan = CopyPlan(
        source_folder=source.parent,
        target_folder=target,
        members={source.name: source.name},
        target_top=source.name,
        is_folder=False,
    )
    copy_members(plan, list_members=lambda: [source.name], still_ours=lambda: True)


def by_hand(source: Path, target: Path) -> None:
    target.mkdir()
    copy = target / source.name
    subprocess.run(["cp", source, copy], check=True)
    subprocess.run(["sync", copy], check=True)
    for path in (source, copy):
        drop_cached = ["dd", f"if={path}", "iflag=nocache", "count=0", "status=none"]
        subprocess.run(drop_cached, check=True)
        subprocess.run(["md5sum", path], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 256
    ratios = []
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        source = folder / "sample.raw"
        with source.open("wb") as file, Path("/dev/urandom").open("rb") as random:
            for _ in range(megabytes):
                file.write(random.read(1_000_000))
        for number in range(ROUNDS):
            times = []
            for function in (ours, by_hand):
                started = time.perf_counter()
                function(source, folder / f"{function.__name__}-{number}")
                times.append(time.perf_counter() - started)
            ratios.append(times[0] / times[1])
            print(f"ours {times[0]:.2f} s, by hand {times[1]:.2f} s, ratio {ratios[-1]:.2f}")
    print(f"median ratio {statistics.median(ratios):.2f} over {ROUNDS} pairs, {megabytes} MB")


if __name__ == "__main__":
    main()
