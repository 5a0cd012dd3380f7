"""Files that finish together on one instrument: a run each, and one run for all of them.

    .venv/bin/python benchmarks/finished_together.py [FILES] [VARIANT ...]

A whole `kraken up` for each variant, with the defaults of instruments.yaml and of dagster.yaml but
for what the variant says, and places for all jobs. These cost next to nothing, and end once every
file has its own. CPU-seconds are of all of Kraken's processes, less what they take at rest.
"""

import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from pathlib import Path

import dagster as dg
import yaml
from idle import cpu_s, ours

from kraken_dagster.model.raw_file import Status
from kraken_dagster.simulation import search_program
from kraken_dagster.simulation.clock import LabClock
from kraken_dagster.simulation.instruments import Acquisition, SimulatedInstrument
from kraken_dagster_tests.support import laboratory as laboratories
from kraken_dagster_tests.support.dagster_bench import SEARCH
from kraken_dagster_tests.support.laboratory import SHIPPED_DAGSTER_YAML, Lab

INSTRUMENT = "thermo1"
IDLE_S, EVERY_S, PATIENCE_S = 60, 2, 3600
# What files_per_run_from is, and whether the queue launches runs side by side.
VARIANTS = {
    "a run each, launched in turn": (0, False),
    "a run each": (0, True),
    "one run": (5, True),
}
UNDER_WAY = {
    Status.MONITORING_DONE,
    Status.COPYING,
    Status.COPYING_DONE,
    Status.QUEUED_FOR_QUANTING,
    Status.QUANTING,
    Status.ERROR,
    Status.DONE,
}


def laboratory(home: Path, count: int, many_from: int, *, threads: bool) -> Lab:
    lab = Lab(home, engine_slots=count)
    values = yaml.safe_load(lab.config_path.read_text())
    values["defaults"] = {"sensors": "running", "files_per_run_from": many_from}
    lab.config_path.write_text(yaml.safe_dump(values))
    dagster = yaml.safe_load(SHIPPED_DAGSTER_YAML.read_text())
    dagster["run_queue"] = {**dagster.get("run_queue", {}), "dequeue_use_threads": threads}
    (lab.home / "dagster.yaml").write_text(yaml.safe_dump(dagster))
    return lab


def install_jobs(lab: Lab) -> Path:
    """A program that leaves a result once the file that is returned is there."""
    go, raw, result = lab.home / "go", lab.home / "raw", lab.home / "result"
    raw.write_bytes(b"raw" * 1000)
    search_program.main([str(raw), str(result)])
    program = lab.folders / "software" / SEARCH.software
    program.write_text(
        f"#!/bin/sh\nuntil [ -e {shlex.quote(str(go))} ]; do sleep 5; done\n"
        f'mkdir -p "$2" && cp {shlex.quote(str(result))}/* "$2"\n'
    )
    return go


def acquire(lab: Lab, count: int) -> None:
    """All files come to stand in the instrument's folder at the same moment."""
    away = lab.home / "away"
    for number in range(count):
        plan = Acquisition(f"f_{number:03d}.raw", "thermo", minutes=1, size_bytes=1_000_000)
        SimulatedInstrument(away, "thermo", LabClock(1e6)).acquire(plan)
    for path in away.iterdir():
        path.rename(lab.folders / "instruments" / INSTRUMENT / path.name)


def cpu(lab: Lab) -> float:
    """Of Kraken's processes, those that have ended included; not of jobs."""
    return sum(cpu_s(path) for path in ours(lab.home) if not is_job(path))


def is_job(path: Path) -> bool:
    try:
        return b"RAW_FILE_ID=" in (path / "environ").read_bytes()
    except OSError:
        return True


def wait_for(there: Callable[[], bool]) -> float:
    """The time at which it is."""
    until = time.monotonic() + PATIENCE_S
    while not there():
        if time.monotonic() > until:
            raise SystemExit("given up")
        time.sleep(EVERY_S)
    return time.monotonic()


def count_in(lab: Lab, statuses: Collection[Status]) -> int:
    return len(lab.store.raw_files.in_status(INSTRUMENT, set(statuses)))


def overlap(lab: Lab, job: str) -> tuple[int, int]:
    """How many runs of a job there were, and how many of them at the same moment."""
    with dg.DagsterInstance.from_config(str(lab.dagster_home)) as instance:
        records = instance.get_run_records(dg.RunsFilter(job_name=f"{INSTRUMENT}_{job}"))
    begun = [item for item in records if item.start_time]
    changes = [(item.start_time or 0.0, 1) for item in begun]
    changes += [(item.end_time, -1) for item in begun if item.end_time]
    most = living = 0
    for _, change in sorted(changes):
        living += change
        most = max(most, living)
    return len(records), most


def measure(name: str, count: int) -> None:
    many_from, threads = VARIANTS[name]
    with tempfile.TemporaryDirectory(prefix="kraken-together-") as folder:
        lab = laboratory(Path(folder) / "lab", count, many_from, threads=threads)
        try:
            lab.up()
            go = install_jobs(lab)
            time.sleep(IDLE_S)
            report(name, lab, count, go)
        finally:
            lab.stop()


def report(name: str, lab: Lab, count: int, go: Path) -> None:
    before, began = cpu(lab), time.monotonic()
    time.sleep(IDLE_S)
    idle = (cpu(lab) - before) / (time.monotonic() - began)
    acquire(lab, count)
    before, began = cpu(lab), time.monotonic()
    over = wait_for(lambda: count_in(lab, UNDER_WAY) == count)
    submitted = wait_for(lambda: count_in(lab, {Status.QUANTING}) == count)
    used = cpu(lab) - before
    print(f"{name}, {count} files; {60 * idle:.1f} CPU-s a minute while nothing happens")
    took = submitted - began
    print(f"  jobs submitted {(submitted - over) / 60:.1f} min after the acquisitions were over")
    print(f"  {(used - idle * took) / count:.2f} CPU-s a file until then, ", end="")
    print("in {} runs, {} at once".format(*overlap(lab, "ingest")), flush=True)
    before, began = cpu(lab), time.monotonic()
    go.touch()
    done = wait_for(lambda: count_in(lab, {Status.DONE}) == count)
    used_then = cpu(lab) - before
    took_then = done - began
    print(f"  metrics {took_then / 60:.1f} min after the jobs were let go, ", end="")
    print("in {} runs, {} at once".format(*overlap(lab, "collect")))
    net = (used + used_then - idle * (took + took_then)) / count
    print(f"  {net:.2f} CPU-s a file from acquisition to metrics", flush=True)


def main() -> None:
    laboratories.PATIENCE_S = PATIENCE_S
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    for name in sys.argv[2:] or VARIANTS:
        measure(name, count)


if __name__ == "__main__":
    main()
