"""One table: Kraken against what a laboratory would use in its place, and against what limits it.

    peers.py [MEGABYTES] [ROUNDS]

Both sides of a row are measured in this run, in turns. The ratio is ours by the peer's: the median
of the pairs, with the least and the most. "Limit" is the least that any program would need here,
measured in this run too; "from it" is how many times as much Kraken takes.

A peer that is missing (rsync, rclone, pandas, the cluster of `make slurm`) has a row that says so.
"""

import hashlib
import importlib.util
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

import catchup
import dagster as dg
import metrics_precursors
import slurm
import verified_copy
from verified_copy import MB

from kraken_dagster.store.embedded.server import ensure_running
from kraken_dagster_tests.support.helpers import database_uri

CAUGHT_UP, PRECURSORS, OPEN_JOBS, EVENTS = 300, 1_000_000, 100, 200
HEAD = "| what | peer | ours | peer's | ratio (least to most) | limit | from it |"


class Row(NamedTuple):
    """A line of the table. Each pair is ours and the peer's, in `unit`; `limit` too."""

    what: str
    peer: str
    unit: str
    pairs: Sequence[tuple[float, float]]
    limit: float
    limited_by: str

    def __str__(self) -> str:
        ours, theirs = (statistics.median(side) for side in zip(*self.pairs, strict=True))
        ratios = sorted(a / b for a, b in self.pairs)
        cells = [
            self.what,
            self.peer,
            f"{ours:.3g} {self.unit}",
            f"{theirs:.3g} {self.unit}",
            f"**{statistics.median(ratios):.2f}** ({ratios[0]:.2f} to {ratios[-1]:.2f})",
            f"{self.limited_by}: {self.limit:.3g} {self.unit}",
            f"{ours / self.limit:.1f}",
        ]
        return f"| {' | '.join(cells)} |"


class Missing(NamedTuple):
    """A line of something that can't be measured here."""

    what: str
    why: str

    def __str__(self) -> str:
        return f"| {self.what} | {self.why} | | | | | |"


# -- the copy -------------------------------------------------------------------------------------


