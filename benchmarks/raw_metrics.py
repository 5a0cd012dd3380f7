"""How long metrics from a raw file take: Thermo files, a Bruker index of many frames, and what a
usual file adds to an ingest run.

    .venv/bin/python benchmarks/raw_metrics.py [SCANS] [FRAMES]

Each is read in a fresh child process with limits, as a run does it: its CPU seconds contain
Python's start and all imports of the child and of its guard. What the run's own process spends on
it is told beside it; there nothing is imported that a run hasn't loaded anyway.
"""

import resource
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from kraken_dagster.fs.limited.child import call, end_idle
from kraken_dagster.fs.limited.limits import ReadingLimits
from kraken_dagster.raw_readers.limited import limits_for_raw
from kraken_dagster.simulation.tdf import FRAME_PERIOD_S, SimulatedTdf, TdfFacts
from kraken_dagster.simulation.thermo_raw import SMALLEST_BYTES, ThermoFacts, thermo_parts

_NOW = datetime(2024, 8, 1, tzinfo=UTC)
_SCAN_BYTES = 1_100  # of a simulated file


def thermo(folder: Path, scans: int) -> Path:
    """Its spectra are a hole."""
    raw = folder / f"{scans}.raw"
    size = SMALLEST_BYTES + scans * _SCAN_BYTES
    head, tail = thermo_parts(ThermoFacts("x", _NOW, scans / 600 + 0.1, size, 7), b"")
    with raw.open("wb") as file:
        file.write(head)
        file.truncate(size - len(tail))
        file.seek(size - len(tail))
        file.write(tail)
    return raw


def bruker(folder: Path, frames: int) -> Path:
    raw = folder / f"{frames}.d"
    raw.mkdir()
    size = 1000 * frames
    facts = TdfFacts("x", "x.m", _NOW, (frames + 1) * FRAME_PERIOD_S / 60, size, 7)
    with SimulatedTdf(raw / "analysis.tdf", facts) as tdf:
        tdf.add_frames_until(1)
        tdf.finish()
    with (raw / "analysis.tdf_bin").open("wb") as file:
        file.truncate(size)
    return raw


def read_there(raw: str) -> dict[str, float]:
    """In the child: what the reading itself takes, and the memory of the whole process."""
    from kraken_dagster.raw_readers.limited import read_there as read

    before, begun = time.process_time(), time.monotonic()
    reading = read(Path(raw))
    return {
        "scans": reading["metrics"]["ms1_scans"] + reading["metrics"]["ms2_scans"],
        "wall_s": time.monotonic() - begun,
        "cpu_s": time.process_time() - before,
        "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def measure(what: str, raw: Path) -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    limits = limits_for_raw(ReadingLimits())
    own, theirs = (resource.getrusage(which) for which in _WHO)
    begun = time.monotonic()
    found = call("raw_metrics:read_there", str(raw), limits=limits, wall_s=300, what=raw)
    wall = time.monotonic() - begun
    end_idle()
    spent = [_cpu(resource.getrusage(which)) for which in _WHO]
    run_s, child_s = spent[0] - _cpu(own), spent[1] - _cpu(theirs)
    print(
        f"{what}: {found['scans']:,} scans. Reading {found['wall_s']:.2f} s, {found['cpu_s']:.2f} "
        f"CPU-s, process {found['mb']:.0f} MB. All of it {wall:.2f} s: {child_s:.2f} CPU-s in the "
        f"child with its imports, {run_s:.2f} in the run's process."
    )


_WHO = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def _cpu(usage: resource.struct_rusage) -> float:
    return usage.ru_utime + usage.ru_stime


def main(scans: int = 150_000, frames: int = 400_000) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measure("Thermo, as the demo's", thermo(folder, 2_000))
        measure("Thermo, one hour", thermo(folder, 36_000))
        measure("Thermo", thermo(folder, scans))
        measure("Bruker", bruker(folder, frames))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
