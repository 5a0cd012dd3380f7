"""Pump pressures are read as HyStar writes them, and damage to its file costs only them."""

import random
import sqlite3
from array import array
from contextlib import closing
from pathlib import Path

import pytest

from kraken_dagster.raw_readers import bruker, bruker_traces
from kraken_dagster.raw_readers.contents import RawContents
from kraken_dagster.raw_readers.metrics import metrics_of
from kraken_dagster_tests.raw_readers.real_files import damaged, dia_pasef, lengths

FILE_NAME = "chromatography-data.sqlite"
PRESSURE, USER_DEFINED = 4, 9999
NOT_TOLD, BAR, UNKNOWN, PSI = 0, 3, 7, 27
Source = tuple[str, str, int, int, float, list[float]]


def chromatography(raw: Path, *sources: Source) -> Path:
    """HyStar's file with (title, instrument, kind, unit, offset s, a value for each second)."""
    path = raw / FILE_NAME
    with closing(sqlite3.connect(path)) as database:
        database.executescript(
            """
            CREATE TABLE TraceSources (Id INTEGER PRIMARY KEY, Description TEXT, Instrument TEXT,
                InstrumentId TEXT, Type INTEGER, Unit INTEGER, TimeOffset REAL, Color INTEGER);
            CREATE TABLE TraceChunks (Trace INTEGER NOT NULL, Times BLOB NOT NULL,
                Intensities BLOB NOT NULL, FOREIGN KEY (Trace) REFERENCES TraceSources(Id));
            """
        )
        for number, (title, instrument, kind, unit, offset, values) in enumerate(sources, start=1):
            row = (number, title, instrument, "", kind, unit, offset, 0)
            database.execute("INSERT INTO TraceSources VALUES (?,?,?,?,?,?,?,?)", row)
            for begin in range(0, len(values), 2):
                part = values[begin : begin + 2]
                add_chunk(database, number, [begin + at for at in range(len(part))], part)
        database.commit()
    return path


def add_chunk(
    database: sqlite3.Connection, trace: int, seconds: list[float], values: list[float]
) -> None:
    chunk = (trace, array("d", seconds).tobytes(), array("f", values).tobytes())
    database.execute("INSERT INTO TraceChunks VALUES (?,?,?)", chunk)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return dia_pasef(tmp_path)


def test_the_pressure_of_a_pump_is_read_in_bar(raw: Path) -> None:
    chromatography(
        raw,
        ("BPC,±MS", "Bruker OTOF MS", 1, 6, 0.0, [1e9]),
        ("Pressure - [psi]", "Elute Pump", PRESSURE, NOT_TOLD, 0.0, [100.0, 1000.0, 900.0]),
        ("Pump HP:Pressure - [bar]", "Evosep One", USER_DEFINED, BAR, 30.0, [200.0, 250.0]),
        ("Fraction A - [%]", "Elute Pump", 5, 4, 0.0, [98.0]),
    )
    contents = bruker.read(raw)
    assert [trace.unit for trace in contents.traces] == ["bar", "bar"]
    psi, evosep = contents.traces
    assert psi.values.tolist() == pytest.approx([6.894757, 68.94757, 62.05282], rel=1e-6)
    assert evosep.rt_min.tolist() == pytest.approx([0.5, 31 / 60])
    metrics = metrics_of(contents)
    assert metrics["pump_pressure_max"] == metrics["evosep_pump_hp_pressure_max"] == 250


@pytest.mark.parametrize(
    ("title", "instrument", "is_evosep"),
    [
        ("Pump HP:Pressure - [bar]", "Agilent ICF System", True),  # the driver's name
        ("Pump HP:Pressure - [bar]", "Evosep One", True),
        ("HP pressure", "Evosep", True),
        ("Pump A:Pressure - [bar]", "Evosep One", False),
        ("Pressure - [psi]", "Elute Pump", False),
        ("HP pressure", "nanoElute", False),
    ],
)
def test_the_high_pressure_pump_of_an_evosep_is_known_by_its_name(
    raw: Path, title: str, instrument: str, is_evosep: bool
) -> None:
    chromatography(raw, (title, instrument, USER_DEFINED, BAR, 0.0, [300.0, 310.0]))
    metrics = metrics_of(bruker.read(raw))
    assert metrics["pump_pressure_max"] == 310
    assert metrics.get("evosep_pump_hp_pressure_max") == (310 if is_evosep else None)


@pytest.mark.parametrize(
    ("title", "kind", "unit", "highest"),
    [
        ("p", PRESSURE, BAR, 2.0),
        ("p", PRESSURE, 24, 0.002),  # mbar
        ("p", PRESSURE, 25, 0.02),  # kPa
        ("p", PRESSURE, 26, 20.0),  # MPa
        ("p", USER_DEFINED, PSI, 2 * 0.0689475729),
        ("Pressure - [Bar]", USER_DEFINED, NOT_TOLD, 2.0),
        ("LoadingPump - [bar]", USER_DEFINED, UNKNOWN, 2.0),
        ("LoadingPump_Pressure", USER_DEFINED, UNKNOWN, None),  # of what unit, nobody says
        ("Pressure", PRESSURE, NOT_TOLD, None),
        ("Flow - [µL/min]", USER_DEFINED, 2, None),
        ("Oven - [bar]", 7, BAR, None),  # a temperature
    ],
)
def test_a_pressure_is_one_whose_unit_is_told(
    raw: Path, title: str, kind: int, unit: int, highest: float | None
) -> None:
    chromatography(raw, (title, "Pump", kind, unit, 0.0, [1.0, 2.0]))
    found = metrics_of(bruker.read(raw)).get("pump_pressure_max")
    assert found == (None if highest is None else pytest.approx(highest))


