"""The program kraken-rawqc and the reading of analysis.tdf, on databases made here."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from kraken_dagster.backup.bruker_metadata import read_bruker_metadata
from kraken_dagster.fs.tdf.index import open_tdf
from kraken_dagster.metrics import rawqc
from kraken_dagster.model.errors import FileFormatError
from kraken_dagster_tests.raw_readers.real_files import table_of
from kraken_dagster_tests.support.whole_results import whole_metrics

SHARED = Path(__file__).resolve().parents[3] / "shared"

# Id, Time (s), MsMsType, SummedIntensities, AccumulationTime (ms)
FRAMES = [
    (1, 60.0, 0, 1000, 100.0),
    (2, 61.0, 9, 10, 50.0),
    (3, 62.0, 9, 30, 50.5),
    (4, 63.0, 0, 3000, 100.5),
    (5, 150.0, 8, 20, 51.0),
]
EXPECTED_TSV = (
    "raw_file\tms1_scans\tms1_median_tic\tms1_median_injection_time"
    "\tms2_scans\tms2_median_tic\tms2_median_injection_time\tgradient_length\n"
    "x.d\t2\t2000\t100.25\t3\t20\t50.5\t1.5\n"
)


def shared(*parts: str) -> Path:
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"the vendors' example files are not here: {'/'.join(parts)}")
    return path


def make_raw(
    folder: Path,
    frames: Sequence[tuple[object, ...]] = FRAMES,
    *,
    statements: Sequence[str] = (),
) -> Path:
    """A Bruker raw folder with a valid analysis.tdf, then changed by the SQL `statements`."""
    folder.mkdir(parents=True)
    with closing(sqlite3.connect(os.fsencode(folder / "analysis.tdf"))) as database:
        database.executescript(
            """
            CREATE TABLE Frames (Id INTEGER PRIMARY KEY, Time REAL, MsMsType INTEGER,
                SummedIntensities INTEGER, AccumulationTime REAL);
            CREATE TABLE GlobalMetadata (Key TEXT PRIMARY KEY, Value TEXT);
            INSERT INTO GlobalMetadata VALUES ('InstrumentName', 'timsTOF'), ('Description', NULL);
            """
        )
        database.executemany("INSERT INTO Frames VALUES (?,?,?,?,?)", frames)
        for statement in statements:
            database.execute(statement)
        database.commit()
    (folder / "analysis.tdf_bin").write_bytes(b"peaks")
    return folder


def state(folder: Path) -> list[tuple[str, int, bytes]]:
    """Name, mtime and content of everything in a folder, and the folder's own mtime."""
    files = [(p.name, p.stat().st_mtime_ns, p.read_bytes()) for p in sorted(folder.iterdir())]
    return [("", folder.stat().st_mtime_ns, b""), *files]


def results(output: Path) -> str:
    return (output / "msqc_results.tsv").read_text()


def test_metrics_are_written_as_one_row(tmp_path, capsys):
    raw = make_raw(tmp_path / "x.d")
    assert rawqc.main([str(raw), str(tmp_path / "deep" / "out")]) == 0
    assert results(tmp_path / "deep" / "out") == EXPECTED_TSV
    assert [p.name for p in (tmp_path / "deep" / "out").iterdir()] == ["msqc_results.tsv"]
    assert capsys.readouterr().err == ""


def test_the_log_shows_version_and_metrics(tmp_path, capsys):
    rawqc.main([str(make_raw(tmp_path / "x.d")), str(tmp_path / "out")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("kraken-rawqc ")
    assert "MS1: 2 scans, median TIC 2000, median injection time 100.25 ms" in lines
    assert "gradient: 1.500 min" in lines


def test_a_real_diapasef_file_is_read(tmp_path):
    raw = shared("data", "diaPASEF.d")
    assert rawqc.main([str(raw), str(tmp_path)]) == 0
    metrics = whole_metrics("msqc", tmp_path)
    assert (metrics["ms1_scans"], metrics["ms2_scans"]) == (1, 4)
    assert metrics["ms1_median_tic"] == 17889880
    assert metrics["ms2_median_tic"] == (679707 + 719638) / 2
    assert metrics["ms1_median_injection_time"] == 100.008
    assert metrics["gradient_length"] == pytest.approx((3866.71217019797 - 3866.2913197535813) / 60)


def test_what_it_writes_is_what_msqc_reads(tmp_path):
    rawqc.main([str(make_raw(tmp_path / "x.d")), str(tmp_path / "out")])
    assert whole_metrics("msqc", tmp_path / "out") == {
        "ms1_scans": 2,
        "ms1_median_tic": 2000,
        "ms1_median_injection_time": 100.25,
        "ms2_scans": 3,
        "ms2_median_tic": 20,
        "ms2_median_injection_time": 50.5,
        "gradient_length": 1.5,
    }


def test_a_level_without_frames_has_empty_medians(tmp_path):
    raw = make_raw(tmp_path / "x.d", FRAMES[:1])
    assert rawqc.main([str(raw), str(tmp_path / "out")]) == 0
    assert results(tmp_path / "out").splitlines()[1] == "x.d\t1\t1000\t100\t0\t\t\t0"
    metrics = whole_metrics("msqc", tmp_path / "out")
    assert metrics["ms2_scans"] == 0
    assert metrics["ms2_median_tic"] is None


@pytest.mark.parametrize(
    "name",
    [
        "a?b.d",
        "a#b.d",
        "100%25 %3f.d",
        "a?mode=rwc&immutable=0.d",
        "a b\tc\nd.d",
        'quote"s.d',
        "µ.d",
        os.fsdecode(b"\xff\xfe.d"),
    ],
)
def test_a_hostile_name_is_read_like_any_other(tmp_path, name):
    raw = make_raw(tmp_path / name)
    assert rawqc.main([str(raw), str(tmp_path / "out")]) == 0
    assert whole_metrics("msqc", tmp_path / "out")["ms1_scans"] == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, "out"])


