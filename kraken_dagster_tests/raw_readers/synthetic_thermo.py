"""Thermo files of every format version that is read, by the layout that public notes tell. No
instrument wrote them: they show that a version is read by its own sizes and checked, not that
Thermo writes it so. Spectra are a hole.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

from kraken_dagster.raw_readers.thermo_layout import HEADER_BYTES, MAGIC, VERSIONS, WIDE
from kraken_dagster.raw_readers.thermo_scans import INJECTION_LABEL

# Written here once more, so that a mistake in `thermo_layout` shows.
INDEX_BYTES = {57: 72, 60: 72, 62: 72, 63: 72, 64: 80, 66: 88}
EVENT_BYTES = {57: 80, 60: 80, 62: 120, 63: 128, 64: 128, 66: 136}
ALL_VERSIONS = tuple(VERSIONS)
SCANS = 12
_RECORD = struct.Struct("<hf")  # charge, injection time
_FIELDS = ((6, 2, "Charge State:"), (10, 4, INJECTION_LABEL))
_RUN_NAMES_BYTES = 13 * 520 + 16


@dataclass(frozen=True)
class Places:
    """Where things stand in a file that was written."""

    data_at: int
    run_at: int
    fields_at: int
    index_at: int
    events_at: int
    parameters_at: int
    size: int


def level(number: int) -> int:
    return 1 if number % 4 == 0 else 2


def rt_min(number: int) -> float:
    return 0.5 + 0.01 * number


def tic(number: int) -> float:
    return 1e6 * (number + 1)


def injection_ms(number: int) -> float:
    return 20.0 + number


def precursor_mz(number: int) -> float:
    return 400.0 + number


def write(path: Path, version: int, *, data_bytes: int = 5_000, scans: int = SCANS) -> Places:
    """A file whose scans are those of the functions above; `data_bytes` of hole for spectra."""
    data_at = len(_head(version, 0))
    run_at = data_at + data_bytes
    head = _head(version, run_at)
    tail, places = _tail(version, data_at, run_at, scans)
    with path.open("wb") as file:
        file.write(head)
        file.seek(run_at)
        file.write(tail)
    assert path.stat().st_size == places.size
    return places


def _head(version: int, run_at: int) -> bytes:
    header = bytearray(HEADER_BYTES)
    header[: len(MAGIC)] = MAGIC
    struct.pack_into("<I", header, 0x24, version)
    sample = bytes(64) + _texts(*["x"] * 13) + _texts("A1", "", "") + bytes(4)
    sample += _texts(*[""] * (15 if version >= 60 else 0)) + bytes(24) + _texts("")
    info = struct.pack("<I8H4I", 0, 2020, 1, 3, 1, 12, 0, 0, 0, 0, 0, 1, 1)
    if version < WIDE:
        info += struct.pack("<3I", 0, 0, run_at & 0xFFFFFFFF) + bytes(63 * 12)
    else:
        info += bytes(12 + 760 + 8) + struct.pack("<2IQ", 0, 0, run_at) + bytes(63 * 16)
        info += bytes(0 if version == WIDE else 16)
    return bytes(header) + sample + info + _texts(*["x"] * 5, "PC")


def _tail(version: int, data_at: int, run_at: int, scans: int) -> tuple[bytes, Places]:
    is_wide = version >= WIDE
    addresses_bytes = 10 * 4 + (7 * 8 if is_wide else 0)
    names_at = VERSIONS[version].identity_at
    names = bytes(12) + _texts("Instrument", "Model", "SN1", "2.0")
    fields = struct.pack("<I", len(_FIELDS))
    for kind, size, label in _FIELDS:
        fields += struct.pack("<2I", kind, size) + _texts(label)
    events = b"".join(_event(version, number) for number in range(scans))
    fields_at = run_at + names_at + len(names)
    index_at = fields_at + len(fields)
    events_at = index_at + INDEX_BYTES[version] * scans
    parameters_at = events_at + 4 + len(events)
    size = parameters_at + _RECORD.size * scans + 4
    places = Places(data_at, run_at, fields_at, index_at, events_at, parameters_at, size)
    narrow = (0, 0, 1, scans, 0, 0, 0, *(0 if is_wide else a for a in (index_at, data_at)), 0)
    narrow += (0 if is_wide else fields_at, 0)
    run = struct.pack("<12I", *(value & 0xFFFFFFFF for value in narrow)).ljust(592, b"\0")
    run += bytes(_RUN_NAMES_BYTES)
    pair = (0, 0) if is_wide else (events_at & 0xFFFFFFFF, parameters_at & 0xFFFFFFFF)
    run += struct.pack("<10I", *pair, scans, scans, 1, 0, 0, 0, 0, 0)
    if is_wide:
        run += struct.pack("<7Q", index_at, data_at, 0, fields_at, 0, events_at, parameters_at)
    assert len(run) == 592 + _RUN_NAMES_BYTES + addresses_bytes
    index = b"".join(_entry(version, number, run_at - data_at, scans) for number in range(scans))
    records = b"".join(_RECORD.pack(2, injection_ms(number)) for number in range(scans))
    behind = fields + index + struct.pack("<I", 0 if is_wide else scans) + events + records
    return run.ljust(names_at, b"\0") + names + behind + bytes(4), places


def _entry(version: int, number: int, data_bytes: int, scans: int) -> bytes:
    begin, end = (data_bytes * at // scans for at in (number, number + 1))
    narrow = 0 if version >= WIDE else begin & 0xFFFFFFFF
    numbers = (rt_min(number), tic(number), tic(number) / 10, 500.0, 400.0, 1000.0)
    entry = struct.pack("<2I2H3I6d", narrow, number, 0, 0, number + 1, 0, end - begin, *numbers)
    entry += struct.pack("<Q", begin) if version >= WIDE else b""
    return entry.ljust(INDEX_BYTES[version], b"\0")


def _event(version: int, number: int) -> bytes:
    info = bytearray(EVENT_BYTES[version])
    info[4], info[6] = 1, level(number)
    info[11], info[40] = 5, 4
    reaction = struct.pack("<4d", precursor_mz(number), 2.0, 25.0, 1.0)
    reaction = reaction.ljust(56 if version >= 65 else 32, b"\0")
    event = bytes(info) + struct.pack("<I", 1) + reaction
    event += struct.pack("<I2d", 1, 400.0, 1000.0)
    event += bytes(12)  # no calibrators, no source fragmentations, none of their ranges
    return event + (bytes(4) if version >= 65 else b"")


def _texts(*texts: str) -> bytes:
    return b"".join(struct.pack("<I", len(text)) + text.encode("utf-16-le") for text in texts)
