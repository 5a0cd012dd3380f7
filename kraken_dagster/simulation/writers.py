"""The files of three vendors, written bit by bit. Each writer is a generator: a yield per append.

What is written says of itself that it is simulated. The writers are told every path by
`instruments` and leave it to it that nothing stands there yet.
"""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kraken_dagster.simulation import ole
from kraken_dagster.simulation.tdf import SimulatedTdf, TdfFacts
from kraken_dagster.simulation.thermo_raw import MAGIC, SMALLEST_BYTES, ThermoFacts, thermo_parts

MARKER = b"SIMULATED BY KRAKEN, not a measurement\n"
SQLITE_MAGIC = b"SQLite format 3\x00"
SCAN_BYTES_WHILE_ACQUIRING = 100
CORRUPTED_AT = 0.75  # part of the acquisition after which a failing one is given up
SCIEX_COMPANIONS = (".wiff2", ".timeseries.data", ".wiff.scan")

_BLOCK_BYTES = 65536
_METHOD_XML = """<?xml version="1.0" encoding="UTF-8"?>
<method simulated_by="Kraken"><name>{name}</name><minutes>{minutes}</minutes></method>
"""
_SAMPLE_XML = """<?xml version="1.0" encoding="UTF-8"?>
<SampleTable><Sample SampleID="{name}" SimulatedBy="Kraken"/></SampleTable>
"""


def write_thermo(
    raw: Path,
    *,
    minutes: float,
    size_bytes: int,
    seed: int,
    appends: int,
    corrupted: Path | None,
    spray_dies: bool,
) -> Iterator[None]:
    """`raw` in full or, if there is a name for a `corrupted` one, a part and then under that.

    A file that is too small for tables of its scans is the magic and noise.
    """
    head, tail = MAGIC + MARKER, b""
    if size_bytes >= SMALLEST_BYTES:
        facts = ThermoFacts(
            sample_name=raw.stem,
            acquired_at=_date_in(raw.name, seed),
            minutes=minutes,
            size_bytes=size_bytes,
            seed=seed,
            spray_dies=spray_dies,
        )
        head, tail = thermo_parts(facts, MARKER)
    pieces = _pieces(head, size_bytes - len(tail), count=appends, seed=seed)
    for number, piece in enumerate(pieces, start=1):
        _append(raw, piece + (tail if number == appends else b""))
        yield
        if corrupted and number >= CORRUPTED_AT * appends:
            raw.rename(corrupted)
            return


def write_bruker(
    raw: Path, *, minutes: float, size_bytes: int, seed: int, appends: int, main_file: bool
) -> Iterator[None]:
    """The folder `raw`; without a `main_file` it never gets `analysis.tdf_bin` nor is closed."""
    raw.mkdir()
    _write_method(raw / "4711.m", minutes)
    _append(raw / "SampleInfo.xml", _SAMPLE_XML.format(name=raw.stem).encode())
    facts = TdfFacts(
        sample_name=raw.stem,
        method_name="4711.m",
        acquired_at=datetime.now(UTC).astimezone(),
        minutes=minutes,
        size_bytes=size_bytes,
        seed=seed,
    )
    pieces = _pieces(MARKER, size_bytes, count=appends - 1, seed=seed)
    with SimulatedTdf(raw / "analysis.tdf", facts) as tdf:
        yield
        for number, piece in enumerate(pieces, start=1):
            if main_file:
                _append(raw / "analysis.tdf_bin", piece)
            tdf.add_frames_until(number / (appends - 1))
            yield
        if main_file:
            tdf.finish()


def write_sciex(raw: Path, *, size_bytes: int, seed: int, appends: int) -> Iterator[None]:
    """`x.wiff` and its companions, `size_bytes` together.

    The `.wiff.scan` gets its data by a conversion at the end, in the last tenth of the time.
    """
    wiff2, series, scan = (raw.with_suffix(end) for end in SCIEX_COMPANIONS)
    wiff2_bytes = SQLITE_MAGIC + MARKER
    wiff_size, series_size = size_bytes // 5, size_bytes // 10
    scan_size = size_bytes - wiff_size - series_size - len(wiff2_bytes)
    converting = appends // 10
    acquiring = appends - converting
    _append(wiff2, wiff2_bytes)
    _append(scan, MARKER.ljust(SCAN_BYTES_WHILE_ACQUIRING, b"\0"))
    is_whole = ole.SMALLEST_BYTES <= wiff_size <= ole.MOST_BYTES
    head = (ole.container_head(wiff_size) if is_whole else ole.MAGIC) + MARKER
    wiff_pieces = _pieces(head, wiff_size, count=acquiring, seed=f"{seed}:wiff")
    series_pieces = _pieces(MARKER, series_size, count=acquiring, seed=f"{seed}:timeseries")
    for wiff_piece, series_piece in zip(wiff_pieces, series_pieces, strict=True):
        _append(raw, wiff_piece)
        _append(series, series_piece)
        yield
    scan_size -= SCAN_BYTES_WHILE_ACQUIRING
    for piece in _pieces(b"", scan_size, count=converting, seed=f"{seed}:scan"):
        _append(scan, piece)
        yield


def _date_in(name: str, seed: int) -> datetime:
    """The date that begins a name, at a time by the seed: equal acquisitions have equal bytes."""
    try:
        day = datetime.strptime(name[:8], "%Y%m%d").replace(tzinfo=UTC)
    except ValueError:
        day = datetime(2024, 1, 1, tzinfo=UTC)
    return day + timedelta(seconds=seed % 86400)


def _write_method(folder: Path, minutes: float) -> None:
    folder.mkdir()
    for name in ("microTOFQImpacTemAcquisition.method", "hystar.method"):
        _append(folder / name, _METHOD_XML.format(name=name, minutes=minutes).encode())


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def _pieces(head: bytes, size_bytes: int, *, count: int, seed: int | str) -> Iterator[bytes]:
    """`count` pieces of `size_bytes` in all: `head`, whole in the first, then noise.

    The bytes in all depend on `seed`, not on `count`.
    """
    noise = random.Random(seed)  # noqa: S311  # to fill files, no secret
    buffer, position = bytearray(head), 0
    for number in range(1, count + 1):
        end = max(len(head), size_bytes * number // count)
        while len(buffer) < end - position:
            buffer += noise.randbytes(_BLOCK_BYTES)
        yield bytes(buffer[: end - position])
        del buffer[: end - position]
        position = end