def test_parts_that_overlap_come_in_the_order_of_time_and_once(raw: Path) -> None:
    """As HyStar writes some pumps: every sample three times, out of order."""
    path = chromatography(raw, ("Pump HP:Pressure", "x", PRESSURE, BAR, 0.0, []))
    with closing(sqlite3.connect(path)) as database:
        add_chunk(database, 1, [60.0, 120.0, 180.0], [100.0, 110.0, 120.0])
        add_chunk(database, 1, [120.0, 180.0, 240.0], [110.0, 120.0, 130.0])
        add_chunk(database, 1, [60.0, 120.0, 180.0, 180.0], [100.0, 110.0, 120.0, 90.0])
        database.commit()
    (trace,) = bruker.read(raw).traces
    assert trace.rt_min.tolist() == [1, 2, 3, 3, 4]
    assert trace.values.tolist() == [100, 110, 90, 120, 130]


def test_a_long_trace_keeps_its_highest_pressure(raw: Path) -> None:
    path = chromatography(raw, ("Pressure", "x", PRESSURE, BAR, 0.0, []))
    values = [200.0] * 50_000
    values[31_415] = 444.0
    with closing(sqlite3.connect(path)) as database:
        add_chunk(database, 1, [float(at) for at in range(len(values))], values)
        database.commit()
    contents = bruker.read(raw)
    (trace,) = contents.traces
    assert len(trace.values) <= 2000
    assert max(trace.values) == metrics_of(contents)["pump_pressure_max"] == 444


def test_what_was_not_measured_is_no_pressure(raw: Path) -> None:
    odd = [100.0, float("nan"), float("inf"), 3.4e38, -3.4e38]
    chromatography(raw, ("Pressure", "x", PRESSURE, BAR, 0.0, odd))
    contents = bruker.read(raw)
    assert [trace.values.tolist() for trace in contents.traces] == [[100.0]]
    assert metrics_of(contents)["pump_pressure_max"] == 100


def problem(contents: RawContents) -> str:
    assert len(contents.scans) == 5
    assert (contents.traces, contents.extra) == ((), {})
    return str(contents.facts["traces_problem"])


@pytest.mark.parametrize(
    "chunk",
    [
        (b"x" * 16, b"x" * 4),
        (b"x" * 7, b"x" * 3),
        (b"", b"x" * 4),
        (1, 1),
        ("x" * 8, "x" * 4),
    ],
)
def test_a_part_that_cant_be_is_told_and_costs_all_pressures(
    raw: Path, chunk: tuple[object, object]
) -> None:
    path = chromatography(raw, ("Pressure", "x", PRESSURE, BAR, 0.0, [1.0, 2.0]))
    with closing(sqlite3.connect(path)) as database:
        database.execute("INSERT INTO TraceChunks VALUES (1, ?, ?)", chunk)
        database.commit()
    assert "as many times as values" in problem(bruker.read(raw))


def test_more_values_than_there_can_be_are_told(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bruker_traces, "_MOST_VALUES", 3)
    chromatography(raw, ("Pressure", "x", PRESSURE, BAR, 0.0, [1.0] * 4))
    assert "at most 3 values" in problem(bruker.read(raw))


def test_a_damaged_file_costs_no_metric_of_scans(raw: Path) -> None:
    (raw / FILE_NAME).write_bytes(b"no database")
    assert f"{FILE_NAME} can't be read" in problem(bruker.read(raw))


def test_an_older_layout_is_told(raw: Path) -> None:
    with closing(sqlite3.connect(raw / FILE_NAME)) as database:
        database.execute("CREATE TABLE TraceSources (Id INTEGER PRIMARY KEY)")
        database.commit()
    assert "lacks Description" in problem(bruker.read(raw))


def test_whatever_is_done_to_it_the_scans_are_read(raw: Path) -> None:
    chance = random.Random(4)
    values = [chance.uniform(100, 400) for _ in range(300)]
    path = chromatography(raw, ("Pump HP:Pressure", "x", PRESSURE, BAR, 0.0, values))
    whole = path.read_bytes()
    for _ in damaged(path, range(len(whole)), chance, 150):
        _is_read_within_bounds(raw)
    for length in lengths(len(whole), chance, count=20):
        path.write_bytes(whole[:length])
        _is_read_within_bounds(raw)


def _is_read_within_bounds(raw: Path) -> None:
    contents = bruker.read(raw)
    assert len(contents.scans) == 5
    assert contents.complete is True
    for trace in contents.traces:
        assert all(abs(value) <= 1e5 for value in trace.values)
        assert sorted(trace.rt_min) == trace.rt_min.tolist()