def test_a_relative_path_is_named_after_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(make_raw(tmp_path / "x.d"))
    assert table_of(Path())["raw_file"] == "x.d"


@pytest.mark.parametrize("journal_mode", ["delete", "wal"])
def test_nothing_is_written_to_or_beside_the_raw_data(tmp_path, journal_mode):
    raw = make_raw(tmp_path / "x.d")
    with closing(sqlite3.connect(raw / "analysis.tdf")) as database:
        database.execute(f"PRAGMA journal_mode={journal_mode}")
    before = state(raw)
    assert rawqc.main([str(raw), str(tmp_path / "out")]) == 0
    assert read_bruker_metadata(raw)["InstrumentName"] == "timsTOF"
    assert state(raw) == before


def test_the_database_can_not_be_written_through_the_connection(tmp_path):
    path = make_raw(tmp_path / "x.d") / "analysis.tdf"
    with (
        closing(open_tdf(path)) as connection,
        pytest.raises(sqlite3.DatabaseError, match="not authorized"),
    ):
        connection.execute("DELETE FROM Frames")


@pytest.mark.parametrize(
    ("name", "exit_code", "reported"),
    [
        ("x.raw", 1, "There is no plain file x.raw"),
        ("x.wiff", 1, "There is no plain file x.wiff"),
        ("X.WIFF2", 3, "Sciex's .wiff2 is encrypted, and can't be read"),
        ("x.mzML", 3, "There is no reader for such raw files"),
        ("x", 3, "There is no reader for such raw files"),
    ],
)
def test_a_brukers_folder_under_another_name_is_refused(
    tmp_path, capsys, name, exit_code, reported
):
    raw = make_raw(tmp_path / name)
    assert rawqc.main([str(raw), str(tmp_path / "out")]) == exit_code
    (line,) = capsys.readouterr().err.splitlines()
    assert reported in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "exit_code"), [("x.d", 1), ("x.raw", 1), ("x.wiff", 1), ("x.wiff2", 3), ("x.mzML", 3)]
)
def test_an_empty_file_is_no_raw_data(tmp_path, name, exit_code):
    (tmp_path / name).write_bytes(b"")
    assert rawqc.main([str(tmp_path / name), str(tmp_path / "out")]) == exit_code


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("DROP TABLE Frames", "no table Frames"),
        ("ALTER TABLE Frames DROP COLUMN AccumulationTime", "lacks AccumulationTime"),
        ("DELETE FROM Frames", "no frames"),
        ("UPDATE Frames SET SummedIntensities = 'much' WHERE Id = 3", "'much'"),
        ("UPDATE Frames SET Time = NULL WHERE Id = 3", "None"),
    ],
)
def test_what_a_database_lacks_is_named(tmp_path, capsys, statement, named):
    raw = make_raw(tmp_path / "x.d", statements=[statement])
    assert rawqc.main([str(raw), str(tmp_path / "out")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert named in line
    assert str(raw / "analysis.tdf") in line
    assert not (tmp_path / "out").exists()


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:6000])


