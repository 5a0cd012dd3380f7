"""Every raw file goes to its reader, in a process with limits."""

import importlib.metadata
import os
import struct
import sys
from pathlib import Path

import pytest

from kraken_dagster.fs.limited.limits import ReadingLimits
from kraken_dagster.metrics import rawqc
from kraken_dagster.model.errors import FileFormatError, UnsupportedRawFile
from kraken_dagster.raw_readers import readers, sciex
from kraken_dagster.raw_readers.limited import read_raw
from kraken_dagster.raw_readers.metrics import metrics_of
from kraken_dagster.simulation.instruments import Acquisition
from kraken_dagster_tests.raw_readers.real_files import dia_pasef, small_raw, vendor
from kraken_dagster_tests.raw_readers.test_simulated import acquired
from kraken_dagster_tests.support.whole_results import whole_metrics

LIMITS = ReadingLimits(memory_mb=256, cpu_s=20)


@pytest.fixture
def thermo_raw(tmp_path: Path) -> Path:
    raw = tmp_path / "small.RAW"
    raw.write_bytes(small_raw())
    return raw


@pytest.fixture
def wiff(tmp_path: Path) -> Path:
    return acquired(tmp_path, Acquisition("x.wiff", "sciex", 20, 300_000, seed=7))


def test_a_child_reads_metrics_facts_and_traces(thermo_raw: Path) -> None:
    reading = read_raw(thermo_raw, limits=LIMITS, wall_s=60)
    assert reading.metrics["ms1_median_tic"] == vendor()["summary"]["ms1_median_tic"]
    assert reading.facts["instrument_serial"] == "SN06061F"
    assert (reading.reader, reading.format_version, reading.complete) == ("thermo", "57", True)
    assert reading.traces.startswith(b"PK")
    assert sorted(reading.trace_titles) == ["base_peak", "tic", "tic_ms2"]


def test_its_errors_come_back(thermo_raw: Path) -> None:
    os.truncate(thermo_raw, 1_484_000)
    with pytest.raises(FileFormatError, match="ends before the end of its scan index"):
        read_raw(thermo_raw, limits=LIMITS, wall_s=60)


# --- the program


def test_the_table_of_a_thermo_file_is_that_of_a_bruker(thermo_raw: Path, tmp_path: Path) -> None:
    assert rawqc.main([str(thermo_raw), str(tmp_path / "one")]) == 0
    assert rawqc.main([str(dia_pasef(tmp_path)), str(tmp_path / "two")]) == 0
    heads = [
        (tmp_path / name / "msqc_results.tsv").read_text().splitlines()[0]
        for name in ("one", "two")
    ]
    assert heads[0] == heads[1]
    metrics = whole_metrics("msqc", tmp_path / "one")
    assert (metrics["ms1_scans"], metrics["ms2_scans"]) == (14, 34)


def test_an_incomplete_file_has_no_table(thermo_raw: Path, tmp_path: Path, capsys) -> None:
    os.truncate(thermo_raw, 1_504_353)
    assert rawqc.main([str(thermo_raw), str(tmp_path / "out")]) == rawqc.EXIT_FAILED
    assert "Expected 1504354 bytes, found 1504353." in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_of_sciex_there_is_no_table(wiff: Path, tmp_path: Path, capsys) -> None:
    assert rawqc.main([str(wiff), str(tmp_path / "out")]) == rawqc.EXIT_UNSUPPORTED
    assert "No scans can be read" in capsys.readouterr().err


# --- Sciex


def test_a_wiff_tells_its_samples_and_nothing_of_scans(wiff: Path) -> None:
    contents = sciex.read(wiff)
    assert contents.facts == {"samples": 1, "file_made": "2024-01-17T21:20:00"}
    assert metrics_of(contents) == {"complete": None}


