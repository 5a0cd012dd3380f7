"""Whatever is done to a real file, its readers end with numbers that can be, or with an error.

Seeds are fixed: the same damage in each run.
"""

import math
import os
import random
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kraken_dagster.model.errors import MetricsError
from kraken_dagster.raw_readers import bruker, sciex, thermo
from kraken_dagster.raw_readers.contents import RawContents
from kraken_dagster.raw_readers.metrics import metrics_of
from kraken_dagster.simulation.instruments import Acquisition
from kraken_dagster_tests.raw_readers.real_files import (
    DATA_AT,
    RUN_AT,
    damaged,
    dia_pasef,
    lengths,
    small_raw,
)
from kraken_dagster_tests.raw_readers.test_simulated import acquired

_MOST_MB = 100
_HEADER, _TABLES = range(DATA_AT), range(RUN_AT, 1504354)
_WIFF = Acquisition("x.wiff", "sciex", 20, 300_000, seed=7)


def outcome(read: Callable[[Path], RawContents], path: Path) -> RawContents | None:
    """What was read, whose numbers are within their bounds, or None for an error of one line."""
    try:
        contents = read(path)
    except MetricsError as error:
        reported = str(error)
    else:
        reported = ""
    assert "\n" not in reported
    if reported:
        return None
    scans = contents.scans
    assert all(1 <= level <= 10 for level in scans.ms_level)
    for column in (scans.rt_min, scans.tic, scans.base_peak, scans.low_mz, scans.high_mz):
        assert len(column) in (0, len(scans))
        assert all(map(math.isfinite, column))
    for low, high in zip(scans.low_mz, scans.high_mz, strict=True):
        assert 0 <= low <= high <= 1e6
    for column, most in ((scans.rt_min, 1e5), (scans.tic, 1e18), (scans.base_peak, 1e18)):
        assert all(0 <= value <= most for value in column)
    for value in metrics_of(contents).values():
        assert value is None or math.isfinite(value)
    return contents


def sweep_thermo(folder: Path) -> None:
    """Flipped bits, zeroed blocks, lengths of 2^31, addresses to anywhere, as in each sweep."""
    path, chance = folder / "x.raw", random.Random(16)
    path.write_bytes(small_raw())
    for places, count in ((_HEADER, 600), (_TABLES, 900), (range(RUN_AT, RUN_AT + 7500), 300)):
        for _ in damaged(path, places, chance, count):
            outcome(thermo.read, path)


def sweep_bruker(folder: Path) -> None:
    raw, chance = dia_pasef(folder), random.Random(3)
    path = raw / "analysis.tdf"
    for _ in damaged(path, range(path.stat().st_size), chance, 400):
        outcome(bruker.read, raw)


def sweep_sciex(folder: Path) -> None:
    """Most of it in what leads through the container: header, tables of sectors, directory."""
    path, chance = acquired(folder, _WIFF), random.Random(5)
    for places, count in ((range(512), 300), (range(512, 4096), 300)):
        for _ in damaged(path, places, chance, count):
            found = outcome(sciex.read, path)
            assert found is None or not len(found.scans)
    for length in lengths(path.stat().st_size, chance):
        os.truncate(path, length)
        found = outcome(sciex.read, path)
        assert found is None or found.complete is not True


def test_after_a_truncation_nothing_is_wrong_and_complete(tmp_path: Path) -> None:
    data = small_raw()
    path = tmp_path / "x.raw"
    path.write_bytes(data)
    whole = thermo.read(path)
    for length in lengths(len(data), random.Random(1)):
        os.truncate(path, length)
        found = outcome(thermo.read, path)
        if found is not None:
            assert found.complete is not True
            assert (found.scans.tic, found.scans.rt_min) == (whole.scans.tic, whole.scans.rt_min)
            assert found.scans.injection_ms in (
                whole.scans.injection_ms,
                type(whole.scans.tic)("d"),
            )


@pytest.mark.parametrize("vendor", ["thermo", "bruker", "sciex"])
def test_a_damaged_file_costs_neither_process_nor_memory(tmp_path: Path, vendor: str) -> None:
    """In a process of its own, which would end beyond its limit."""
    name = f"{__name__.rpartition('.')[0]}.test_damage"
    script = f"import pathlib, {name} as it; it.sweep_{vendor}(pathlib.Path({str(tmp_path)!r}))"
    most = _MOST_MB * 1024 * 1024
    done = subprocess.run(
        [sys.executable, "-c", script],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (most, most)),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["analysis.tdf", "analysis.tdf_bin"])
def test_after_a_truncation_a_bruker_folder_is_not_complete(tmp_path: Path, name: str) -> None:
    raw = dia_pasef(tmp_path)
    path = raw / name
    assert bruker.read(raw).complete is True
    end_of_last_frame = 610304 + 135677  # slack follows in the real file
    size = min(path.stat().st_size, end_of_last_frame)
    for length in lengths(size, random.Random(2), count=40):
        os.truncate(path, length)
        found = outcome(bruker.read, raw)
        assert found is None or found.complete is not True
