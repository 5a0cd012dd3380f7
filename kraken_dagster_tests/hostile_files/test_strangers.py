"""Files that were made to harm who reads them cost no run and no other file: in whole steps."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.backup.bruker_metadata import read_bruker_metadata
from kraken_dagster.fs import scanners
from kraken_dagster.fs.limited.child import end_idle
from kraken_dagster.fs.limited.limits import ReadingLimits
from kraken_dagster.metrics import rawqc
from kraken_dagster.metrics.limited import read_metrics
from kraken_dagster.model.errors import FileFormatError
from kraken_dagster.model.raw_file import Status
from kraken_dagster.quant.collect import collect
from kraken_dagster.raw_readers.limited import read_raw
from kraken_dagster_tests.hostile_files.test_limited_child import MARK, marked
from kraken_dagster_tests.raw_readers.test_rawqc import make_raw
from kraken_dagster_tests.support.fakes import custom_settings
from kraken_dagster_tests.support.helpers import (
    Bench,
    acquire,
    backed_up,
    finish,
    manifest_holds,
    tick_until_idle,
    wait_until,
)

LIMITS = ReadingLimits(memory_mb=1024, cpu_s=3, written_mb=50)

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
METADATA, FRAMES = "DROP TABLE GlobalMetadata", "DROP TABLE Frames"
ONE_FRAME = "1 AS Id, 1 AS Time, 0 AS MsMsType, 1 AS SummedIntensities, 1 AS AccumulationTime"
MUCH = "replace(hex(zeroblob(400000000)), '00', 'xx')"
QUOTED = MUCH.replace("'", "''")
HOSTILE = {
    "endless recursion": [
        METADATA,
        f"CREATE VIEW GlobalMetadata AS {ENDLESS} SELECT i AS Key, i AS Value FROM n WHERE i < 0",
        FRAMES,
        f"CREATE VIEW Frames AS {ENDLESS} SELECT {ONE_FRAME} FROM n WHERE i < 0",
    ],
    "endless rows": [
        METADATA,
        f"CREATE VIEW GlobalMetadata AS {ENDLESS} SELECT i AS Key, i AS Value FROM n",
        FRAMES,
        f"CREATE VIEW Frames AS {ENDLESS} SELECT {ONE_FRAME} FROM n",
    ],
    "a value of a gigabyte": [
        METADATA,
        f"CREATE VIEW GlobalMetadata AS SELECT 'a' AS Key, {MUCH} AS Value",
        FRAMES,
        f"CREATE VIEW Frames AS SELECT {ONE_FRAME}, {MUCH} AS x",
    ],
    "a computed column": [
        METADATA,
        "CREATE TABLE GlobalMetadata (Key TEXT)",
        "INSERT INTO GlobalMetadata VALUES ('a')",
        FRAMES,
        "CREATE TABLE Frames (Id, Time, MsMsType, SummedIntensities)",
        "INSERT INTO Frames VALUES (1, 1, 0, 1)",
        "PRAGMA writable_schema=ON",
        f"UPDATE sqlite_master SET sql = rtrim(sql, ')') || ', Value AS ({QUOTED}))'"
        " WHERE name = 'GlobalMetadata'",
        f"UPDATE sqlite_master SET sql = rtrim(sql, ')') || ', AccumulationTime AS ({QUOTED}))'"
        " WHERE name = 'Frames'",
    ],
    "a view that says that it is a table": [
        METADATA,
        f"CREATE VIEW GlobalMetadata AS {ENDLESS} SELECT i AS Key, i AS Value FROM n",
        FRAMES,
        f"CREATE VIEW Frames AS {ENDLESS} SELECT {ONE_FRAME} FROM n",
        "PRAGMA writable_schema=ON",
        "UPDATE sqlite_master SET type = 'table' WHERE type = 'view'",
    ],
    "a table of another module": [
        METADATA,
        "CREATE VIRTUAL TABLE GlobalMetadata USING fts5(Key, Value)",
        FRAMES,
        "CREATE VIRTUAL TABLE Frames USING fts5(Id, Time, MsMsType, SummedIntensities,"
        " AccumulationTime)",
    ],
}


def make_hostile(folder: Path, name: str) -> Path:
    return make_raw(folder, statements=HOSTILE[name])


@pytest.fixture(autouse=True)
def nothing_goes_on(tmp_path, monkeypatch):
    scanners.give_back(scanners.take())  # one that outlives the test is begun without the mark
    monkeypatch.setenv(MARK, tmp_path.name)
    yield
    end_idle()
    wait_until(lambda: not marked(tmp_path.name), "nothing goes on")


@pytest.fixture
def limited(make_services, config):
    return make_services(config.model_copy(update={"reading_limits": LIMITS}))


@pytest.mark.parametrize("name", HOSTILE)
def test_sqlite_is_asked_for_tables_only(tmp_path, name):
    raw = make_hostile(tmp_path / "x.d", name)
    with pytest.raises(FileFormatError):
        read_bruker_metadata(raw)
    with pytest.raises(FileFormatError):
        read_raw(raw, limits=LIMITS, wall_s=60)


def test_the_error_says_what_stands_there(tmp_path, capsys):
    raw = make_hostile(tmp_path / "x.d", "endless rows")
    assert rawqc.main([str(raw), str(tmp_path / "out")]) == rawqc.EXIT_FAILED
    reported = capsys.readouterr().err
    assert "analysis.tdf has no table Frames" in reported
    assert "Expected a table with rows of its own. Found a view of this name." in reported


def test_links_and_pipes_are_not_read(tmp_path):
    elsewhere = make_raw(tmp_path / "elsewhere.d")
    raw = make_raw(tmp_path / "x.d")
    (raw / "analysis.tdf").unlink()
    (raw / "analysis.tdf").symlink_to(elsewhere / "analysis.tdf")
    with pytest.raises(FileFormatError, match="no plain file"):
        read_bruker_metadata(raw)
    (raw / "analysis.tdf").unlink()
    (raw / "analysis.tdf").hardlink_to(elsewhere / "analysis.tdf")
    (raw / "analysis.tdf-wal").symlink_to(elsewhere / "analysis.tdf")
    with pytest.raises(FileFormatError, match="no plain file"):
        read_bruker_metadata(raw)


def test_too_many_rows_are_an_error(tmp_path, monkeypatch):
    rows = "INSERT INTO GlobalMetadata SELECT i, i FROM n"
    endless = ENDLESS.replace("FROM n", "FROM n LIMIT 100001")
    raw = make_raw(tmp_path / "x.d", statements=[f"{endless} {rows}"])
    with pytest.raises(FileFormatError, match="at most 100000 rows"):
        read_bruker_metadata(raw)


def test_a_hostile_index_costs_neither_the_backup_nor_the_run(limited):
    bench = Bench(limited, "bruker1")
    for name in HOSTILE:
        bench.write(stem := f"{name.replace(' ', '_')}.d")
        index = bench.folder / stem / "analysis.tdf"
        make_hostile(bench.folder / "made.d", name)
        (bench.folder / "made.d" / "analysis.tdf").rename(index)
        (bench.folder / "made.d" / "analysis.tdf_bin").unlink()
        (bench.folder / "made.d").rmdir()
    bench.write("good.d")
    finish(limited, "bruker1")
    for name in bench.statuses():
        back_up(limited, name, run_id="run-1", options=BackupOptions(), by_hand=False)
        raw_file = limited.store.raw_files.get(name)
        assert raw_file.status is Status.COPYING_DONE
        assert raw_file.verified_at is not None
        assert manifest_holds(limited.backup_folder(raw_file), f"{name}.md5")
        if name != "good.d":
            facts = raw_file.acquisition["instrument"]
            assert facts["ClosedProperly"] == "unknown"
            assert f"{name}/analysis.tdf'" in facts["analysis.tdf"]


def test_an_index_that_ends_its_reader_costs_neither(limited, monkeypatch):
    """Whatever SQLite itself can be brought to: here by a reader that isn't as careful."""
    monkeypatch.setattr(
        "kraken_dagster.backup.bruker_metadata.__name__",
        "kraken_dagster_tests.hostile_files.careless",
    )
    acquire(limited, "bruker1", "x.d")
    finish(limited, "bruker1")
    back_up(limited, "x.d", run_id="run-1", options=BackupOptions(), by_hand=False)
    raw_file = limited.store.raw_files.get("x.d")
    assert raw_file.status is Status.COPYING_DONE
    reported = raw_file.acquisition["instrument"]["analysis.tdf"]
    assert reported.startswith("Reading takes more processor time than allowed: '")
    assert "x.d/analysis.tdf'. Expected an end within 3 s of it." in reported


