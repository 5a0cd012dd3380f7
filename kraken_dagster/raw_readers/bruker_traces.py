"""Pump pressures from `chromatography-data.sqlite`, which HyStar writes into a `.d` folder.

`TraceSources` has a row for each trace, with HyStar's numbers for kind and unit. `TraceChunks` has
the samples in the order of its rows: times (float64, seconds on the frames' clock, to which the
trace's `TimeOffset` is added) and values (float32), little-endian. As ProteoWizard reads them
(`ChromatographyDataSqliteReader.cpp`, `hystar_enum_definitions.txt`).
"""

import math
import sqlite3
import sys
from array import array
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from kraken_dagster.fs.tdf.index import open_tdf, require_columns, stands
from kraken_dagster.fs.tdf.sqlite_files import damaged
from kraken_dagster.model.errors import FileFormatError
from kraken_dagster.raw_readers.contents import LONGEST_FACT, Trace, numbers

FILE_NAME = "chromatography-data.sqlite"
BAR = "bar"
_PRESSURE, _USER_DEFINED = 4, 9999  # HyStar's kinds
# HyStar's units of pressure, in bar.
_UNITS = {3: 1.0, 24: 0.001, 25: 0.01, 26: 10.0, 27: 0.0689475729}
_PSI, _BAR = 27, 3
_MOST_SOURCES, _MOST_PRESSURES = 1_000, 8
_MOST_VALUES = 4_000_000
_SOURCE_COLUMNS = ("Id", "Description", "Instrument", "Type", "Unit", "TimeOffset")
_CHUNK_COLUMNS = ("Trace", "Times", "Intensities")


@dataclass(frozen=True)
class _Source:
    number: int
    title: str
    to_bar: float
    offset_s: float


def read_traces(raw: Path) -> tuple[tuple[Trace, ...], str]:
    """The pressures in bar, and what is wrong with the file, in which case there are none.

    No frame depends on this file: its absence is nothing unusual, and damage to it costs nothing
    else.
    """
    path = raw / FILE_NAME
    try:
        if not stands(path):
            return (), ""
        with closing(open_tdf(path)) as connection:
            try:
                return _pressures(connection, path), ""
            except sqlite3.DatabaseError as error:
                raise damaged(path, error) from error
    except FileFormatError as error:
        return (), str(error)[:LONGEST_FACT]


def pressure_metrics(traces: Sequence[Trace]) -> dict[str, float]:
    """The highest of all pumps, and of an Evosep's high-pressure pump under AlphaKraken's name."""
    found: dict[str, float] = {}
    highest = [max(trace.values) for trace in traces if trace.unit == BAR]
    if highest:
        found["pump_pressure_max"] = max(highest)
    evosep = [
        max(trace.values)
        for trace in traces
        if trace.unit == BAR and {"evosep", "hp"} <= _words(trace.title)
    ]
    if evosep:
        found["evosep_pump_hp_pressure_max"] = max(evosep)
    return found


def _words(title: str) -> set[str]:
    letters = "".join(one if one.isalnum() else " " for one in title.casefold())
    return set(letters.split())


def _pressures(connection: sqlite3.Connection, path: Path) -> tuple[Trace, ...]:
    require_columns(connection, path, "TraceSources", _SOURCE_COLUMNS)
    require_columns(connection, path, "TraceChunks", _CHUNK_COLUMNS)
    names = ", ".join(f'"{name}"' for name in _SOURCE_COLUMNS)
    # names can't be bound as parameters
    query = f'SELECT {names} FROM "TraceSources" ORDER BY "Id" LIMIT ?'  # noqa: S608
    sources = [_source(row) for row in connection.execute(query, (_MOST_SOURCES,))]
    known = [one for one in sources if one is not None][:_MOST_PRESSURES]
    found = [_trace(connection, path, one, at) for at, one in enumerate(known, start=1)]
    return tuple(one for one in found if len(one.values))


def _source(row: tuple[object, ...]) -> _Source | None:
    number, description, instrument, kind, unit, offset = row
    title = f"{instrument or ''} {description or ''}".strip()[:LONGEST_FACT]
    if kind == _PRESSURE and unit in (0, None):  # then the title tells it
        lower = title.lower()
        unit = _PSI if "[psi]" in lower else _BAR if "[bar]" in lower else None
    if kind not in (_PRESSURE, _USER_DEFINED) or unit not in _UNITS or not isinstance(number, int):
        return None
    offset_s = float(offset) if isinstance(offset, int | float) else 0.0
    return _Source(number, title, _UNITS[int(str(unit))], offset_s)


def _trace(connection: sqlite3.Connection, path: Path, source: _Source, at: int) -> Trace:
    rt, values = numbers(), numbers()
    query = 'SELECT "Times", "Intensities" FROM "TraceChunks" WHERE "Trace" = ? ORDER BY rowid'
    for times, found in connection.execute(query, (source.number,)):
        seconds, pressures = _array("d", times), _array("f", found)
        if len(seconds) != len(pressures) or len(rt) + len(seconds) > _MOST_VALUES:
            raise FileFormatError(
                f"A trace of {path.name} can't be",
                file=path,
                expected=f"as many times as values, at most {_MOST_VALUES}",
                found=f"{len(seconds)} and {len(pressures)} in a part of trace {source.number}",
            )
        for second, pressure in zip(seconds, pressures, strict=True):
            if math.isfinite(second) and math.isfinite(pressure):
                rt.append((second + source.offset_s) / 60)
                values.append(pressure * source.to_bar)
    return Trace(f"pressure_{at}", BAR, rt, values, source.title)


def _array(form: str, blob: object) -> "array[float]":
    found = array("d" if form == "d" else "f")
    if not isinstance(blob, bytes) or len(blob) % found.itemsize:
        return found
    found.frombytes(blob)
    if sys.byteorder == "big":
        found.byteswap()
    return found