def _make_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (Path.unlink, "no analysis.tdf"),
        (_make_directory, "no analysis.tdf"),
        (lambda path: path.write_bytes(b"no database" * 1000), "not a database"),
        (lambda path: path.write_bytes(b""), "no table Frames"),
        (_truncate, "can't be read"),
    ],
    ids=["missing", "a folder", "other content", "empty", "truncated"],
)
def test_a_damaged_database_ends_with_exit_code_1(tmp_path, capsys, damage, named):
    raw = make_raw(tmp_path / "x.d", [(n, n, 9, n, 1.0) for n in range(1, 2000)])
    damage(raw / "analysis.tdf")
    assert rawqc.main([str(raw), str(tmp_path / "out")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert named in line
    assert str(raw / "analysis.tdf") in line


def test_a_missing_raw_folder_ends_with_exit_code_1(tmp_path, capsys):
    assert rawqc.main([str(tmp_path / "gone.d"), str(tmp_path / "out")]) == 1
    assert "gone.d" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["x.d"], ["x.d", "out", "more"], ["--what", "x.d", "o"]])
def test_wrong_arguments_end_with_exit_code_2(arguments):
    with pytest.raises(SystemExit) as exit_:
        rawqc.main(arguments)
    assert exit_.value.code == 2


@pytest.mark.parametrize("inside", ["", "out", "../x.d/out"])
def test_an_output_folder_in_the_raw_data_is_refused(tmp_path, inside):
    raw = make_raw(tmp_path / "x.d")
    before = state(raw)
    with pytest.raises(SystemExit) as exit_:
        rawqc.main([str(raw), str(raw / inside)])
    assert exit_.value.code == 2
    assert state(raw) == before


def test_an_output_that_can_not_be_written_ends_with_exit_code_1(tmp_path, capsys):
    raw = make_raw(tmp_path / "x.d")
    (tmp_path / "out").write_text("a file")
    assert rawqc.main([str(raw), str(tmp_path / "out")]) == 1
    assert "out" in capsys.readouterr().err


def test_an_older_result_is_replaced_and_nothing_else_is_left(tmp_path):
    raw = make_raw(tmp_path / "x.d")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "msqc_results.tsv").write_text("old")
    assert rawqc.main([str(raw), str(tmp_path / "out")]) == 0
    assert results(tmp_path / "out") == EXPECTED_TSV
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_a_failed_write_leaves_no_partial_table(tmp_path):
    raw = make_raw(tmp_path / "x.d")
    (tmp_path / "out" / "msqc_results.tsv").mkdir(parents=True)  # can't be replaced by a file
    assert rawqc.main([str(raw), str(tmp_path / "out")]) == 1
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["msqc_results.tsv"]


def test_the_result_has_the_rights_that_the_umask_leaves(tmp_path):
    raw = make_raw(tmp_path / "x.d")
    old = os.umask(0o022)
    try:
        rawqc.main([str(raw), str(tmp_path / "out")])
    finally:
        os.umask(old)
    assert (tmp_path / "out" / "msqc_results.tsv").stat().st_mode & 0o777 == 0o644


def test_it_runs_as_a_module_in_a_terminal_without_unicode(tmp_path):
    raw = make_raw(tmp_path / "µ.d")
    done = subprocess.run(
        [sys.executable, "-m", "kraken_dagster.metrics.rawqc", str(raw), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "1"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "raw file: '\\xb5.d'" in done.stdout
    assert results(tmp_path / "out").splitlines()[1].startswith("µ.d\t2\t")


def test_bruker_metadata_are_the_keys_and_values_of_the_table(tmp_path):
    raw = make_raw(tmp_path / "a?b #%.d")
    assert read_bruker_metadata(raw) == {"InstrumentName": "timsTOF", "Description": ""}


def test_a_real_files_metadata_are_read():
    metadata = read_bruker_metadata(shared("data", "diaPASEF.d"))
    assert metadata["AcquisitionDateTime"] == "2019-08-24T18:27:02.345+02:00"
    assert metadata["ClosedProperly"] == "1"


def test_an_empty_metadata_table_gives_no_metadata(tmp_path):
    raw = make_raw(tmp_path / "x.d", statements=["DELETE FROM GlobalMetadata"])
    assert read_bruker_metadata(raw) == {}


def test_metadata_in_another_encoding_do_not_cost_the_rest(tmp_path):
    statement = "INSERT INTO GlobalMetadata VALUES ('OperatorName', CAST(X'4DFC' AS TEXT))"
    metadata = read_bruker_metadata(make_raw(tmp_path / "x.d", statements=[statement]))
    assert metadata["OperatorName"] == "M�"
    assert metadata["InstrumentName"] == "timsTOF"


@pytest.mark.parametrize("how", ["no folder", "no table", "no database"])
def test_metadata_that_can_not_be_read_are_an_error(tmp_path, how):
    raw = make_raw(tmp_path / "x.d", statements=["DROP TABLE GlobalMetadata"])
    if how == "no folder":
        shutil.rmtree(raw)
    elif how == "no database":
        (raw / "analysis.tdf").write_bytes(b"x" * 4096)
    with pytest.raises(FileFormatError, match=r"analysis\.tdf"):
        read_bruker_metadata(raw)
