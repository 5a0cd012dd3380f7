"""Whatever is done to a real file, its readers end with numbers that can be, or with an error.

Seeds are fixed: the same damage in each run.
"""

import math
import os
import random
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from kraken_dagster.model.errors import MetricsError
from kraken_dagster.raw_readers import bruker, thermo
from kraken_dagster.raw_readers.contents import RawContents
from kraken_dagster.raw_readers.metrics import metrics_of
from kraken_dagster_tests.raw_readers.real_files import (
    DATA_AT,
    RUN_AT,
    damaged,
    dia_pasef,
    lengths,
    small_raw,
)

_MOST_MB = 100
_HEADER, _TABLES = range(DATA_AT), range(RUN_AT, 1504354)


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
    for value in metrics_of(contents).values():
        assert value is None or math.isfinite(value)
    return contents


def sweep(folder: Path) -> None:
    """Thermo: flipped bits, zeroed blocks, lengths of 2^31, addresses to anywhere."""
    path, chance = folder / "x.raw", random.Random(16)
    path.write_bytes(small_raw())
    for places, count in ((_HEADER, 600), (_TABLES, 900), (range(RUN_AT, RUN_AT + 7500), 300)):
        for _ in damaged(path, places, chance, count):
            outcome(thermo.read, path)


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


def test_a_damaged_file_costs_neither_process_nor_memory(tmp_path: Path) -> None:
    """In a process of its own, which would end beyond its limit."""
    name = f"{__name__.rpartition('.')[0]}.test_damage"
    script = f"import pathlib, {name} as it; it.sweep(pathlib.Path({str(tmp_path)!r}))"
    most = _MOST_MB * 1024 * 1024
    done = subprocess.run(
        [sys.executable, "-c", script],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (most, most)),
        capture_output=True,
        text=True,
        timeout=60,
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


def test_a_damaged_bruker_index_is_read_or_refused(tmp_path: Path) -> None:
    raw, chance = dia_pasef(tmp_path), random.Random(3)
    path = raw / "analysis.tdf"
    for _ in damaged(path, range(path.stat().st_size), chance, 200):
        outcome(bruker.read, raw)


def test_a_database_of_many_tables_is_read(tmp_path: Path) -> None:
    raw = dia_pasef(tmp_path)
    with closing(sqlite3.connect(raw / "analysis.tdf")) as database:
        tables = "".join(f"CREATE TABLE t{number} (x);" for number in range(5_000))
        database.executescript(f"BEGIN; {tables} COMMIT;")
    found = outcome(bruker.read, raw)
    assert found is not None
    assert len(found.scans) == 5
