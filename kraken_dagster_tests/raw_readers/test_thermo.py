"""Thermo's files are read as Thermo's own library reads them."""

import math
import struct
from pathlib import Path

import pytest

from kraken_dagster.model.errors import FileFormatError, UnsupportedRawFile
from kraken_dagster.raw_readers import thermo
from kraken_dagster.raw_readers.contents import RawContents
from kraken_dagster.raw_readers.metrics import metrics_of
from kraken_dagster_tests.raw_readers.real_files import (
    INDEX_AT,
    PARAMETERS_AT,
    RUN_AT,
    small_raw,
    vendor,
)

EVENTS_ADDRESS = RUN_AT + 592 + 13 * 520 + 16


@pytest.fixture(scope="module")
def whole() -> bytes:
    return small_raw()


def read(folder: Path, data: bytes) -> RawContents:
    path = folder / "small.RAW"
    path.write_bytes(data)
    return thermo.read(path)


def put(data: bytes, at: int, form: str, value: float) -> bytes:
    copy = bytearray(data)
    struct.pack_into(form, copy, at, value)
    return bytes(copy)


def test_all_scans_are_as_the_vendors_library_reads_them(tmp_path: Path, whole: bytes) -> None:
    scans = read(tmp_path, whole).scans
    wanted = vendor()["scans"]
    assert len(scans) == len(wanted) == 48
    for at, one in enumerate(wanted):
        found = (scans.ms_level[at], scans.rt_min[at], scans.tic[at], scans.base_peak[at])
        assert found == (one["ms"], one["rt_min"], one["tic"], one["base_peak_intensity"])
        assert (scans.low_mz[at], scans.high_mz[at]) == (one["low_mz"], one["high_mz"])
        assert scans.injection_ms[at] == pytest.approx(one["injection_ms"], abs=0.0005001)


def test_the_metrics_are_the_vendors(tmp_path: Path, whole: bytes) -> None:
    metrics = metrics_of(read(tmp_path, whole))
    summary = vendor()["summary"]
    for name in ("ms1_scans", "ms2_scans", "ms1_median_tic", "ms2_median_tic", "max_tic"):
        assert metrics[name] == summary[name]
    for level in ("ms1", "ms2"):
        time = summary[f"{level}_median_injection_time_ms"]
        assert metrics[f"{level}_median_injection_time"] == pytest.approx(time, abs=0.0005001)
    assert metrics["gradient_length"] == metrics["rt_last"] == summary["rt_last_min"]
    assert metrics["rt_first"] == summary["rt_first_min"]
    assert (metrics["mz_low"], metrics["mz_high"]) == (summary["low_mz"], summary["high_mz"])
    assert metrics["complete"] == 1


def test_the_precursors_are_those_of_the_filters(tmp_path: Path, whole: bytes) -> None:
    scans = read(tmp_path, whole).scans
    for at, one in enumerate(vendor()["scans"]):
        if one["ms"] == 1:
            assert math.isnan(scans.precursor_mz[at])
        else:
            reported = float(one["filter"].split(" ms2 ")[1].split("@")[0])
            assert scans.precursor_mz[at] == pytest.approx(reported, abs=0.00501)


def test_instrument_sample_and_times_are_told(tmp_path: Path, whole: bytes) -> None:
    contents = read(tmp_path, whole)
    facts = contents.facts
    wanted = {f"instrument_{name}": text for name, text in vendor()["instrument"].items() if text}
    assert {name: facts[name] for name in wanted} == wanted
    assert (facts["sample_id"], facts["vial"], facts["computer"]) == ("1", "1a1", "LTQB4XD751")
    assert str(facts["method"]).endswith("20050720_idv_AnalyzeInfusion.meth")
    assert facts["acquired_local"] == "2005-07-20T14:44:22.377"
    assert facts["acquired_utc"] == "2005-07-20T21:44:22.377"
    assert facts["utc_offset_min"] == -7 * 60
    assert (contents.reader, contents.format_version) == ("thermo", "57")


def test_a_file_that_lacks_a_byte_is_incomplete(tmp_path: Path, whole: bytes) -> None:
    contents = read(tmp_path, whole[:-1])
    assert contents.complete is False
    assert contents.incomplete == "Expected 1504354 bytes, found 1504353."
    assert metrics_of(contents)["complete"] == 0


