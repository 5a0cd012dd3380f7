"""The raw file of a simulated Thermo instrument, of format version 66: header, scan index, scan
events and scan parameters stand where real ones have them, so that readers of such files read it.
What stands for spectra is noise.

The layout stands here once more, so that a mistake in `raw_metrics` shows; its sources are named in
`raw_metrics.thermo_layout`.
"""

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from kraken_dagster.simulation.tdf import chromatogram

MAGIC = b"\x01\xa1" + "Finnigan".encode("utf-16-le")
SMALLEST_BYTES = 24_000
SPRAY_DIES_AT = 0.5  # part of the gradient
DEAD_SPRAY = 0.001  # part of the signal that is left
_VERSION = 66
_HEADER_BYTES = 1356
_MARKER_AT = 330  # in the header's tag
_SCANS_PER_CYCLE = 11  # 1 MS1, 10 MS2
_SCAN_PERIOD_S = 0.1
_TABLES_PART = 3  # of the file, one of so many, is taken by the tables
_INDEX_BYTES, _MOST_EVENT_BYTES, _RECORD_BYTES = 88, 240, 8
_LOW_MZ, _HIGH_MZ, _WINDOW_MZ = 380.0, 980.0, 60.0
_EPOCH = datetime(1601, 1, 1)  # noqa: DTZ001 - of Windows' file times, here in local time


@dataclass(frozen=True)
class ThermoFacts:
    """What the file says of its acquisition. `size_bytes` is that of the whole file."""

    sample_name: str
    acquired_at: datetime
    minutes: float
    size_bytes: int
    seed: int
    spray_dies: bool = False


@dataclass(frozen=True)
class _Scan:
    ms_level: int
    rt_min: float
    tic: float
    injection_ms: float
    precursor_mz: float


def thermo_parts(facts: ThermoFacts, marker: bytes) -> tuple[bytes, bytes]:
    """What stands before and behind the spectra.

    Raises:
        ValueError: the file is smaller than `SMALLEST_BYTES`.
    """
    if facts.size_bytes < SMALLEST_BYTES:
        raise ValueError(f"Expected at least {SMALLEST_BYTES} bytes, found {facts.size_bytes}.")
    scans = list(_scans(facts))
    head_bytes = len(_head(facts, marker, data_at=0, run_at=0))
    run_at = facts.size_bytes - len(_tail(scans, data_at=head_bytes, run_at=head_bytes))
    head = _head(facts, marker, data_at=head_bytes, run_at=run_at)
    return head, _tail(scans, data_at=head_bytes, run_at=run_at)


def _scans(facts: ThermoFacts) -> Iterator[_Scan]:
    chance = random.Random(f"{facts.seed}:scans")  # noqa: S311  # noise, no secret
    peaks = [(chance.uniform(0.1, 0.9), chance.uniform(0.3, 1.0)) for _ in range(12)]
    room = (facts.size_bytes - SMALLEST_BYTES) // _TABLES_PART
    room //= _INDEX_BYTES + _MOST_EVENT_BYTES + _RECORD_BYTES
    count = max(1, min(int(facts.minutes * 60 / _SCAN_PERIOD_S), room))
    for number in range(count):
        place = number % _SCANS_PER_CYCLE
        fraction = number / count
        signal = chromatogram(fraction, peaks) * chance.lognormvariate(0, 0.05)
        if facts.spray_dies and fraction >= SPRAY_DIES_AT:
            signal *= DEAD_SPRAY
        yield _Scan(
            ms_level=2 if place else 1,
            rt_min=0.01 + facts.minutes * fraction,
            tic=signal * (2e8 if place == 0 else 5e6),
            injection_ms=min(50.0 if place else 20.0, 10 / (signal + 0.01)),
            precursor_mz=_LOW_MZ + _WINDOW_MZ * (place - 0.5),
        )