def packed_text(folder: Path) -> None:
    """A text of 20 MB in 2 KB."""
    text = pa.array(["x" * 20_000_000], pa.large_string())
    write_table(pa.table({"sequence": text, "charge": [1.0]}), folder)


def packed_text_among_others(folder: Path) -> None:
    """The same among so many texts that all of them may be as long."""
    text = pa.array([*["x"] * 999, "x" * 20_000_000], pa.large_string())
    write_table(pa.table({"sequence": text, "charge": [1.0] * 1000}), folder)


def write_table(table: pa.Table, folder: Path) -> None:
    pq.write_table(
        table,
        folder / "precursors.parquet",
        compression="zstd",
        use_dictionary=False,
        write_statistics=False,
    )


def packed_dictionary(folder: Path) -> None:
    """45 GB: one text of 900 KB, a great many times."""
    words = pa.array(["x" * 900_000])
    indices = pa.array([0] * 50_000, pa.int32())
    table = pa.table({"sequence": pa.DictionaryArray.from_arrays(indices, words)})
    pq.write_table(table, folder / "precursors.parquet", compression="zstd")


def endless_line(folder: Path) -> None:
    with (folder / "precursors.tsv").open("wb") as file:
        file.write(b"sequence\tcharge\n" + b"x" * 1_000_000)
        file.truncate(60 * 1024**3)  # and zeros


