"""Reads Bruker's `.d` folders: `analysis.tdf` or `analysis.tsf`, whose table `Frames` has a row for
each frame, and `chromatography-data.sqlite`. Spectra are not looked at.
"""

import re
import sqlite3
import struct
from array import array
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from kraken_dagster.fs.tdf.data import require_all_data
from kraken_dagster.fs.tdf.index import TSF_NAME, index_path, open_tdf, require_columns, stands
from kraken_dagster.fs.tdf.sqlite_files import MOST_ROWS, damaged
from kraken_dagster.model.errors import FileFormatError, UnsupportedRawFile
from kraken_dagster.raw_readers.bruker_traces import read_traces
from kraken_dagster.raw_readers.byte_file import opened
from kraken_dagster.raw_readers.contents import (
    LONGEST_FACT,
    MOST_INJECTION_MS,
    MOST_INTENSITY,
    MOST_MINUTES,
    MOST_MZ,
    Fact,
    RawContents,
    Scans,
)

NAME = "bruker"
MS1 = 0  # Frames.MsMsType; 8 is dda-PASEF, 9 dia-PASEF
_COLUMNS = ("MsMsType", "Time", "SummedIntensities")
_ACCUMULATION = "AccumulationTime"  # of what was trapped: a tsf has none
_BASE_PEAK = "MaxIntensity"
_BAF_NAME = "analysis.baf"
_SQLITE_HEADER = struct.Struct(">H6xII")  # from byte 16: page size, changes, pages
_MOST_KEYS, _LONGEST_KEY = 10_000, 100
_AT_ONCE, _MOST_CELL_BYTES = 100, 100_000
_FACTS = {
    "instrument_name": "InstrumentName",
    "instrument_serial": "InstrumentSerialNumber",
    "instrument_software": "AcquisitionSoftware",
    "instrument_software_version": "AcquisitionSoftwareVersion",
    "method": "MethodName",
    "sample_id": "SampleName",
    "operator": "OperatorName",
}


def read(path: Path) -> RawContents:
    """What the frames' database says.

    Raises:
        UnsupportedRawFile: an `analysis.baf`, whose index has no metrics.
        FileFormatError: the database is missing, damaged, or has no frames.
    """
    index = index_path(path)
    if not stands(index) and stands(path / _BAF_NAME):
        raise UnsupportedRawFile(
            f"{_BAF_NAME} can't be read yet",
            file=path,
            expected="a Bruker .d folder with analysis.tdf or analysis.tsf",
        )
    with closing(open_tdf(index)) as connection:
        try:
            keys = _global_metadata(connection, index)
            scans = _scans(connection, index, keys)
            complete, incomplete = _completeness(connection, index, keys)
        except sqlite3.DatabaseError as error:
            raise damaged(index, error) from error
    traces, pressures, problem = read_traces(path)
    return RawContents(
        reader=NAME,
        format_version=_format_version(keys),
        scans=scans,
        facts=_facts(keys) | ({"traces_problem": problem} if problem else {}),
        complete=complete,
        incomplete=incomplete,
        gradient_start_min=scans.rt_min[0],
        traces=traces,
        extra=pressures,
    )


def _scans(connection: sqlite3.Connection, path: Path, keys: dict[str, str]) -> Scans:
    # Only what was trapped has such a time.
    is_tsf = path.name == TSF_NAME
    required = _COLUMNS if is_tsf else (*_COLUMNS, _ACCUMULATION)
    found = require_columns(connection, path, "Frames", required)
    names = [f'"{name}"' for name in _COLUMNS]
    names += [f'"{n}"' if n.lower() in found else "NULL" for n in (_BASE_PEAK, _ACCUMULATION)]
    scans = Scans()
    # names can't be bound as parameters
    query = f'SELECT {", ".join(names)} FROM "Frames"'  # noqa: S608
    for rows in _blocks(connection, query):
        if len(scans) + len(rows) > MOST_ROWS:
            raise FileFormatError(
                f"Table Frames of {path.name} is too big",
                file=path,
                expected=f"at most {MOST_ROWS} rows",
            )
        _add(scans, path, rows, is_tsf)
    if not len(scans):
        raise FileFormatError(f"Table Frames of {path.name} has no frames", file=path)
    for column in (scans.base_peak, scans.injection_ms):  # all of it, or nothing
        if len(column) != len(scans):
            del column[:]
    scans = _in_order_of_time(scans)
    low, high = _float(keys.get("MzAcqRangeLower")), _float(keys.get("MzAcqRangeUpper"))
    if low is not None and high is not None and 0 <= low <= high <= MOST_MZ:
        scans.low_mz.append(low)
        scans.high_mz.append(high)
        scans.low_mz.extend(scans.low_mz * (len(scans) - 1))
        scans.high_mz.extend(scans.high_mz * (len(scans) - 1))
    return scans


