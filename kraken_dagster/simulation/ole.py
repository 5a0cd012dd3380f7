"""The compound file (OLE2, [MS-CFB] version 3) of a simulated Sciex instrument: one sample, whose
index is noise.
"""

import struct

MAGIC = bytes.fromhex("D0CF11E0A1B11AE1")
SECTOR = 512
SMALLEST_BYTES = 16 * SECTOR
MOST_BYTES = 109 * 128 * SECTOR  # more would need sectors that name sectors
_FREE, _END, _TABLE = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD
_PER_SECTOR = SECTOR // 4
_STORAGE, _STREAM, _ROOT = 1, 2, 5
_DIRECTORY = ("SampleSubtree", "Sample1", "Idx")
_MADE = 133_500_000_000_000_000  # Windows' file time, in January 2024


def container_head(size_bytes: int) -> bytes:
    """All that stands before the index' content, which fills the file up to its size.

    Raises:
        ValueError: such a container can't have this size.
    """
    if not SMALLEST_BYTES <= size_bytes <= MOST_BYTES:
        raise ValueError(f"Expected {SMALLEST_BYTES} to {MOST_BYTES} bytes, found {size_bytes}.")
    sectors = size_bytes // SECTOR - 1
    tables = -(-sectors // _PER_SECTOR)
    begin = tables + 1  # of the content, behind the directory
    chain = [_TABLE] * tables + [_END] + [*range(begin + 1, sectors), _END]
    chain += [_FREE] * (tables * _PER_SECTOR - len(chain))
    named = [*range(tables), *[_FREE] * (109 - tables)]
    header = struct.pack("<8s16x5H6x", MAGIC, 0x3E, 3, 0xFFFE, 9, 6)
    header += struct.pack("<9I", 0, tables, tables, 0, 4096, _END, 0, _END, 0)
    table = struct.pack(f"<{len(chain)}I", *chain)
    return header + struct.pack("<109I", *named) + table + _directory(begin, sectors - begin)


def _directory(begin: int, sectors: int) -> bytes:
    entries = [_entry("Root Entry", _ROOT, child=1)]
    for number, name in enumerate(_DIRECTORY[:-1], start=2):
        entries.append(_entry(name, _STORAGE, child=number))
    entries.append(_entry(_DIRECTORY[-1], _STREAM, start=begin, size=sectors * SECTOR))
    return b"".join(entries)


def _entry(name: str, kind: int, *, child: int = _FREE, start: int = _END, size: int = 0) -> bytes:
    text = name.encode("utf-16-le")
    made = _MADE if kind != _STREAM else 0
    start = 0 if kind == _STORAGE else start
    return struct.pack(
        "<64sH2B3I16xI2QIQ",
        text,
        len(text) + 2,
        kind,
        1,
        _FREE,
        _FREE,
        child,
        0,
        made if kind != _ROOT else 0,
        made,
        start,
        size,
    )
