"""Pump pressures from `chromatography-data.sqlite`, which HyStar writes into a `.d` folder.

`TraceSources` has a row for each trace, with HyStar's numbers for kind and unit. `TraceChunks` has
the samples in the order of its rows: times (float64, seconds on the frames' clock, to which the
trace's `TimeOffset` is added) and values (float32), little-endian. As ProteoWizard reads them
(`ChromatographyDataSqliteReader.cpp`, `hystar_enum_definitions.txt`). Chunks may overlap: HyStar
has been seen to write each sample three times, out of the order of time.
"""

import sqlite3
import sys
from array import array
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from kraken_dagster.fs.tdf.index import open_tdf, require_columns, stands
from kraken_dagster.fs.tdf.sqlite_files import damaged
from kraken_dagster.model.errors import FileFormatError
from kraken_dagster.raw_readers.contents import LONGEST_FACT, Trace, numbers
from kraken_dagster.raw_readers.traces import decimated

FILE_NAME = "chromatography-data.sqlite"
BAR = "bar"
_PRESSURE, _USER_DEFINED = 4, 9999  # HyStar's kinds
# HyStar's units of pressure, in bar.
_UNITS = {3: 1.0, 24: 0.001, 25: 0.01, 26: 10.0, 27: 0.0689475729}
_PSI, _BAR = 27, 3
_NOT_TOLD = (None, 0, 7)  # as units: none, unknown
_MOST_SOURCES, _MOST_PRESSURES = 1_000, 8
_MOST_VALUES = 1_000_000
_MOST_BAR, _MOST_SECONDS = 1e5, 6e6  # beyond them nothing was measured
# How an Evosep names its high-pressure pump; HyStar may know the whole by its driver's name only.
_EVOSEP_PUMP = "pump hp:"
_SOURCE_COLUMNS = ("Id", "Description", "Instrument", "Type", "Unit", "TimeOffset")
_CHUNK_COLUMNS = ("Trace", "Times", "Intensities")


@dataclass(frozen=True)
class _Source:
    number: int
    title: str
    to_bar: float
    offset_s: float
    is_evosep_hp: bool


def read_traces(raw: Path) -> tuple[tuple[Trace, ...], dict[str, float], str]:
    """The pressures in bar, small enough to be kept; their metrics; and what is wrong with the
    file, in which case there are none of both.

    No frame depends on this file: its absence is nothing unusual, and damage to it costs nothing
    else.
    """
    path = raw / FILE_NAME
    try:
        if not stands(path):
            return (), {}, ""
        with closing(open_tdf(path)) as connection:
            try:
                found = _pressures(connection, path)
            except sqlite3.DatabaseError as error:
                raise damaged(path, error) from error
    except FileFormatError as error:
        return (), {}, str(error)[:LONGEST_FACT]
    return tuple(trace for _, trace in found), _metrics(found), ""


def _metrics(found: Sequence[tuple[_Source, Trace]]) -> dict[str, float]:
    """The highest of all pumps, and of an Evosep's high-pressure pump under AlphaKraken's name."""
    highest = [(source, max(trace.values)) for source, trace in found]
    evosep = [value for source, value in highest if source.is_evosep_hp]
    metrics = {"pump_pressure_max": max(value for _, value in highest)} if highest else {}
    return metrics | ({"evosep_pump_hp_pressure_max": max(evosep)} if evosep else {})


def _words(title: str) -> set[str]:
    letters = "".join(one if one.isalnum() else " " for one in title.casefold())
    return set(letters.split())


def _pressures(connection: sqlite3.Connection, path: Path) -> list[tuple[_Source, Trace]]:
    require_columns(connection, path, "TraceSources", _SOURCE_COLUMNS)
    require_columns(connection, path, "TraceChunks", _CHUNK_COLUMNS)
    names = ", ".join(f'"{name}"' for name in _SOURCE_COLUMNS)
    # names can't be bound as parameters
    query = f'SELECT {names} FROM "TraceSources" ORDER BY "Id" LIMIT ?'  # noqa: S608
    sources = [_source(row) for row in connection.execute(query, (_MOST_SOURCES,))]
    known = [one for one in sources if one is not None][:_MOST_PRESSURES]
    found = [(one, _trace(connection, path, one, at)) for at, one in enumerate(known, start=1)]
    return [(source, trace) for source, trace in found if len(trace.values)]


def _source(row: tuple[object, ...]) -> _Source | None:
    number, description, instrument, kind, unit, offset = row
    title = f"{instrument or ''} {description or ''}".strip()[:LONGEST_FACT]
    if unit in _NOT_TOLD:  # then the title tells it
        lower = title.lower()
        unit = _PSI if "[psi]" in lower else _BAR if "[bar]" in lower else None
    if kind not in (_PRESSURE, _USER_DEFINED) or unit not in _UNITS or not isinstance(number, int):
        return None
    offset_s = float(offset) if isinstance(offset, int | float) else 0.0
    named = str(description or "").strip().casefold().startswith(_EVOSEP_PUMP)
    is_evosep_hp = named or {"evosep", "hp"} <= _words(title)
    return _Source(number, title, _UNITS[int(str(unit))], offset_s, is_evosep_hp)


def _trace(connection: sqlite3.Connection, path: Path, source: _Source, at: int) -> Trace:
    rt, values = numbers(), numbers()
    query = 'SELECT "Times", "Intensities" FROM "TraceChunks" WHERE "Trace" = ? ORDER BY rowid'
    for row in connection.execute(query, (source.number,)):
        seconds, pressures = (_array(form, blob) for form, blob in zip("df", row, strict=True))
        if seconds is None or pressures is None or len(seconds) != len(pressures):
            raise _odd(path, source, "as many times as values, of 8 and 4 bytes", "others")
        if len(rt) + len(seconds) > _MOST_VALUES:
            raise _odd(path, source, f"at most {_MOST_VALUES} values", "more")
        for second, pressure in zip(seconds, pressures, strict=True):
            bar, minute = pressure * source.to_bar, (second + source.offset_s) / 60
            if abs(bar) <= _MOST_BAR and abs(minute) <= _MOST_SECONDS / 60:  # and no NaN
                rt.append(minute)
                values.append(bar)
    return decimated(_in_order(Trace(f"pressure_{at}", BAR, rt, values, source.title)))


def _in_order(trace: Trace) -> Trace:
    """In the order of time, and what stands there twice once."""
    rt, values = trace.rt_min, trace.values
    if all(before < after for before, after in pairwise(rt)):
        return trace
    order = sorted(range(len(rt)), key=lambda at: (rt[at], values[at]))
    kept = [
        at
        for before, at in zip([None, *order], order, strict=False)
        if before is None or (rt[before], values[before]) != (rt[at], values[at])
    ]
    sorted_rt, sorted_values = (array("d", (column[at] for at in kept)) for column in (rt, values))
    return Trace(trace.name, trace.unit, sorted_rt, sorted_values, trace.title)


def _odd(path: Path, source: _Source, expected: str, found: str) -> FileFormatError:
    return FileFormatError(
        f"A trace of {path.name} can't be",
        file=path,
        expected=expected,
        found=f"{found} in a part of trace {source.number}",
    )


def _array(form: str, blob: object) -> "array[float] | None":
    """None for what is no such array."""
    found = array("d" if form == "d" else "f")
    if not isinstance(blob, bytes) or len(blob) % found.itemsize:
        return None
    found.frombytes(blob)
    if sys.byteorder == "big":
        found.byteswap()
    return found
