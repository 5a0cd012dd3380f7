"""Where things stand in a Thermo raw file: header, run header, and what its versions differ in.

Measured on files of the versions 57 and 66, and as the public notes of unfinnigan
(https://github.com/prvst/unfinnigan) and OpenTFRaw (https://github.com/Sigilweaver/OpenTFRaw)
have it. Nothing is taken from Thermo's libraries. All numbers are little-endian.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from kraken_dagster.model.errors import FileFormatError, UnsupportedRawFile
from kraken_dagster.raw_readers.byte_file import ByteFile, Cursor
from kraken_dagster.raw_readers.contents import LONGEST_FACT, Fact

MAGIC: Final = b"\x01\xa1" + "Finnigan".encode("utf-16-le")
HEADER_BYTES: Final = 1356
PROVEN: Final = (57, 66)
WIDE: Final = 64  # from this version on addresses have 64 bits
_VERSION_AT, _STARTED_AT, _ENDED_AT = 0x24, 0x28, 0x98
_MOST_CONTROLLERS = 64
_EPOCH = datetime(1601, 1, 1)  # noqa: DTZ001 - of Windows' file times, here in local time
_QUARTER_MIN = 15
_WIDEST_OFFSET_MIN = 14 * 60


@dataclass(frozen=True)
class VersionLayout:
    """Sizes in bytes that differ between versions.

    Args:
        index_entry: of the scan index.
        event_info: fixed head of a scan event.
        reaction: of each isolation in a scan event.
        named_events: whether a text ends a scan event.
        identity_at: of the instrument's names, counted from the run header.
    """

    index_entry: int
    event_info: int
    reaction: int
    named_events: bool
    identity_at: int


VERSIONS: Final = {
    57: VersionLayout(72, 80, 32, False, 7408),
    60: VersionLayout(72, 80, 32, False, 7408),
    62: VersionLayout(72, 120, 32, False, 7408),
    63: VersionLayout(72, 128, 32, False, 7408),
    64: VersionLayout(80, 128, 32, False, 7576),
    66: VersionLayout(88, 136, 56, True, 7576),
}


@dataclass(frozen=True)
class RunHeader:
    """Of the mass spectrometer; addresses are those of their first byte."""

    at: int
    scans: int
    index_at: int
    data_at: int
    error_log_at: int
    events_at: int
    parameters_at: int
    events: int
    parameters: int


@dataclass(frozen=True)
class Header:
    version: int
    layout: VersionLayout
    facts: dict[str, Fact]
    controllers: int
    runs_at: tuple[int, ...]


def read_header(file: ByteFile) -> Header:
    """Raises FileFormatError, UnsupportedRawFile."""
    head = file.read(0, min(HEADER_BYTES, file.size), "header")
    if not head.startswith(MAGIC):
        raise FileFormatError(
            "This is no Thermo raw file",
            file=file.path,
            expected=f"a header with {MAGIC[2:].decode('utf-16-le')!r}",
            found=repr(head[: len(MAGIC)]),
            next_step="compare it with the instrument's.",
        )
    if len(head) < HEADER_BYTES:
        raise file.torn("header", f"{HEADER_BYTES} bytes")
    version = int.from_bytes(head[_VERSION_AT : _VERSION_AT + 4], "little")
    if version not in VERSIONS:
        raise UnsupportedRawFile(
            f"Version {version} of Thermo's format is not understood",
            file=file.path,
            expected=f"a version of {', '.join(map(str, VERSIONS))}",
        )
    cursor = file.cursor(HEADER_BYTES, "header")
    facts = _sample(cursor, version)
    facts["computer"] = None
    started, ended = (_file_time(head, at) for at in (_STARTED_AT, _ENDED_AT))
    utc = _date(cursor)
    runs_at = _run_addresses(cursor, version)
    for _ in range(5):  # headings of the user's own columns
        cursor.text()
    facts["computer"] = _short(cursor.text())
    facts |= _times(started, ended, utc)
    return Header(version, VERSIONS[version], facts, len(runs_at), runs_at)


def read_run_header(file: ByteFile, header: Header) -> RunHeader:
    """That of the first controller whose scans have events and an index: the others are pumps and
    other detectors.

    Raises:
        FileFormatError: none has.
    """
    torn: FileFormatError | None = None
    for at in header.runs_at:
        try:
            run = _run_header(file, at, header.version)
        except FileFormatError as error:
            torn = torn or error
            continue
        if 0 < run.scans == run.events and run.parameters in (0, run.scans):
            return run
    raise torn or file.not_understood(
        "no run with as many scan events as scans",
        expected="one of a mass spectrometer",
        found=f"{header.controllers} others",
    )


def read_identity(file: ByteFile, run: RunHeader, layout: VersionLayout) -> dict[str, Fact]:
    """The instrument's own names; none where they don't stand as they are expected to."""
    names = ("instrument_name", "instrument_model", "instrument_serial", "instrument_software")
    try:
        cursor = file.cursor(run.at + layout.identity_at, "instrument's names")
        *_, has_third = cursor.take("3I")
        texts = [cursor.text(), cursor.text()]
        if has_third:
            cursor.text()
        texts += [cursor.text(), cursor.text()]
    except FileFormatError:
        return dict.fromkeys(names)
    return dict(zip(names, map(_short, texts), strict=True))


def _sample(cursor: Cursor, version: int) -> dict[str, Fact]:
    cursor.skip(64)
    texts = [cursor.text() for _ in range(13)]
    vial = cursor.text()
    cursor.text(), cursor.text()
    cursor.skip(4)
    for _ in range(15 if version >= 60 else 0):
        cursor.text()
    cursor.skip(24)
    cursor.text()  # the autosampler's tray
    found = {
        "sample_id": texts[2],
        "sample_comment": texts[3],
        "method": texts[9],
        "original_name": texts[11],
        "original_folder": texts[12],
        "vial": vial,
    }
    return {name: _short(text) for name, text in found.items()}


def _run_addresses(cursor: Cursor, version: int) -> tuple[int, ...]:
    """Of all controllers, in the order in which the file has them."""
    _, _, controllers, _ = cursor.take("4I")
    if version < WIDE:
        addresses = [cursor.take("3I")[2] for _ in range(_MOST_CONTROLLERS)]
    else:
        cursor.skip(12 + 760 + 8)
        addresses = [cursor.take("2IQ")[2] for _ in range(_MOST_CONTROLLERS)]
        cursor.skip(0 if version == WIDE else 16)
    return tuple(addresses[: max(1, min(controllers, _MOST_CONTROLLERS))])


def _run_header(file: ByteFile, at: int, version: int) -> RunHeader:
    cursor = file.cursor(at, "run header")
    _, _, first, last, _, _, _, index_at, data_at, _, error_log_at, _ = cursor.take("12I")
    cursor.skip(592 - 48 + 13 * 520 + 16)
    events_at, parameters_at, events, parameters, *_ = cursor.take("10I")
    if version >= WIDE:
        index_at, data_at, _, error_log_at, _, events_at, parameters_at = cursor.take("7Q")
    return RunHeader(
        at=at,
        scans=last - first + 1 if first == 1 else 0,
        index_at=index_at,
        data_at=data_at,
        error_log_at=error_log_at,
        events_at=events_at,
        parameters_at=parameters_at,
        events=events,
        parameters=parameters,
    )


def _file_time(head: bytes, at: int) -> datetime | None:
    ticks = int.from_bytes(head[at : at + 8], "little")
    return _plausible(ticks) if ticks else None


def _plausible(ticks: int) -> datetime | None:
    try:
        found = _EPOCH + timedelta(microseconds=ticks // 10)
    except OverflowError:
        return None
    return found if 1980 <= found.year < 2100 else None


def _date(cursor: Cursor) -> datetime | None:
    cursor.skip(4)
    year, month, _, day, hour, minute, second, ms = cursor.take("8H")
    try:
        found = datetime(year, month, day, hour, minute, second, ms * 1000)  # noqa: DTZ001
    except ValueError:  # it is empty
        return None
    return found if 1980 <= year < 2100 else None


def _times(
    started: datetime | None, ended: datetime | None, utc: datetime | None
) -> dict[str, Fact]:
    """The header has the local time of the acquisition PC, the date behind it is UTC."""
    offset = None
    if started and utc:
        minutes = (started - utc).total_seconds() / 60
        offset = round(minutes / _QUARTER_MIN) * _QUARTER_MIN
        if abs(minutes - offset) > 1 or abs(offset) > _WIDEST_OFFSET_MIN:
            offset = None
    return {
        "acquired_local": _written(started),
        "ended_local": _written(ended),
        "acquired_utc": _written(utc),
        "utc_offset_min": offset,
    }


def _written(time: datetime | None) -> str | None:
    return time.isoformat(timespec="milliseconds") if time else None


def _short(text: str) -> str:
    return text[:LONGEST_FACT]
