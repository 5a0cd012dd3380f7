"""The tables of a Thermo raw file with an entry for each scan: index, events, parameters.

Nothing of them is taken unless all of it is as it has to be.
"""

import math
import struct
from array import array
from collections.abc import Callable
from dataclasses import dataclass

from kraken_dagster.raw_readers.byte_file import BLOCK_BYTES, ByteFile
from kraken_dagster.raw_readers.contents import (
    MOST_INJECTION_MS,
    MOST_INTENSITY,
    MOST_MINUTES,
    MOST_MZ,
    levels,
    numbers,
)
from kraken_dagster.raw_readers.thermo_layout import WIDE, RunHeader, VersionLayout

INJECTION_LABEL = "Ion Injection Time (ms):"
BEHIND_PARAMETERS = 4  # bytes that end a file
_LEAST_INJECTION_MS = 1e-4
MOST_LEVEL = 10
_MOST_REACTIONS, _MOST_RANGES = 64, 1000
_MOST_EVENT_BYTES = 64 * 1024
_LEVEL_AT = 6
_COUNT = struct.Struct("<I")
_FIRST_DOUBLE = struct.Struct("<d")
# Of a parameter's type: its bytes, and how `struct` reads it, where it is a number.
_TYPES = {
    0: (0, ""), 1: (1, "b"), 2: (1, "B"), 3: (1, "B"), 4: (1, "B"), 5: (1, "B"), 6: (2, "h"),
    7: (2, "H"), 8: (4, "i"), 9: (4, "I"), 10: (4, "f"), 11: (8, "d"),
}  # fmt: skip
_TEXT, _WIDE_TEXT = 12, 13
_MOST_FIELDS, _MOST_LABEL, _MOST_TEXT_BYTES = 2000, 400, 70_000
_HEADER_BEFORE_LABEL = 16 * 1024
_MOST_LOOKED_AT = 100_000  # fields
_MOST_SEARCHED = 64 * BLOCK_BYTES


@dataclass(frozen=True)
class Index:
    """Columns of the scan index; `data_end` is counted from the data's first byte."""

    rt_min: "array[float]"
    tic: "array[float]"
    base_peak: "array[float]"
    low_mz: "array[float]"
    high_mz: "array[float]"
    data_end: int


@dataclass(frozen=True)
class Parameters:
    """Of each scan; `record_bytes` is None where their header was not found."""

    record_bytes: int | None
    injection_ms: "array[float]"


def read_index(file: ByteFile, run: RunHeader, layout: VersionLayout, version: int) -> Index:
    """Raises FileFormatError: it ends too early, or a number in it can't be."""
    found = Index(numbers(), numbers(), numbers(), numbers(), numbers(), 0)
    wide = "Q" if version >= WIDE else ""
    form = struct.Struct(f"<2I2H3I6d{wide}")
    entry = struct.Struct(f"{form.format}{layout.index_entry - form.size}x")
    number, last_rt, data_end = 0, 0.0, 0
    blocks = file.entries(run.index_at, layout.index_entry, run.scans, "scan index")
    for block in blocks:
        for one in entry.iter_unpack(block):
            rt, tic, base_peak, _, low, high = one[7:13]
            data_end = max(data_end, (one[13] if wide else one[0]) + one[6])
            if not (
                one[1] == number
                and last_rt <= rt <= MOST_MINUTES
                and 0 <= tic <= MOST_INTENSITY
                and 0 <= base_peak <= MOST_INTENSITY
                and 0 <= low <= high <= MOST_MZ
            ):
                raise file.not_understood(
                    f"entry {number + 1} of the scan index",
                    expected=f"number {number}, a time from {last_rt:g} min, and intensities and "
                    "m/z of 0 or more",
                    found=f"{one[1]}, {rt:g} min, {tic:g}, {base_peak:g}, {low:g} to {high:g}",
                )
            number, last_rt = number + 1, rt
            found.rt_min.append(rt)
            found.tic.append(tic)
            found.base_peak.append(base_peak)
            found.low_mz.append(low)
            found.high_mz.append(high)
    return Index(found.rt_min, found.tic, found.base_peak, found.low_mz, found.high_mz, data_end)


def read_events(
    file: ByteFile, run: RunHeader, layout: VersionLayout
) -> tuple["array[int]", "array[float]"]:
    """MS level and m/z of the first isolation of each scan. An event says its own length.

    Raises:
        FileFormatError: they don't end where the parameters begin, or one of them can't be.
    """
    found, precursors = levels(), numbers()
    at, end = run.events_at + 4, run.parameters_at
    count = _COUNT.unpack(file.read(run.events_at, 4, "scan events"))[0]
    buffer, p = b"", 0
    if count not in (0, run.scans) or not at < end <= file.size:
        raise _odd_events(file, f"from byte {at} to {end}, {count} of them", run)
    for _ in range(run.scans):
        if len(buffer) - p < _MOST_EVENT_BYTES and at + len(buffer) < end:
            at, p, buffer = at + p, 0, b""
            buffer = file.read(at, min(BLOCK_BYTES, end - at), "scan events")
        try:
            level, precursor, p = _event(buffer, p, layout)
        except (struct.error, IndexError, ValueError) as error:
            raise _odd_events(file, f"event {len(found) + 1} is none", run) from error
        found.append(level)
        precursors.append(precursor)
    if at + p != end:
        raise _odd_events(file, f"an end at byte {at + p}", run)
    return found, precursors


