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
OWN_TRACES = ("tic", "base_peak", "tic_ms2")  # of the scans themselves
_MOST_TRACES = 32
_RT, _UNIT, _TITLE = "_rt_min", "_unit", "_title"
_MAGIC = b"\x93NUMPY\x01\x00"
_LENGTH = struct.Struct("<H")
_ALIGNED = 64
_TEXT, _TEXT_CODEC, _CHARACTER_BYTES = "<U", "utf-32-le", 4  # numpy's text of a fixed length
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the same bytes for the same traces
_MOST_BYTES = 4_000_000


def traces_of(contents: RawContents) -> tuple[Trace, ...]:
    """TIC and base peak of the MS1 scans, TIC of the MS2 scans, and those of other detectors."""
    scans = contents.scans
    at = ms1_positions(scans)
    rest = [one for one, level in enumerate(scans.ms_level) if level == 2]
    columns = ((scans.tic, at), (scans.base_peak, at), (scans.tic, rest))
    found = [
        Trace(
            name,
            "arbitrary",
            array("d", (scans.rt_min[one] for one in places)),
            array("d", (column[one] for one in places)),
        )
        for name, (column, places) in zip(OWN_TRACES, columns, strict=True)
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
    """Arrays `<name>` and `<name>_rt_min` (minutes) of float64 for each trace, and the texts
    `<name>_unit` of its values and `<name>_title`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for trace in traces:
            arrays = {"": _npy(trace.values), _RT: _npy(trace.rt_min)}
            texts = {_UNIT: _npy_text(trace.unit), _TITLE: _npy_text(trace.title)}
            for ending, content in (arrays | texts).items():
                archive.writestr(zipfile.ZipInfo(f"{trace.name}{ending}.npy", _LONG_AGO), content)
    return buffer.getvalue()


def read_npz(path: Path | io.BytesIO) -> Mapping[str, Trace]:
    """The traces in a file that `to_npz` made, by name. One made before units were kept has none.

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
            expected="arrays of float64 and texts in a file for numpy.load",
            found=error,
            next_step="delete it; `kraken retry` makes it anew.",
        ) from error
    numeric = {name: it for name, it in columns.items() if isinstance(it, array)}
    texts = {name: it for name, it in columns.items() if isinstance(it, str)}
    return {
        name: Trace(
            name,
            texts.get(name + _UNIT, ""),
            numeric[name + _RT],
            values,
            texts.get(name + _TITLE, ""),
        )
        for name, values in numeric.items()
        if name + _RT in numeric
    }


def _npy(column: "array[float]") -> bytes:
    return _with_header("<f8", f"({len(column)},)", _little(column).tobytes())


def _npy_text(text: str) -> bytes:
    content = text.encode(_TEXT_CODEC, "replace") or bytes(_CHARACTER_BYTES)
    return _with_header(f"{_TEXT}{len(content) // _CHARACTER_BYTES}", "()", content)


def _with_header(kind: str, shape: str, content: bytes) -> bytes:
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    length = len(_MAGIC) + _LENGTH.size + len(header) + 1
    header += " " * (-length % _ALIGNED) + "\n"
    return _MAGIC + _LENGTH.pack(len(header)) + header.encode("ascii") + content


def _column(data: bytes) -> "array[float] | str":
    begin = len(_MAGIC) + _LENGTH.size
    (length,) = _LENGTH.unpack_from(data, len(_MAGIC))
    header, content = data[begin : begin + length], data[begin + length :]
    facts = ast.literal_eval(header.decode("ascii"))
    kind = str(facts["descr"])
    if data.startswith(_MAGIC) and kind.startswith(_TEXT):
        return content.decode(_TEXT_CODEC).rstrip("\0")
    if not data.startswith(_MAGIC) or kind != "<f8" or facts["fortran_order"]:
        raise ValueError("an array of another kind")
    column = numbers()
    column.frombytes(content)
    return _little(column)


def _little(column: "array[float]") -> "array[float]":
    if sys.byteorder == "little":
        return column
    swapped = column[:]
    swapped.byteswap()
    return swapped