def _head(facts: ThermoFacts, marker: bytes, *, data_at: int, run_at: int) -> bytes:
    local = facts.acquired_at.replace(tzinfo=None)
    utc = (facts.acquired_at - (facts.acquired_at.utcoffset() or timedelta())).replace(tzinfo=None)
    header = bytearray(_HEADER_BYTES)
    header[: len(MAGIC)] = MAGIC
    struct.pack_into("<I", header, 0x24, _VERSION)
    struct.pack_into("<Q", header, 0x28, _file_time(local))
    struct.pack_into("<Q", header, 0x98, _file_time(local + timedelta(minutes=facts.minutes)))
    header[_MARKER_AT : _MARKER_AT + len(marker)] = marker
    sample = ["", "", facts.sample_name, "simulated by Kraken", *[""] * 5]
    sample += [
        "C:\\Methods\\simulated.meth",
        "",
        f"D:\\Data\\{facts.sample_name}.raw",
        "D:\\Data\\",
    ]
    sequence = bytes(64) + _texts(*sample) + _texts("A1", "", "") + bytes(4) + _texts(*[""] * 15)
    date = (utc.year, utc.month, utc.isoweekday() % 7, utc.day, utc.hour, utc.minute, utc.second)
    info = struct.pack("<I8H", 0, *date, utc.microsecond // 1000)
    info += struct.pack("<7I760xQ2IQ2IQ1008x", 0, 0, 1, 1, 0, 0, 0, data_at, 0, 0, run_at, 0, 0, 0)
    info += _texts("Study", "Client", "Laboratory", "Company", "Phone", "KRAKEN-SIMULATION")
    return bytes(header) + sequence + bytes(24) + _texts("") + info


def _tail(scans: list[_Scan], *, data_at: int, run_at: int) -> bytes:
    identity = struct.pack("<3I", 1, 0, 0)
    identity += _texts("Orbitrap Astral (simulated)", "Orbitrap Astral (simulated)", "SIM0001")
    identity += _texts("Kraken's simulated laboratory", "", "", "", "")
    status = struct.pack("<3I", 1, 10, 4) + _texts("Spray Voltage (V):")
    fields = struct.pack("<I", 2)
    fields += struct.pack("<2I", 8, 4) + _texts("Charge State:")
    fields += struct.pack("<2I", 10, 4) + _texts("Ion Injection Time (ms):")
    events = b"".join(map(_event, scans))
    error_log_at = run_at + _RUN_HEADER_BYTES + len(identity) + len(status)
    index_at = error_log_at + len(fields)
    events_at = index_at + _INDEX_BYTES * len(scans)
    parameters_at = events_at + 4 + len(events)
    addresses = (index_at, data_at, error_log_at, error_log_at, 0, events_at, parameters_at)
    parameters = b"".join(struct.pack("<if", 0, scan.injection_ms) for scan in scans)
    return b"".join(
        (
            _run_header(scans, addresses, run_at),
            identity + status + fields,
            b"".join(_index(scans, run_at - data_at)),
            bytes(4) + events + parameters + bytes(4),
        )
    )


_RUN_HEADER_BYTES = 592 + 13 * 520 + 16 + 40 + 7 * 8 + 16 + 24 * 4


def _run_header(scans: list[_Scan], addresses: tuple[int, ...], run_at: int) -> bytes:
    count = len(scans)
    info = struct.pack(
        "<12I5d504x",
        *(1, 0, 1, count, 0, 0, 0, 0, 0, 0, 0, 0),
        *(max(scan.tic for scan in scans), _LOW_MZ, _HIGH_MZ, scans[0].rt_min, scans[-1].rt_min),
    )
    names = bytes(6 * 520 + 16 + 7 * 520)
    counts = struct.pack("<10I", 0, 0, count, count, 1, 0, 0, 0, 2, 4)
    return info + names + counts + struct.pack("<7Q2IQ96x", *addresses, 0, 0, run_at)


def _index(scans: list[_Scan], data_bytes: int) -> Iterator[bytes]:
    count = len(scans)
    for number, scan in enumerate(scans):
        begin, end = (data_bytes * at // count for at in (number, number + 1))
        place = number % _SCANS_PER_CYCLE
        measured = (scan.rt_min, scan.tic, scan.tic / 20, 445.12, _LOW_MZ, _HIGH_MZ)
        yield struct.pack(
            "<2I2H3I6dQ2I", 0, number, place, 0, number + 1, 0, end - begin, *measured, begin, 0, 0
        )


def _event(scan: _Scan) -> bytes:
    info = bytearray(136)
    info[4:8] = bytes((1, 0, scan.ms_level, 0))  # positive, centroid, level, full
    info[11], info[40] = 5, 4  # NSI, FTMS
    middle, width, energy = (_LOW_MZ + _HIGH_MZ) / 2, _HIGH_MZ - _LOW_MZ, 0.0
    if scan.ms_level > 1:
        middle, width, energy = scan.precursor_mz, _WINDOW_MZ, 25.0
    isolated = struct.pack("<I4d24x", 1, middle, width, energy, 1.0)  # MS1 scans have one as well
    return bytes(info) + isolated + struct.pack("<I2d16x", 1, _LOW_MZ, _HIGH_MZ)


def _texts(*texts: str) -> bytes:
    return b"".join(struct.pack("<I", len(text)) + text.encode("utf-16-le") for text in texts)


def _file_time(local: datetime) -> int:
    return (local - _EPOCH) // timedelta(microseconds=1) * 10