def _event(data: bytes, start: int, layout: VersionLayout) -> tuple[int, float, int]:
    level = data[start + _LEVEL_AT]
    p = start + layout.event_info
    (reactions,) = _COUNT.unpack_from(data, p)
    isolates = reactions and level > 1  # an MS1 scan may have its whole range there
    precursor = _FIRST_DOUBLE.unpack_from(data, p + 4)[0] if isolates else math.nan
    p += 4 + layout.reaction * reactions
    if reactions > _MOST_REACTIONS or not 1 <= level <= MOST_LEVEL:
        raise ValueError
    for width in (16, 8, 8, 16):  # ranges, calibrators, source fragmentations, their ranges
        (count,) = _COUNT.unpack_from(data, p)
        if count > _MOST_RANGES:
            raise ValueError
        p += 4 + width * count
    if layout.named_events:
        (count,) = _COUNT.unpack_from(data, p)
        p += 4 + 2 * count
    if p > len(data):
        raise ValueError
    return level, precursor if 0 < precursor <= MOST_MZ else math.nan, p


def _odd_events(file: ByteFile, found: str, run: RunHeader) -> Exception:
    return file.not_understood(
        "its scan events",
        expected=f"{run.scans} events that end at byte {run.parameters_at}, each with an MS level "
        f"of 1 to {MOST_LEVEL}",
        found=found,
    )


def read_parameters(file: ByteFile, run: RunHeader) -> Parameters:
    """Injection times (ms), NaN where there is none; no column where the file is too short."""
    if not run.parameters:
        return Parameters(None, numbers())
    fields = _fields(file, run)
    if fields is None:
        return Parameters(None, numbers())
    record = _record_bytes(fields)
    ends_at = run.parameters_at + record * run.scans
    if ends_at > file.size:
        return Parameters(record, numbers())
    times = _injection_times(file, run, fields)
    if ends_at + BEHIND_PARAMETERS != file.size and not all(map(_is_time, times)):
        return Parameters(None, numbers())  # the header was another's
    return Parameters(record, array("d", (one if _is_time(one) else math.nan for one in times)))


def _injection_times(file: ByteFile, run: RunHeader, fields: "_Fields") -> "array[float]":
    found = numbers()
    record, offset = _record_bytes(fields), 0
    for label, size, form in fields:
        if label == INJECTION_LABEL and form:
            one = struct.Struct(f"<{offset}x{form}{record - offset - size}x")
            for block in file.entries(run.parameters_at, record, run.scans, "scan parameters"):
                found.extend(value for (value,) in one.iter_unpack(block))
            break
        offset += size
    return found


def _is_time(value: float) -> bool:
    """What an instrument can have waited for; bytes of something else are rarely such a number."""
    return value == 0 or _LEAST_INJECTION_MS <= value <= MOST_INJECTION_MS


_Fields = list[tuple[str, int, str]]  # label, bytes, form


def _record_bytes(fields: _Fields) -> int:
    return sum(size for _, size, _ in fields)


def _fields(file: ByteFile, run: RunHeader) -> _Fields | None:
    """The parameters' header. It stands behind the error log, at no address that the file tells: so
    the label of the injection time is looked for, and then the header's begin before it.
    """
    label_at = _find(file, INJECTION_LABEL.encode("utf-16-le"), run.error_log_at, run.events_at)
    if label_at is None:
        return None
    begin = max(run.error_log_at, label_at - _HEADER_BEFORE_LABEL)
    data = file.read(begin, min(run.events_at - begin, BLOCK_BYTES), "scan parameters")

    def fits(fields: _Fields) -> bool:
        ends_at = run.parameters_at + _record_bytes(fields) * run.scans + BEHIND_PARAMETERS
        return ends_at == file.size

    return _first_header(data, label_at - begin, fits)


def _first_header(data: bytes, label_at: int, fits: Callable[[_Fields], bool]) -> _Fields | None:
    """One whose records end where the file does; else the longest, as a part of a header may look
    like one."""
    longest: _Fields | None = None
    looked_at = 0
    for start in range(label_at - 16, -1, -1):
        (count,) = _COUNT.unpack_from(data, start)
        if not 0 < count < _MOST_FIELDS:
            continue
        fields = _header(data, start + 4, count)
        looked_at += len(fields)
        if looked_at > _MOST_LOOKED_AT:
            return longest
        if len(fields) == count and any(label == INJECTION_LABEL for label, _, _ in fields):
            if fits(fields):
                return fields
            longest = fields if longest is None or len(fields) > len(longest) else longest
    return longest


def _header(data: bytes, p: int, count: int) -> _Fields:
    """Fewer than `count` fields, if it is no header."""
    fields: _Fields = []
    while len(fields) < count and p + 12 <= len(data):
        kind, length, label_length = struct.unpack_from("<3I", data, p)
        p += 12 + 2 * label_length
        if length > _MOST_TEXT_BYTES or label_length > _MOST_LABEL or p > len(data):
            break
        label = data[p - 2 * label_length : p].decode("utf-16-le", "replace").rstrip("\0")
        if kind in _TYPES:
            fields.append((label, *_TYPES[kind]))
        elif kind in (_TEXT, _WIDE_TEXT):
            fields.append((label, length * (2 if kind == _WIDE_TEXT else 1), ""))
        else:
            break
    return fields


def _find(file: ByteFile, wanted: bytes, begin: int, end: int) -> int | None:
    end = min(end, file.size, begin + _MOST_SEARCHED)
    while begin < end:
        block = file.read(begin, min(BLOCK_BYTES, end - begin), "scan parameters")
        found = block.find(wanted)
        if found >= 0:
            return begin + found
        if begin + len(block) >= end:
            return None
        begin += len(block) - len(wanted)
    return None
