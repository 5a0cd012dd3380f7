"""Bruker's index is read whole: with its journal, and only if its data are there."""

import os
import shutil
import sqlite3
import struct
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from kraken_dagster.backup.bruker_metadata import read_bruker_metadata
from kraken_dagster.fs.tdf import journal as tdf_journal
from kraken_dagster.metrics import rawqc
from kraken_dagster.model.errors import FileFormatError, UnsupportedRawFile
from kraken_dagster_tests.raw_readers.real_files import table_of
from kraken_dagster_tests.raw_readers.test_rawqc import shared, state

BLOB = 64  # bytes of each frame in the data


def frame(number: int) -> tuple[object, ...]:
    return number, number / 10, 0 if number % 10 == 0 else 9, 1000 + number, (number - 1) * BLOB


def blob(length: int = BLOB) -> bytes:
    return struct.pack("<II", length, 1) + b"\0" * (length - 8)


class Acquisition:
    """A writer in the middle of its work, whose files can be copied as they stand."""

    def __init__(self, folder: Path, *, name: str = "analysis.tdf", mode: str = "wal") -> None:
        folder.mkdir(parents=True)
        self.folder, self.index, self.frames = folder, folder / name, 0
        self.database = sqlite3.connect(self.index, isolation_level=None)
        self.database.execute(f"PRAGMA journal_mode={mode}")
        self.database.execute("PRAGMA wal_autocheckpoint=0")
        accumulation = "" if name == "analysis.tsf" else ", AccumulationTime REAL DEFAULT 100.0"
        self.database.executescript(
            f"""
            CREATE TABLE GlobalMetadata (Key TEXT PRIMARY KEY, Value TEXT);
            INSERT INTO GlobalMetadata VALUES ('ClosedProperly', '0');
            CREATE TABLE Frames (Id INTEGER PRIMARY KEY, Time REAL, MsMsType INTEGER,
                SummedIntensities INTEGER, TimsId INTEGER{accumulation});
            """
        )

    def add(self, count: int) -> None:
        self.database.execute("BEGIN")
        self._insert(count)
        self.database.execute("COMMIT")

    def _insert(self, count: int) -> None:
        rows = [frame(n) for n in range(self.frames + 1, self.frames + count + 1)]
        self.database.executemany(
            "INSERT INTO Frames (Id, Time, MsMsType, SummedIntensities, TimsId) VALUES (?,?,?,?,?)",
            rows,
        )
        self.frames += count
        with (self.folder / f"{self.index.name}_bin").open("ab") as data:
            data.write(blob() * count)

    def close_properly(self) -> None:
        self.database.execute("UPDATE GlobalMetadata SET Value = '1'")

    def checkpoint(self) -> None:
        self.database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def copied(self, raw: Path, *names: str) -> Path:
        raw.mkdir(exist_ok=True)
        for name in names or (p.name for p in self.folder.iterdir() if p.name[-4:] != "-shm"):
            shutil.copy(self.folder / name, raw / name)
        return raw


@pytest.fixture
def acquisition(tmp_path):
    made = Acquisition(tmp_path / "instrument")
    yield made
    made.database.close()


def scans(raw: Path) -> tuple[int, int]:
    metrics = table_of(raw)
    return metrics["ms1_scans"], metrics["ms2_scans"]


def refused(raw: Path) -> str:
    with pytest.raises(FileFormatError) as error:
        table_of(raw)
    return str(error.value)


@pytest.mark.parametrize("in_file", [0, 40, 5960])
def test_frames_in_the_wal_are_read_too(acquisition, tmp_path, in_file):
    acquisition.add(in_file)
    acquisition.checkpoint()
    acquisition.add(6000 - in_file)
    acquisition.close_properly()
    raw = acquisition.copied(tmp_path / "s.d")
    assert (raw / "analysis.tdf-wal").stat().st_size > 0
    before = state(raw)
    assert scans(raw) == (600, 5400)
    assert read_bruker_metadata(raw)["ClosedProperly"] == "1"
    assert state(raw) == before


def test_tables_that_are_in_the_wal_only_are_read(acquisition, tmp_path):
    acquisition.add(100)
    assert scans(acquisition.copied(tmp_path / "s.d")) == (10, 90)


def test_a_wal_that_is_older_than_its_database_takes_no_frame_out(acquisition, tmp_path):
    acquisition.add(100)
    raw = acquisition.copied(tmp_path / "s.d", "analysis.tdf-wal")
    acquisition.add(5900)
    acquisition.close_properly()
    acquisition.checkpoint()
    acquisition.copied(raw, "analysis.tdf", "analysis.tdf_bin")
    assert scans(raw) == (600, 5400)
    assert read_bruker_metadata(raw)["ClosedProperly"] == "1"


def test_a_wal_of_an_open_acquisition_is_older_than_a_closed_database(acquisition, tmp_path):
    acquisition.add(100)
    raw = acquisition.copied(tmp_path / "s.d", "analysis.tdf-wal")
    acquisition.close_properly()
    acquisition.checkpoint()
    acquisition.copied(raw, "analysis.tdf", "analysis.tdf_bin")
    assert read_bruker_metadata(raw)["ClosedProperly"] == "1"


