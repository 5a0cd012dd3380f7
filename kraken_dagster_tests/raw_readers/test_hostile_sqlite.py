"""What an SQLite file can hold that was made to harm its reader, in Bruker's index and in HyStar's
file of traces: an error of one line, or the numbers that there are.
"""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest

from kraken_dagster.fs.limited.limits import ReadingLimits
from kraken_dagster.model.errors import FileFormatError
from kraken_dagster.raw_readers import bruker
from kraken_dagster.raw_readers.limited import read_raw
from kraken_dagster_tests.raw_readers.real_files import dia_pasef
from kraken_dagster_tests.raw_readers.test_bruker_traces import BAR, PRESSURE, chromatography

MANY = 50_000
INDEX = "analysis.tdf"
# What a row of the schema is made of; the table of the real name is left as it is.
ENTRIES = {
    "tables": ("table", "x{0}", 2, "CREATE TABLE x{0} (a)"),
    "views": ("view", "x{0}", 0, "CREATE VIEW x{0} AS SELECT 1"),
    "triggers": (
        "trigger",
        "{1}",
        0,
        "CREATE TRIGGER x{0} AFTER INSERT ON {1} BEGIN SELECT 1; END",
    ),
}
LIMITS = ReadingLimits(memory_mb=256, cpu_s=20)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    raw = dia_pasef(tmp_path)
    chromatography(raw, ("Pressure", "x", PRESSURE, BAR, 0.0, [100.0, 200.0]))
    return raw


def changed(
    raw: Path, name: str, *statements: str, schema: Iterable[tuple[object, ...]] = ()
) -> None:
    with closing(sqlite3.connect(raw / name)) as database:
        database.execute("BEGIN")
        for statement in statements:
            database.execute(statement)
        database.commit()
        if schema:
            database.execute("PRAGMA writable_schema=ON")
            database.executemany("INSERT INTO sqlite_master VALUES (?,?,?,?,?)", schema)
        database.commit()


def entries(kind: str, table: str) -> Iterable[tuple[object, ...]]:
    what, of, page, statement = ENTRIES[kind]
    for at in range(MANY):
        yield what, f"x{at}", of.format(at, table), page, statement.format(at, table)


@pytest.mark.parametrize("kind", ENTRIES)
def test_an_index_of_countless_tables_is_an_error(raw: Path, kind: str) -> None:
    changed(raw, INDEX, schema=entries(kind, "Frames"))
    with pytest.raises(FileFormatError, match="more than a thousand tables, views or triggers"):
        read_raw(raw, limits=LIMITS, wall_s=60)


@pytest.mark.parametrize("kind", ENTRIES)
def test_traces_of_countless_tables_cost_the_traces_only(raw: Path, kind: str) -> None:
    changed(raw, "chromatography-data.sqlite", schema=entries(kind, "TraceChunks"))
    reading = read_raw(raw, limits=LIMITS, wall_s=60)
    assert (reading.metrics["ms1_scans"], reading.metrics["ms2_scans"]) == (1, 4)
    assert "more than a thousand tables" in str(reading.facts["traces_problem"])
    assert "pump_pressure_max" not in reading.metrics


def test_many_tables_are_read(raw: Path) -> None:
    changed(raw, INDEX, *(f"CREATE TABLE x{at} (a)" for at in range(500)))
    assert len(bruker.read(raw).scans) == 5


def test_triggers_do_nothing(raw: Path) -> None:
    for name, table in ((INDEX, "Frames"), ("chromatography-data.sqlite", "TraceChunks")):
        changed(
            raw,
            name,
            f"CREATE TRIGGER x AFTER INSERT ON {table} BEGIN DELETE FROM {table}; END",
        )
    contents = bruker.read(raw)
    assert (len(contents.scans), contents.extra["pump_pressure_max"]) == (5, 200)


@pytest.mark.parametrize("table", ["TraceSources", "TraceChunks"])
def test_a_view_in_place_of_traces_is_not_asked(raw: Path, table: str) -> None:
    columns = {
        "TraceSources": "i AS Id, '' AS Description, '' AS Instrument, 4 AS Type, 3 AS Unit,"
        " 0 AS TimeOffset",
        "TraceChunks": "1 AS Trace, zeroblob(8) AS Times, zeroblob(4) AS Intensities",
    }
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
    changed(
        raw,
        "chromatography-data.sqlite",
        f"DROP TABLE {table}",
        f"CREATE VIEW {table} AS {endless} SELECT {columns[table]} FROM n",
    )
    contents = bruker.read(raw)
    assert contents.traces == ()
    assert f"no table {table}" in str(contents.facts["traces_problem"])


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE Frames SET SummedIntensities = CAST(zeroblob({size}) AS TEXT)",
        "UPDATE Frames SET Time = CAST(zeroblob({size}) AS TEXT) WHERE Id = 2",
        "UPDATE Frames SET Time = '{text}' WHERE Id = 2",
    ],
)
@pytest.mark.parametrize("size", [1_000_000, 20_000_000])
def test_a_huge_text_where_a_number_stands_is_an_error_of_one_line(
    raw: Path, statement: str, size: int
) -> None:
    changed(raw, INDEX, statement.format(size=size, text="x" * 900_000))
    with pytest.raises(FileFormatError) as error:
        bruker.read(raw)
    assert len(str(error.value)) < 3_000
    assert "\n" not in str(error.value)


def test_huge_texts_among_the_facts_are_cut_or_left_out(raw: Path) -> None:
    changed(
        raw,
        INDEX,
        "UPDATE GlobalMetadata SET Value = CAST(zeroblob(1000000) AS TEXT)"
        " WHERE Key = 'InstrumentName'",
        "INSERT INTO GlobalMetadata VALUES (CAST(zeroblob(1000000) AS TEXT), 'x')",
        "UPDATE GlobalMetadata SET Value = 'inf' WHERE Key = 'MzAcqRangeUpper'",
    )
    contents = bruker.read(raw)
    assert (len(contents.scans), len(contents.scans.high_mz)) == (5, 0)
    assert all(len(str(fact)) <= 1_000 for fact in contents.facts.values())


@pytest.mark.parametrize("value", [-1.0, 1e300, -1e-300, 2**62, "9e999", None])
@pytest.mark.parametrize("column", ["Time", "SummedIntensities"])
def test_a_number_beyond_its_bounds_is_an_error(raw: Path, column: str, value: object) -> None:
    with closing(sqlite3.connect(raw / INDEX)) as database:
        database.execute("PRAGMA writable_schema=ON")  # NOT NULL is no promise of a stranger's
        database.execute(
            "UPDATE sqlite_master SET sql = replace(sql, 'NOT NULL', '') WHERE name = 'Frames'"
        )
        database.commit()
    with closing(sqlite3.connect(raw / INDEX)) as database:
        database.execute(f"UPDATE Frames SET {column} = ? WHERE Id = 2", (value,))
        database.commit()
    with pytest.raises(FileFormatError, match="has a cell that can't be"):
        bruker.read(raw)
