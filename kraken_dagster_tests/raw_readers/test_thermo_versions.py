"""Each format version is read by its own sizes if all checks hold; else there is no figure."""

import math
import os
import random
import struct
from itertools import permutations
from pathlib import Path

import opentfraw
import pytest

from kraken_dagster.model.errors import FileFormatError, MetricsError
from kraken_dagster.raw_readers import thermo, thermo_scans
from kraken_dagster.raw_readers.metrics import metrics_of
from kraken_dagster_tests.raw_readers import synthetic_thermo as synthetic
from kraken_dagster_tests.raw_readers.synthetic_thermo import ALL_VERSIONS, INDEX_BYTES, SCANS

OVER_4_GB = 5 * 1024**3
_WIDE = [version for version in ALL_VERSIONS if version >= 64]
_NARROW = [version for version in ALL_VERSIONS if version < 64]


def put(path: Path, at: int, form: str, value: float) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(struct.pack(form, value))


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_both_readers_read_every_version_to_the_same_numbers(tmp_path: Path, version: int) -> None:
    path = tmp_path / "x.raw"
    synthetic.write(path, version)
    contents, other = thermo.read(path), opentfraw.RawFile(str(path)).scan_table()
    scans, numbers = contents.scans, range(SCANS)
    assert scans.ms_level.tolist() == other["ms_level"] == [*map(synthetic.level, numbers)]
    assert scans.rt_min.tolist() == other["retention_time"] == [*map(synthetic.rt_min, numbers)]
    assert scans.tic.tolist() == other["total_ion_current"] == [*map(synthetic.tic, numbers)]
    assert scans.injection_ms.tolist() == [*map(synthetic.injection_ms, numbers)]
    found = [None if math.isnan(mz) else mz for mz in scans.precursor_mz]
    assert found == other["isolation_target_mz"]
    assert contents.complete is True
    assert contents.facts["instrument_serial"] == "SN1"
    assert contents.facts["format_is_proven"] == int(version in (57, 66))


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_where_one_check_fails_there_is_no_figure(tmp_path: Path, version: int) -> None:
    path = tmp_path / "x.raw"
    places = synthetic.write(path, version)
    second = places.index_at + INDEX_BYTES[version]
    event = places.events_at + 4
    whole = path.read_bytes()
    for at, form, value in (
        (second + 4, "<I", 7),  # its number
        (second + 24, "<d", 0.1),  # its time, before that of the first
        (second + 32, "<d", -1.0),  # its TIC
        (second + 32, "<d", math.nan),
        (event + 6, "<B", 0),  # the first scan's MS level
        (event + 6, "<B", 11),
        (event + synthetic.EVENT_BYTES[version], "<I", 2),  # two isolations, where one stands
        (event + synthetic.EVENT_BYTES[version], "<I", 2**31),
    ):
        path.write_bytes(whole)
        put(path, at, form, value)
        with pytest.raises(FileFormatError, match="The format is not understood"):
            thermo.read(path)


def test_no_version_is_taken_for_another(tmp_path: Path) -> None:
    path = tmp_path / "x.raw"
    for written, claimed in permutations(ALL_VERSIONS, 2):
        synthetic.write(path, written)
        put(path, 0x24, "<I", claimed)
        with pytest.raises(MetricsError):
            thermo.read(path)


@pytest.mark.parametrize("version", _WIDE)
def test_a_file_of_more_than_4_gb_is_read_by_its_wide_addresses(
    tmp_path: Path, version: int
) -> None:
    path = tmp_path / "x.raw"
    places = synthetic.write(path, version, data_bytes=OVER_4_GB)
    assert places.index_at > 2**32
    contents = thermo.read(path)
    assert (contents.complete, len(contents.scans)) == (True, SCANS)
    os.truncate(path, places.size - 1)
    assert thermo.read(path).complete is False


@pytest.mark.parametrize("version", _NARROW)
def test_addresses_that_are_too_narrow_for_a_file_give_no_figure(
    tmp_path: Path, version: int
) -> None:
    path = tmp_path / "x.raw"
    synthetic.write(path, version, data_bytes=OVER_4_GB)
    with pytest.raises(FileFormatError):
        thermo.read(path)


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_after_a_truncation_none_is_complete(tmp_path: Path, version: int) -> None:
    path, chance = tmp_path / "x.raw", random.Random(version)
    places = synthetic.write(path, version)
    lengths = {places.size - left for left in range(1, 20)}
    lengths |= {chance.randrange(places.size) for _ in range(30)} | {*range(0, places.size, 4096)}
    for length in sorted(lengths, reverse=True):
        os.truncate(path, length)
        try:
            contents = thermo.read(path)
        except MetricsError:
            continue
        assert contents.complete is not True
        assert contents.scans.tic.tolist() == [*map(synthetic.tic, range(SCANS))]


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_without_the_parameters_header_completeness_is_not_known(
    tmp_path: Path, version: int
) -> None:
    path = tmp_path / "x.raw"
    places = synthetic.write(path, version)
    put(path, places.fields_at, "<I", 0)
    contents = thermo.read(path)
    assert contents.complete is None
    assert metrics_of(contents)["ms1_median_injection_time"] is None
    assert len(contents.scans) == SCANS


def test_of_a_header_that_does_not_fit_no_odd_time_is_taken(tmp_path: Path) -> None:
    """By its records the file would end elsewhere, and what they have as times can't be."""
    path = tmp_path / "x.raw"
    places = synthetic.write(path, 66)
    put(path, places.fields_at + 4, "<I", 1)  # the field before is a byte, and not two
    contents = thermo.read(path)
    assert (contents.complete, len(contents.scans.injection_ms)) == (None, 0)


def test_a_header_that_looks_endless_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, looked_at = tmp_path / "x.raw", []
    places = synthetic.write(path, 66, scans=1_000)
    # each 16 bytes are a count, and a field whose text covers the next one
    endless = struct.pack("<4I", 1999, 0, 0, 2) * (INDEX_BYTES[66] * 1_000 // 16)
    with path.open("r+b") as file:
        file.seek(places.fields_at)
        file.write(endless + thermo_scans.INJECTION_LABEL.encode("utf-16-le"))
    one_header = thermo_scans._header

    def counted(data: bytes, p: int, count: int) -> list[tuple[str, int, str]]:
        fields = one_header(data, p, count)
        looked_at.append(len(fields))
        return fields

    monkeypatch.setattr(thermo_scans, "_header", counted)
    run = thermo_scans.RunHeader(0, 1, 0, 0, places.fields_at, places.events_at, 0, 1, 1)
    with thermo.opened(path, "") as file:
        thermo_scans.read_parameters(file, run)
    assert 100_000 < sum(looked_at) < 103_000