def test_a_file_with_something_behind_its_end_is_not_complete(tmp_path: Path, whole: bytes) -> None:
    assert read(tmp_path, whole + b"x").complete is False


def test_where_other_controllers_write_what_stands_behind_is_not_known(
    tmp_path: Path, whole: bytes
) -> None:
    controllers_at = whole.index(struct.pack("<I", RUN_AT), 1356) - 4 * 4
    assert struct.unpack_from("<2I", whole, controllers_at) == (1, 1)
    two = put(whole, controllers_at, "<I", 2)
    assert read(tmp_path, two).complete is True
    assert read(tmp_path, two + b"x").complete is None


def test_the_run_of_a_pump_before_the_spectrometers_is_passed_over(
    tmp_path: Path, whole: bytes
) -> None:
    at = whole.index(struct.pack("<I", RUN_AT), 1356)
    pump = len(whole) - BEHIND  # its run header has no scans
    two = put(put(put(whole, at - 16, "<I", 2), at, "<I", pump), at + 12, "<I", RUN_AT)
    contents = read(tmp_path, two + bytes(8000))
    assert len(contents.scans) == 48
    assert contents.complete is None


BEHIND = 4


@pytest.mark.parametrize("cut_at", [RUN_AT + 100, INDEX_AT, INDEX_AT + 100, PARAMETERS_AT - 1])
def test_a_file_without_all_of_its_index_has_no_metrics(
    tmp_path: Path, whole: bytes, cut_at: int
) -> None:
    with pytest.raises(FileFormatError, match=r"ends before the end of its|not understood"):
        read(tmp_path, whole[:cut_at])


def test_where_it_would_go_on_is_told(tmp_path: Path, whole: bytes) -> None:
    with pytest.raises(FileFormatError, match=f"Expected more than {RUN_AT} bytes"):
        read(tmp_path, whole[: RUN_AT - 1000])


@pytest.mark.parametrize(
    ("at", "form", "value"),
    [
        (INDEX_AT + 4, "<I", 7),  # a scan's number
        (INDEX_AT + 72 + 24, "<d", 0.0001),  # a time before the one before
        (INDEX_AT + 32, "<d", -1.0),  # a TIC
        (INDEX_AT + 32, "<d", math.nan),
        (INDEX_AT + 40, "<d", math.inf),  # a base peak
        (INDEX_AT + 56, "<d", 3000.0),  # more than the end of the range
        (EVENTS_ADDRESS, "<I", 12),  # the events' address
        (EVENTS_ADDRESS + 4, "<I", PARAMETERS_AT - 8),  # the parameters'
    ],
)
def test_a_number_that_cant_be_costs_all_metrics(
    tmp_path: Path, whole: bytes, at: int, form: str, value: float
) -> None:
    with pytest.raises(FileFormatError, match="The format is not understood"):
        read(tmp_path, put(whole, at, form, value))


@pytest.mark.parametrize("version", [0, 8, 56, 61, 65, 67, 2**31])
def test_an_unknown_version_is_not_guessed_at(tmp_path: Path, whole: bytes, version: int) -> None:
    with pytest.raises(UnsupportedRawFile, match=f"Version {version} of Thermo's format"):
        read(tmp_path, put(whole, 0x24, "<I", version))


def test_a_known_version_of_another_layout_fails_its_checks(tmp_path: Path, whole: bytes) -> None:
    with pytest.raises(FileFormatError):
        read(tmp_path, put(whole, 0x24, "<I", 66))


@pytest.mark.parametrize(
    ("content", "reported"),
    [
        (b"", "The file is empty"),
        (b"PK\x03\x04" + bytes(4000), "This is no Thermo raw file"),
        (b"\x01\xa1F\0i\0n\0n\0i\0g\0a\0n\0", "ends before the end of its header"),
    ],
)
def test_what_is_no_raw_file_is_told_in_a_sentence(
    tmp_path: Path, content: bytes, reported: str
) -> None:
    with pytest.raises(FileFormatError, match=reported):
        read(tmp_path, content)


def test_links_and_folders_are_not_read(tmp_path: Path, whole: bytes) -> None:
    (tmp_path / "real.RAW").write_bytes(whole)
    (tmp_path / "link.RAW").symlink_to(tmp_path / "real.RAW")
    for path in (tmp_path / "link.RAW", tmp_path, tmp_path / "missing.RAW"):
        with pytest.raises(FileFormatError, match="There is no plain file"):
            thermo.read(path)