def copies(folder: Path, megabytes: int, rounds: int) -> Iterator[Row | Missing]:
    one = verified_copy.write(folder / "thermo" / "sample.raw", megabytes * MB).parent
    first = verified_copy.write(folder / "bruker" / "x.d" / "analysis.tdf_bin", megabytes * MB // 2)
    for number in range(verified_copy.SMALL_FILES):
        verified_copy.write(first.with_name("small") / f"{number}.xml", verified_copy.SMALL_BYTES)
    many = first.parents[1]
    big = f"verified copy of {megabytes} MB"
    small = f"of {megabytes // 2} MB and {verified_copy.SMALL_FILES} small files"
    yield copied(big, "`cp`, `sync`, `md5sum`", one, verified_copy.by_cp, rounds)
    for program, peer, by in (
        ("rsync", "`rsync -a`, `rsync -acn`", verified_copy.by_rsync),
        ("rclone", "`rclone copy`, `rclone check`", by_rclone),
    ):
        for what, source in ((big, one), (small, many)):
            if shutil.which(program):
                yield copied(what, peer, source, by, rounds)
            else:
                yield Missing(what, f"{program} is not installed")


def copied(
    what: str, peer: str, source: Path, by: Callable[[Path, Path], None], rounds: int
) -> Row:
    times = verified_copy.pairs(source, by, rounds)
    limits = {"MD5": md5_s(source), "disk": disk_s(source)}
    limited_by = max(limits, key=limits.__getitem__)
    return Row(what, peer, "s", times, limits[limited_by], limited_by)


def by_rclone(source: Path, target: Path) -> None:
    """Both compare by digests; `check` reads source and copy again."""
    alone = ["--config", os.devnull, "--checksum", source, target]
    subprocess.run(["rclone", "copy", *alone], check=True, stderr=subprocess.DEVNULL)
    subprocess.run(["sync", "-f", target], check=True)
    verified_copy.drop(target)
    subprocess.run(["rclone", "check", *alone], check=True, stderr=subprocess.DEVNULL)


def md5_s(source: Path) -> float:
    """Of all bytes, in memory, by one core."""
    block = os.urandom(8 * MB)
    began = time.perf_counter()
    for _ in range(10):
        hashlib.md5(block, usedforsecurity=False)
    return size(source) / (80 * MB / (time.perf_counter() - began))


def disk_s(source: Path) -> float:
    """To read all bytes once, write them, and read them back, each by `dd`, past the cache.

    Source and store are on one disk here; no copy that is read back does with less.
    """
    copy = source.with_name("dd")
    began = time.perf_counter()
    for path in sorted(item for item in source.rglob("*") if item.stat().st_size >= MB):
        for ends in (
            [f"if={path}", "of=/dev/null", "iflag=direct"],
            ["if=/dev/zero", f"of={copy}", "oflag=direct"],
            [f"if={copy}", "of=/dev/null", "iflag=direct"],
        ):
            count = path.stat().st_size >> 20
            command = ["dd", *ends, f"bs={1 << 20}", f"count={count}"]
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    copy.unlink()
    return seconds


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# -- runs, jobs, metrics --------------------------------------------------------------------------


def catching_up(folder: Path) -> Iterator[Row]:
    """Each way once: the files of one would be done for the other."""
    server = ensure_running(folder / "mongodb")
    try:
        uri = database_uri(server.uri, "benchmark")
        costs = catchup.benchmark(folder / "home", uri, CAUGHT_UP // len(catchup.INSTRUMENTS))
    finally:
        server.stop()
    what = f"catch-up of {CAUGHT_UP} files, in one run for each instrument"
    pair = [(costs.in_one_run, costs.a_run_each)]
    events = event_cpu_s(folder / "events") * len(catchup.ASSETS)
    yield Row(what, "a run for each file", "CPU-s a file", pair, events, "Dagster's own events")


def event_cpu_s(folder: Path) -> float:
    """CPU-seconds of one materialisation that Dagster is told of, without a run."""
    folder.mkdir()
    with dg.DagsterInstance.local_temp(str(folder)) as instance:
        instance.report_runless_asset_event(dg.AssetMaterialization("a", partition="first"))
        began = time.process_time()
        for number in range(EVENTS):
            event = dg.AssetMaterialization("a", partition=str(number))
            instance.report_runless_asset_event(event)
        return (time.process_time() - began) / EVENTS


def polling(rounds: int) -> Row | Missing:
    what = f"states of {OPEN_JOBS} open jobs, by one `squeue`"
    try:
        times = slurm.polled(OPEN_JOBS, rounds)
    except OSError as error:
        return Missing(what, f"no cluster, `make slurm` starts one: {error}")
    pairs = [(item.together, item.one_by_one) for item in times]
    bare = statistics.median(item.bare for item in times)
    return Row(what, "`squeue` for each job", "s", pairs, bare, "one command over SSH")


def metrics(folder: Path, rounds: int) -> Row | Missing:
    what = f"metrics of a table of {PRECURSORS:,} precursors"
    if importlib.util.find_spec("pandas") is None:
        return Missing(what, "pandas is not installed")
    path = folder / "precursors.parquet"
    once = partial(metrics_precursors.in_a_process, path=path, rows=PRECURSORS)
    once("write")
    pairs, bare = [], []
    for _ in range(rounds):
        pairs.append((once("ours")[0], once("whole")[0]))
        bare.append(once("decoded")[0])
    return Row(what, "pandas", "s", pairs, statistics.median(bare), "pyarrow decodes the columns")


def main() -> None:
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 1024
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Linux {platform.release()}, ",
        end="",
    )
    print(f"load {os.getloadavg()[0]:.1f}\n\n{HEAD}\n|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix="benchmark-") as name:
        for row in rows(Path(name), megabytes, rounds):
            print(row, flush=True)


def rows(folder: Path, megabytes: int, rounds: int) -> Iterator[Row | Missing]:
    yield from copies(folder / "copies", megabytes, rounds)
    yield metrics(folder, rounds)
    yield polling(rounds)
    yield from catching_up(folder)


if __name__ == "__main__":
    main()