def test_frames_that_were_not_committed_are_none(acquisition, tmp_path):
    acquisition.add(100)
    raw = acquisition.copied(tmp_path / "s.d")
    acquisition.database.execute("PRAGMA cache_spill=1")
    acquisition.database.execute("PRAGMA cache_size=1")
    acquisition.database.execute("BEGIN")
    acquisition._insert(500)
    acquisition.copied(raw, "analysis.tdf-wal")
    acquisition.database.execute("ROLLBACK")
    assert scans(raw) == (10, 90)


def damage_page(wal: bytearray) -> None:
    wal[len(wal) // 2] ^= 0xFF


def damage_magic(wal: bytearray) -> None:
    wal[:4] = b"\0\0\0\0"


def damage_checksum(wal: bytearray) -> None:
    wal[24] ^= 0xFF


def cut_to_a_stump(wal: bytearray) -> None:
    del wal[20:]


@pytest.mark.parametrize("damage", [damage_page, damage_magic, damage_checksum, cut_to_a_stump])
def test_a_damaged_wal_is_refused_by_name(acquisition, tmp_path, damage, capsys):
    acquisition.add(40)
    acquisition.checkpoint()
    for _ in range(20):
        acquisition.add(200)
    raw = acquisition.copied(tmp_path / "s.d")
    content = bytearray((raw / "analysis.tdf-wal").read_bytes())
    damage(content)
    (raw / "analysis.tdf-wal").write_bytes(content)
    assert rawqc.main([str(raw), str(tmp_path / "out")]) == 1
    assert "analysis.tdf-wal" in capsys.readouterr().err
    with pytest.raises(FileFormatError, match=r"analysis\.tdf-wal"):
        read_bruker_metadata(raw)


def test_a_wal_that_was_cut_off_has_its_frames_missed(acquisition, tmp_path):
    """Nothing in the log tells, but the data have frames of which the index knows nothing."""
    acquisition.add(4)
    acquisition.checkpoint()
    for _ in range(50):
        acquisition.add(40)
    raw = acquisition.copied(tmp_path / "s.d")
    os.truncate(raw / "analysis.tdf-wal", 32 + 4 * (24 + 4096))
    assert "analysis.tdf_bin" in refused(raw)


def test_a_lost_wal_is_told_by_the_data(acquisition, tmp_path):
    acquisition.add(40)
    acquisition.checkpoint()
    acquisition.add(5960)
    raw = acquisition.copied(tmp_path / "s.d", "analysis.tdf", "analysis.tdf_bin")
    assert "of which its index knows nothing" in refused(raw)


@pytest.mark.parametrize("suffix", ["-wal", "-journal"])
def test_an_empty_journal_is_none(acquisition, tmp_path, suffix):
    acquisition.add(100)
    acquisition.checkpoint()
    raw = acquisition.copied(tmp_path / "s.d", "analysis.tdf", "analysis.tdf_bin")
    (raw / f"analysis.tdf{suffix}").touch()
    assert scans(raw) == (10, 90)


def test_a_journal_that_is_no_file_is_refused(acquisition, tmp_path):
    acquisition.add(100)
    acquisition.checkpoint()
    raw = acquisition.copied(tmp_path / "s.d", "analysis.tdf", "analysis.tdf_bin")
    (raw / "analysis.tdf-wal").mkdir()
    assert "analysis.tdf-wal" in refused(raw)


def test_a_hot_rollback_journal_is_rolled_back(tmp_path):
    acquisition = Acquisition(tmp_path / "instrument", mode="delete")
    acquisition.add(1000)
    acquisition.close_properly()
    acquisition.database.execute("PRAGMA cache_size=1")
    acquisition.database.execute("BEGIN")
    acquisition.database.execute("UPDATE Frames SET MsMsType = 0, Time = Time + 1")
    acquisition.database.execute("DELETE FROM Frames WHERE Id > 10")
    raw = acquisition.copied(tmp_path / "s.d")
    acquisition.database.close()
    assert (raw / "analysis.tdf-journal").stat().st_size > 0
    before = state(raw)
    assert scans(raw) == (100, 900)
    assert state(raw) == before


def test_a_copy_that_finds_no_room_is_refused_by_name(acquisition, tmp_path, monkeypatch):
    acquisition.add(100)
    raw = acquisition.copied(tmp_path / "s.d")
    monkeypatch.setattr(tdf_journal, "MOST_BYTES", 1000)
    assert ["analysis.tdf-wal" in refused(raw), "no room" in refused(raw)] == [True, True]


def test_nothing_is_left_of_a_private_copy(acquisition, tmp_path):
    acquisition.add(100)
    raw, private = acquisition.copied(tmp_path / "s.d"), tmp_path / "private"
    private.mkdir()
    command = [sys.executable, "-m", "kraken_dagster.metrics.rawqc", str(raw), str(tmp_path / "o")]
    done = subprocess.run(command, env={**os.environ, "TMPDIR": str(private)}, capture_output=True)
    assert (done.returncode, list(private.iterdir())) == (0, [])


# --- data


@pytest.mark.parametrize("left", [0, 10 * BLOB, 99 * BLOB, 99 * BLOB + 3, 100 * BLOB - 1])
def test_an_index_that_knows_more_than_its_data_is_incomplete(acquisition, tmp_path, left):
    acquisition.add(100)
    acquisition.checkpoint()
    raw = acquisition.copied(tmp_path / "s.d")
    os.truncate(raw / "analysis.tdf_bin", left)
    reported = refused(raw)
    assert "frame 100" in reported
    assert f"Found {left} bytes" in reported
    assert str(raw / "analysis.tdf_bin") in reported


def test_an_index_without_data_is_incomplete(acquisition, tmp_path):
    acquisition.add(100)
    raw = acquisition.copied(tmp_path / "s.d")
    (raw / "analysis.tdf_bin").unlink()
    assert "no such file" in refused(raw)


def test_data_that_were_cut_are_not_taken_for_those_of_the_index_without_its_wal(
    acquisition, tmp_path
):
    acquisition.add(3000)
    acquisition.checkpoint()
    acquisition.add(3000)
    raw = acquisition.copied(tmp_path / "s.d")
    os.truncate(raw / "analysis.tdf_bin", 4500 * BLOB)
    assert "frame 6000" in refused(raw)


def test_zeros_in_place_of_the_last_frame_are_no_data(acquisition, tmp_path):
    acquisition.add(100)
    raw = acquisition.copied(tmp_path / "s.d")
    data = (raw / "analysis.tdf_bin").read_bytes()
    (raw / "analysis.tdf_bin").write_bytes(data[:-BLOB] + b"\0" * BLOB)
    assert "frame 100" in refused(raw)


def test_data_in_which_no_lengths_stand_are_only_measured(acquisition, tmp_path):
    acquisition.add(100)
    raw = acquisition.copied(tmp_path / "s.d")
    (raw / "analysis.tdf_bin").write_bytes(b"x" * (99 * BLOB + 10))
    assert scans(raw) == (10, 90)


def test_slack_behind_the_last_frame_is_nothing_unusual(acquisition, tmp_path):
    acquisition.add(100)
    raw = acquisition.copied(tmp_path / "s.d")
    os.truncate(raw / "analysis.tdf_bin", 150 * BLOB)
    assert scans(raw) == (10, 90)


def test_real_data_that_are_cut_by_a_byte_of_the_last_frame_are_incomplete(tmp_path):
    raw = tmp_path / "diaPASEF.d"
    shutil.copytree(shared("data", "diaPASEF.d"), raw, copy_function=shutil.copyfile)
    raw.chmod(0o755)
    os.truncate(raw / "analysis.tdf_bin", 610304 + 135677)
    assert scans(raw) == (1, 4)
    os.truncate(raw / "analysis.tdf_bin", 610304 + 135677 - 1)
    assert "Expected 745981 bytes. Found 745980 bytes" in refused(raw)


# --- without ion mobility


def test_a_tsf_is_read_without_accumulation_times(tmp_path):
    acquisition = Acquisition(tmp_path / "instrument", name="analysis.tsf")
    acquisition.add(100)
    raw = acquisition.copied(tmp_path / "q.d")
    acquisition.database.close()
    assert (raw / "analysis.tsf-wal").stat().st_size > 0
    metrics = table_of(raw)
    assert (metrics["ms1_scans"], metrics["ms2_scans"]) == (10, 90)
    assert metrics["ms1_median_tic"] == 1055
    assert metrics["ms1_median_injection_time"] is None
    assert read_bruker_metadata(raw) == {"ClosedProperly": "0"}
    os.truncate(raw / "analysis.tsf_bin", 50 * BLOB)
    assert str(raw / "analysis.tsf_bin") in refused(raw)


def test_a_baf_is_another_vendor_format_that_is_not_read_yet(tmp_path):
    raw = tmp_path / "q.d"
    raw.mkdir()
    (raw / "analysis.baf").write_bytes(b"x")
    with pytest.raises(UnsupportedRawFile, match=r"analysis\.baf can't be read yet"):
        table_of(raw)
    assert rawqc.main([str(raw), str(tmp_path / "out")]) == 3


def test_times_in_which_nothing_was_trapped_are_no_injection_times(acquisition, tmp_path):
    acquisition.add(100)
    with closing(acquisition.database.cursor()) as cursor:
        cursor.execute("UPDATE Frames SET AccumulationTime = -1 WHERE Id > 10 AND MsMsType = 0")
        cursor.execute("UPDATE Frames SET AccumulationTime = 0 WHERE MsMsType = 9")
    metrics = table_of(acquisition.copied(tmp_path / "s.d"))
    assert metrics["ms1_median_injection_time"] == 100
    assert metrics["ms2_median_injection_time"] is None