def test_a_wiff_that_was_cut_off_is_not_complete(wiff: Path) -> None:
    size = wiff.stat().st_size
    for length in (size // 2, 4096, 1500, 700, 100, 8, 3):
        os.truncate(wiff, length)
        try:
            assert sciex.read(wiff).complete is False
        except FileFormatError as error:
            assert "can't be read" in str(error) or "ends before" in str(error)  # noqa: PT017


def test_a_wiff_without_its_scans_is_not_complete(wiff: Path) -> None:
    wiff.with_name("x.wiff.scan").unlink()
    assert sciex.read(wiff).complete is False


def test_a_wiff_whose_sectors_go_in_a_circle_ends(wiff: Path) -> None:
    with wiff.open("r+b") as file:
        file.seek(512)
        file.write(struct.pack("<128I", *[1] * 128))  # the directory follows itself
    assert read_raw(wiff, limits=LIMITS, wall_s=60).facts["samples"] == 1


def test_a_wiff2_is_said_to_be_encrypted(tmp_path: Path) -> None:
    (tmp_path / "x.wiff2").write_bytes(b"x")
    with pytest.raises(UnsupportedRawFile, match="encrypted"):
        readers.read(tmp_path / "x.wiff2")


# --- Bruker


def test_a_baf_is_read_by_nobody(tmp_path: Path) -> None:
    raw = tmp_path / "x.d"
    raw.mkdir()
    (raw / "analysis.baf").write_bytes(b"x")
    with pytest.raises(UnsupportedRawFile, match=r"analysis\.baf can't be read yet"):
        readers.read(raw)


# --- a reader of the site's own

OURS = """
from array import array
from kraken_dagster.raw_readers.contents import RawContents, Scans, Trace

def read(path):
    tic = [float(word) for word in path.read_text().split()]
    return RawContents("ours", "1", Scans(
        ms_level=array("B", [1] * len(tic)), rt_min=array("d", range(len(tic))), tic=array("d", tic)
    ))

def odd(path):
    return RawContents("ours", "1", Scans(ms_level=array("B", [1])))

def odd_trace(path):
    trace = eval(path.read_text())
    return RawContents("ours", "1", traces=(trace,))
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Installs a package with readers of `.lab`, `.odd` and, for BAF, `.d` files."""
    packages = tmp_path / "packages"
    reported = packages / "our_lab-1.dist-info"
    reported.mkdir(parents=True)
    (packages / "our_raw.py").write_text(OURS)
    (reported / "METADATA").write_text("Metadata-Version: 2.1\nName: our-lab\nVersion: 1\n")
    (reported / "entry_points.txt").write_text(
        "[kraken.raw_readers]\nlab = our_raw:read\nodd = our_raw:odd\n"
        "trace = our_raw:odd_trace\nd = our_raw:read\n"
    )
    monkeypatch.setattr(sys, "path", [*sys.path, str(packages)])
    importlib.metadata.MetadataPathFinder().invalidate_caches()


@pytest.mark.usefixtures("site")
def test_a_site_adds_a_reader_by_an_entry_point(tmp_path: Path) -> None:
    raw = tmp_path / "x.LAB"
    raw.write_text("1 20 300")
    reading = read_raw(raw, limits=LIMITS, wall_s=60)
    assert (reading.reader, reading.metrics["tic_jumps"]) == ("ours", 2)


@pytest.mark.usefixtures("site")
def test_what_kraken_reads_itself_it_goes_on_reading(tmp_path: Path) -> None:
    assert readers.read(dia_pasef(tmp_path)).reader == "bruker"


@pytest.mark.usefixtures("site")
def test_a_reader_that_returns_what_cant_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.odd").write_text("1")
    with pytest.raises(FileFormatError, match="Expected an array of 1 numbers in rt_min"):
        readers.read(tmp_path / "x.odd")


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(
    ("trace", "reported"),
    [
        ("7", "Expected a Trace"),
        ('Trace("UV 214 nm", "AU", array("d", [1]), array("d", [1]))', "Expected a name of a-z"),
        ('Trace("uv_unit", "AU", array("d", [1]), array("d", [1]))', "Expected a name of a-z"),
        ('Trace("tic", "AU", array("d", [1]), array("d", [1]))', "Expected a name of its own"),
        ('Trace("uv", "AU", array("d", [1, 2]), array("d", [1]))', "as many times as values"),
        ('Trace("uv", "AU", array("d", [2, 1]), array("d", [1, 1]))', "times that never fall"),
        ('Trace("uv", "AU", array("d", [1]), array("d", [float("nan")]))', "finite numbers"),
    ],
)
def test_a_trace_that_cant_be_is_told(tmp_path: Path, trace: str, reported: str) -> None:
    (tmp_path / "x.trace").write_text(trace)
    with pytest.raises(FileFormatError, match=reported):
        readers.read(tmp_path / "x.trace")


def test_without_a_reader_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedRawFile, match="There is no reader for such raw files"):
        readers.read(tmp_path / "x.lab")
