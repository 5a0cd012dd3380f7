"""The verified copy against what an administrator would type, as a Markdown table of ratios.

    verified_copy.py [MEGABYTES] [ROUNDS]

Each peer is paired with ours in turn, and the ratio is that of a pair; the table has their medians.
Before each the source's pages are dropped. All end with the copy flushed. What the peers do:

- `cp`, `sync`, and `md5sum` of the copy, from its disk: a digest that is compared with nothing.
- `rsync -a`, then `rsync -a -c -n`: both sides are read again and compared, mostly from the cache.

With a second digest the peer is our own copy without one.

For the resume the bytes are counted that two processes read of the source, the first one killed.
"""

import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from kraken_dagster.backup.copier import copy_members
from kraken_dagster.backup.copying.plan import CopyPlan
from kraken_dagster.fs.copying.uncached import drop_cached
from kraken_dagster.fs.digests import walk_members
from kraken_dagster.model.files.second_digest import DigestKind

MB = 1_000_000
SMALL_FILES, SMALL_BYTES = 200, 20_000


def main() -> None:
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 1024
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix="benchmark-") as name:
        folder = Path(name)
        one = write(folder / "thermo" / "sample.raw", megabytes * MB).parent
        bruker = write(folder / "bruker" / "x.d" / "analysis.tdf_bin", megabytes * MB // 2)
        for number in range(SMALL_FILES):
            write(bruker.with_name("small") / f"{number}.xml", SMALL_BYTES)
        rsync = "against `rsync -a` + `rsync -a -c -n`"
        folders = f"{megabytes // 2} MB and {SMALL_FILES} small files"
        rows = [
            (f"{megabytes} MB, against `cp` + `sync` + `md5sum`", pairs(one, by_cp, rounds)),
            (f"{megabytes} MB, {rsync}", pairs(one, by_rsync, rounds)),
            (f"{folders}, {rsync}", pairs(bruker.parents[1], by_rsync, rounds)),
            *(
                (f"{megabytes} MB with {kind.in_words}, against without", digest_pairs)
                for kind in DigestKind
                for digest_pairs in [pairs(one, ours, rounds, partial(ours, second=kind))]
            ),
        ]
        read = resumed(one, megabytes * MB)
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Linux {platform.release()}")
    print(f"Load {load:.0f} before and {os.getloadavg()[0]:.0f} after\n")
    print("| copy | ours, s | peer, s | ratio, median (least to most) |\n|---|---|---|---|")
    for what, times in rows:
        print(row(what, times))
    print(f"\nKilled at 90 % and gone on with: {read / MB:.0f} MB were read of {megabytes}.")


def row(what: str, times: list[tuple[float, float]]) -> str:
    ratios = sorted(ours / peer for ours, peer in times)
    ours, peer = (statistics.median(side) for side in zip(*times, strict=True))
    middle = statistics.median(ratios)
    spread = f"{middle:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    return f"| {what} | {ours:.1f} | {peer:.1f} | {spread} |"


def write(path: Path, size: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        while size > 0:
            size -= file.write(os.urandom(min(size, 8 * MB)))
        os.fsync(file.fileno())
    return path


def pairs(
    source: Path,
    peer: Callable[[Path, Path], None],
    rounds: int,
    mine: Callable[[Path, Path], None] | None = None,
) -> list[tuple[float, float]]:
    mine = mine or ours
    if peer is by_rsync and shutil.which("rsync") is None:
        raise SystemExit("rsync is not installed")
    times = []
    for number in range(rounds + 1):  # the first warms up
        order = (mine, peer) if number % 2 else (peer, mine)
        seconds = {function: timed(function, source) for function in order}
        if number:
            times.append((seconds[mine], seconds[peer]))
    return times


def timed(function: Callable[[Path, Path], None], source: Path) -> float:
    target = source.with_name(f"{source.name}-copy")
    target.mkdir()
    drop(source)
    started = time.perf_counter()
    function(source, target)
    seconds = time.perf_counter() - started
    shutil.rmtree(target)
    return seconds


def drop(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                drop_cached(file.fileno())


def ours(
    source: Path, target: Path, attempt: str | None = None, second: DigestKind | None = None
) -> None:
    (name,) = os.listdir(source)
    members = walk_members(source, name)
    plan = CopyPlan(
        source_folder=source,
        target_folder=target,
        members={member: member for member in members},
        target_top=name,
        is_folder=(source / name).is_dir(),
        attempt=attempt,
        digests={} if second is None else dict.fromkeys(members, second),
    )
    copy_members(plan, list_members=lambda: members, still_ours=lambda: True)


def by_cp(source: Path, target: Path) -> None:
    (name,) = os.listdir(source)
    copy = target / name
    subprocess.run(["cp", source / name, copy], check=True)
    subprocess.run(["sync", copy], check=True)
    drop(target)
    subprocess.run(["md5sum", copy], check=True, stdout=subprocess.DEVNULL)


def by_rsync(source: Path, target: Path) -> None:
    subprocess.run(["rsync", "-a", f"{source}/", target], check=True)
    subprocess.run(["sync", "-f", target], check=True)
    compared = ["rsync", "-a", "-c", "-n", "-i", f"{source}/", target]
    assert subprocess.run(compared, check=True, capture_output=True).stdout == b""


def resumed(source: Path, size: int) -> int:
    """The bytes that two processes read of the source, the first of which is killed at 90 %."""
    target = source.with_name("resumed")
    target.mkdir()
    return sum(child(source, target, kill_at) for kill_at in (size * 9 // 10, None))


def child(source: Path, target: Path, kill_at: int | None) -> int:
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        os.close(reader)
        counted(writer, source, kill_at)
        ours(source, target, attempt="benchmark")
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        counts = file.read()
    assert (os.waitpid(pid, 0)[1] == signal.SIGKILL) == (kill_at is not None)
    return sum(int.from_bytes(counts[at : at + 8], "little") for at in range(0, len(counts), 8))


def counted(writer: int, source: Path, kill_at: int | None) -> None:
    """Tells of every read of a file below `source`, and dies after that many bytes."""
    inodes = {path.stat().st_ino for path in source.rglob("*") if path.is_file()}
    total = 0

    def wrapped(real: Callable[..., int]) -> Callable[..., int]:
        def read(handle: int, *arguments: object) -> int:
            nonlocal total
            count = real(handle, *arguments)
            if os.fstat(handle).st_ino in inodes:
                total += count
                os.write(writer, count.to_bytes(8, "little"))
                if kill_at is not None and total >= kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
            return count

        return read

    for name in ("readv", "preadv"):
        setattr(os, name, wrapped(getattr(os, name)))


if __name__ == "__main__":
    main()