def _in_order_of_time(scans: Scans) -> Scans:
    """Frames stand in their order, as a rule. SQLite's own sorting has no bounds."""
    times = scans.rt_min
    if all(before <= after for before, after in pairwise(times)):
        return scans
    order = sorted(range(len(times)), key=times.__getitem__)
    columns = ("rt_min", "tic", "base_peak", "injection_ms")
    sorted_columns = {
        name: array("d", (column[at] for at in order))
        if (column := getattr(scans, name))
        else column
        for name in columns
    }
    return Scans(array("B", (scans.ms_level[at] for at in order)), **sorted_columns)


def _blocks(connection: sqlite3.Connection, query: str) -> Iterator[list[tuple[Any, ...]]]:
    """Rows of short cells, some at once: their columns are taken as a whole."""
    before = connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_CELL_BYTES)
    try:
        cursor = connection.execute(query)
        while rows := cursor.fetchmany(_AT_ONCE):
            yield rows
    finally:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, before)


def _add(scans: Scans, path: Path, rows: list[tuple[Any, ...]], is_tsf: bool) -> None:
    kinds, times, tics, base_peaks, trapped = zip(*rows, strict=True)
    numbers = partial(_numbers, path)
    levels = (1 if kind == MS1 else 2 for kind in numbers(kinds, most=MOST_INTENSITY))
    scans.ms_level.extend(levels)
    scans.rt_min.extend(time / 60 for time in numbers(times, most=60 * MOST_MINUTES))
    scans.tic.extend(numbers(tics, most=MOST_INTENSITY))
    if None not in base_peaks:
        scans.base_peak.extend(numbers(base_peaks, most=MOST_INTENSITY))
    if None not in trapped or not is_tsf:
        least = -MOST_INJECTION_MS  # what is below 0 was not measured
        scans.injection_ms.extend(numbers(trapped, least=least, most=MOST_INJECTION_MS))


def _numbers(
    path: Path, cells: tuple[Any, ...], *, most: float, least: float = 0
) -> "array[float]":
    try:
        found = array("d", cells)
        if least <= min(found) and max(found) <= most:
            return found
    except TypeError:
        pass
    odd = next(c for c in cells if not (isinstance(c, int | float) and least <= c <= most))
    raise FileFormatError(
        f"Table Frames of {path.name} has a cell that can't be",
        file=path,
        expected=f"numbers from {least:g} to {most:g} in {', '.join((*_COLUMNS, _ACCUMULATION))}",
        found=repr(odd)[:LONGEST_FACT],
    )


def _completeness(
    connection: sqlite3.Connection, path: Path, keys: dict[str, str]
) -> tuple[bool | None, str]:
    try:
        require_all_data(connection, path)
    except FileFormatError as error:
        return False, str(error)
    if (short := _cut_database(path)) is not None:
        return False, short
    if keys.get("ClosedProperly", "1") != "1":
        return None, "The acquisition software has not closed it (ClosedProperly)."
    return True, ""


def _cut_database(path: Path) -> str | None:
    """What a database lacks of the size that its header tells: SQLite reads the pages that are
    there. A header that a program of before 2010 wrote tells none (https://sqlite.org/fileformat.html).
    """
    with opened(path, "an SQLite database") as file:
        page, changes, pages = _SQLITE_HEADER.unpack(file.read(16, 16, "header"))
        valid_for = int.from_bytes(file.read(92, 4, "header"), "big")
        size = pages * (65536 if page == 1 else page)
        if changes != valid_for or size <= file.size:
            return None
        return f"Expected {size} bytes in {path.name}, found {file.size}."


def _global_metadata(connection: sqlite3.Connection, path: Path) -> dict[str, str]:
    """Nothing where there is no such table: the metrics don't depend on it."""
    try:
        require_columns(connection, path, "GlobalMetadata", ("Key", "Value"))
    except FileFormatError:
        return {}
    query = 'SELECT "Key", "Value" FROM "GlobalMetadata" LIMIT ?'
    rows = connection.execute(query, (_MOST_KEYS,))
    return {
        str(key): str(value)[:LONGEST_FACT]
        for key, value in rows
        if value is not None and len(str(key)) <= _LONGEST_KEY
    }


def _format_version(keys: dict[str, str]) -> str:
    kind, *numbers = (
        keys.get(f"Schema{part}", "") for part in ("Type", "VersionMajor", "VersionMinor")
    )
    return f"{kind} {'.'.join(filter(None, numbers))}".strip() or "not told"


def _facts(keys: dict[str, str]) -> dict[str, Fact]:
    found: dict[str, Fact] = {name: keys.get(key) for name, key in _FACTS.items()}
    acquired = keys.get("AcquisitionDateTime", "")
    found["acquired_local"] = acquired or None
    found["utc_offset_min"] = None
    if re.search(r"[+-]\d\d:\d\d$", acquired):
        try:
            offset = datetime.fromisoformat(acquired).utcoffset()
        except ValueError:
            offset = None
        found["utc_offset_min"] = int(offset.total_seconds() // 60) if offset is not None else None
    return found


def _float(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
