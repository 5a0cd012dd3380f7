"""Chromatograms of one raw file, small enough to be kept and drawn: at most 2,000 points each.

They are kept as `.npz`, the format of numpy (its NEP 1), so that anybody reads them with
`numpy.load`. It is written and read here without numpy, whose import takes longer than all else
that is done for a file of usual size.
"""

import ast
import io
import struct
import sys
import zipfile
from array import array
from collections.abc import Iterable, Mapping
from pathlib import Path

from kraken_dagster.model.errors import FileFormatError
from kraken_dagster.raw_readers.contents import RawContents, Trace, numbers
from kraken_dagster.raw_readers.metrics import ms1_positions

MOST_POINTS = 2_000
_MOST_TRACES = 32
_RT = "_rt_min"
_MAGIC = b"\x93NUMPY\x01\x00"
_LENGTH = struct.Struct("<H")
_ALIGNED = 64
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the same bytes for the same traces
_MOST_BYTES = 4_000_000


def traces_of(contents: RawContents) -> tuple[Trace, ...]:
    """TIC and base peak of the MS1 scans, TIC of the MS2 scans, and those of other detectors."""
    scans = contents.scans
    at = ms1_positions(scans)
    rest = [one for one, level in enumerate(scans.ms_level) if level == 2]
    wanted = (
        ("tic", scans.tic, at),
        ("base_peak", scans.base_peak, at),
        ("tic_ms2", scans.tic, rest),
    )
    found = [
        Trace(
            name,
            "arbitrary",
            array("d", (scans.rt_min[one] for one in places)),
            array("d", (column[one] for one in places)),
        )
        for name, column, places in wanted
        if column and places
    ]
    return tuple(decimated(one) for one in (*found, *contents.traces[:_MOST_TRACES]))


def decimated(trace: Trace, most: int = MOST_POINTS) -> Trace:
    """At most so many points; each part of it keeps its least and its greatest value."""
    count = len(trace.values)
    if count <= most:
        return trace
    parts = most // 2
    kept: list[int] = []
    for part in range(parts):
        begin, end = count * part // parts, count * (part + 1) // parts
        places = range(begin, end)
        least, greatest = (pick(places, key=trace.values.__getitem__) for pick in (min, max))
        kept += sorted({least, greatest})
    rt, values = (
        array("d", (column[at] for at in kept)) for column in (trace.rt_min, trace.values)
    )
    return Trace(trace.name, trace.unit, rt, values, trace.title)


def to_npz(traces: Iterable[Trace]) -> bytes:
    """Arrays `<name>` and `<name>_rt_min` of float64 for each trace."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for trace in traces:
            for name, column in ((trace.name, trace.values), (trace.name + _RT, trace.rt_min)):
                archive.writestr(zipfile.ZipInfo(f"{name}.npy", _LONG_AGO), _npy(column))
    return buffer.getvalue()


def read_npz(path: Path | io.BytesIO) -> Mapping[str, Trace]:
    """The traces in a file that `to_npz` made, by name; without units.

    Raises:
        FileFormatError: it is none.
        OSError
    """
    try:
        with zipfile.ZipFile(path) as archive:
            columns = {
                item.filename.removesuffix(".npy"): _column(archive.read(item))
                for item in archive.infolist()
                if item.file_size <= _MOST_BYTES
            }
    except (zipfile.BadZipFile, ValueError, SyntaxError, KeyError, struct.error) as error:
        raise FileFormatError(
            "This is not a trace file of Kraken",
            file=path if isinstance(path, Path) else None,
            expected="float64 arrays in a file for numpy.load",
            found=error,
            next_step="delete it; `kraken retry` makes it anew.",
        ) from error
    return {
        name: Trace(name, "", columns[name + _RT], values)
        for name, values in columns.items()
        if name + _RT in columns
    }


def _npy(column: "array[float]") -> bytes:
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({len(column)},), }}"
    length = len(_MAGIC) + _LENGTH.size + len(header) + 1
    header += " " * (-length % _ALIGNED) + "\n"
    return _MAGIC + _LENGTH.pack(len(header)) + header.encode("ascii") + _little(column).tobytes()


def _column(data: bytes) -> "array[float]":
    begin = len(_MAGIC) + _LENGTH.size
    (length,) = _LENGTH.unpack_from(data, len(_MAGIC))
    header = ast.literal_eval(data[begin : begin + length].decode("ascii"))
    if not data.startswith(_MAGIC) or header["descr"] != "<f8" or header["fortran_order"]:
        raise ValueError("an array of another kind")
    column = numbers()
    column.frombytes(data[begin + length :])
    return _little(column)


def _little(column: "array[float]") -> "array[float]":
    if sys.byteorder == "little":
        return column
    swapped = column[:]
    swapped.byteswap()
    return swapped