HOSTILE_TABLES = [packed_text, packed_text_among_others, packed_dictionary, endless_line]


@pytest.mark.parametrize("write", HOSTILE_TABLES)
def test_a_hostile_table_costs_its_own_metrics_only(tmp_path, write):
    (tmp_path / "stat.tsv").write_text("run\tproteins\nx\t7\n")
    write(tmp_path)
    reading = read_metrics("alphadia", tmp_path, limits=LIMITS, wall_s=120)
    assert reading.metrics["proteins"] == 7
    assert reading.problems
    assert all(isinstance(problem, FileFormatError) for problem in reading.problems)


def test_a_function_that_ends_its_process_costs_its_own_file_only(
    make_services, config, monkeypatch, tmp_path
):
    (tmp_path / "our_metrics.py").write_text(
        "import os\n"
        "def read(folder):\n"
        "    if (folder / 'bad').exists(): os._exit(7)\n"
        "    return {'files': 1}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    own = {"metrics": {"ours": "our_metrics:read"}, "reading_limits": LIMITS}
    services = make_services(config.model_copy(update=own))
    script = 'case "$RAW_FILE_PATH" in *bad*) touch "$OUTPUT_PATH/bad";; esac'
    custom_settings(services, "s", script, metrics_type="ours")
    for name in ("bad.raw", "good.raw"):
        backed_up(services, "thermo1", name)
    tick_until_idle(services)  # which fails if the bad one is tried again for ever
    good, bad = (services.store.raw_files.get(name) for name in ("good.raw", "bad.raw"))
    assert good.status is Status.DONE
    assert bad.status is Status.QUANTING_FAILED
    assert "The function 'our_metrics:read' for metrics of type 'ours' has failed" in (
        bad.status_details
    )
    assert [item["files"] for item in services.store.metrics.of("good.raw")] == [1]
    collect(services, "bad.raw", run_id="again")
    assert services.store.raw_files.get("bad.raw").status is Status.QUANTING_FAILED
