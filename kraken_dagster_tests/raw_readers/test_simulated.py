"""What the simulated laboratory writes is read: by Kraken, and by another reader to the same
numbers.
"""

from pathlib import Path

import opentfraw
import pytest

from kraken_dagster.fs.limited.limits import ReadingLimits
from kraken_dagster.operations.doctor.readers import compare_readers
from kraken_dagster.raw_readers import bruker, thermo
from kraken_dagster.raw_readers.metrics import metrics_of
from kraken_dagster.simulation.clock import LabClock
from kraken_dagster.simulation.instruments import Acquisition, SimulatedInstrument
from kraken_dagster_tests.raw_readers.real_files import small_raw


def acquired(folder: Path, acquisition: Acquisition) -> Path:
    instrument = SimulatedInstrument(folder, acquisition.vendor, LabClock(20_000))
    for _ in instrument.steps(acquisition):
        pass
    return folder / acquisition.name


@pytest.mark.parametrize("size_bytes", [24_000, 30_001, 300_000, 2_000_000])
def test_a_simulated_thermo_file_is_read_by_both_readers_to_the_same_numbers(
    tmp_path: Path, size_bytes: int
) -> None:
    raw = acquired(tmp_path, Acquisition("x.raw", "thermo", 20, size_bytes, seed=7))
    contents, other = thermo.read(raw), opentfraw.RawFile(str(raw)).scan_table()
    assert contents.complete is True
    scans = contents.scans
    assert scans.ms_level.tolist() == other["ms_level"]
    assert scans.rt_min.tolist() == other["retention_time"]
    assert scans.tic.tolist() == other["total_ion_current"]
    assert scans.base_peak.tolist() == other["base_peak_intensity"]
    assert scans.injection_ms.tolist() == other["ion_injection_time_ms"]
    assert scans.low_mz.tolist() == other["low_mz"]
    ms2 = [at for at, level in enumerate(scans.ms_level) if level == 2]
    found = [scans.precursor_mz[at] for at in ms2]
    assert found == [other["isolation_target_mz"][at] for at in ms2]


def test_a_spray_that_died_is_a_drop(tmp_path: Path) -> None:
    for dies, drops in ((False, 0), (True, 1)):
        plan = Acquisition("x.raw", "thermo", 20, 2_000_000, seed=7, spray_dies=dies)
        metrics = metrics_of(thermo.read(acquired(tmp_path / str(dies), plan)))
        assert (metrics["tic_drops"], metrics["tic_jumps"]) == (drops, 0)


def test_a_thermo_file_that_is_still_written_has_no_metrics(tmp_path: Path) -> None:
    instrument = SimulatedInstrument(tmp_path, "thermo", LabClock(20_000))
    steps = instrument.steps(Acquisition("x.raw", "thermo", 20, 300_000, seed=7))
    for _ in range(10):
        next(steps)
        with pytest.raises(Exception, match="ends before the end of its"):
            thermo.read(tmp_path / "x.raw")


def test_a_simulated_bruker_folder_is_read(tmp_path: Path) -> None:
    raw = acquired(tmp_path, Acquisition("x.d", "bruker", 20, 300_000, seed=7))
    contents = bruker.read(raw)
    metrics = metrics_of(contents)
    assert contents.complete is True
    assert (metrics["ms1_scans"], metrics["ms2_scans"]) == (1265, 10120)
    assert metrics["tic_drops"] == 0


def test_the_doctor_compares_both_readers(tmp_path: Path) -> None:
    raw = acquired(tmp_path, Acquisition("x.raw", "thermo", 20, 300_000, seed=7))
    found = compare_readers(raw, ReadingLimits())
    assert [item.level for item in found] == ["ok"] * 7
    assert found[2].found == "273 scans, all equal"


def test_where_they_differ_it_is_told(tmp_path: Path) -> None:
    raw = tmp_path / "small.RAW"  # of which the second reader has no injection times
    raw.write_bytes(small_raw())
    found = {item.what: item.found for item in compare_readers(raw, ReadingLimits())}
    assert found["readers: tic"] == "48 scans, all equal"
    assert "opentfraw has no number for 48" in found["readers: injection_ms"]


def test_what_one_cant_read_is_an_error(tmp_path: Path) -> None:
    raw = tmp_path / "x.raw"
    raw.write_bytes(b"x" * 5000)
    (found,) = compare_readers(raw, ReadingLimits())
    assert (found.level, "This is no Thermo raw file" in found.found) == ("error", True)
