"""The `analysis.tdf` of a simulated timsTOF: an SQLite database that grows like the real one.

Tables and columns are those of TDF schema 3.1, as far as they tell when and how an acquisition
went; the calibration, and with it the foreign keys, is left out. No peaks are written.
"""

import math
import random
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path

MS1, DIA_MS2 = 0, 9
FRAMES_PER_CYCLE = 9  # 1 MS1, 8 dia-PASEF
FRAME_PERIOD_S = 0.1054
RAMP_TIME_MS = 100.008
NUM_SCANS = 927

_SCHEMA = """
CREATE TABLE GlobalMetadata (Key TEXT PRIMARY KEY, Value TEXT);
CREATE TABLE Frames (
    Id INTEGER PRIMARY KEY,
    Time REAL NOT NULL,
    Polarity CHAR(1) CHECK (Polarity IN ('+', '-')) NOT NULL,
    ScanMode INTEGER NOT NULL,
    MsMsType INTEGER NOT NULL,
    TimsId INTEGER,
    MaxIntensity INTEGER NOT NULL,
    SummedIntensities INTEGER NOT NULL,
    NumScans INTEGER NOT NULL,
    NumPeaks INTEGER NOT NULL,
    MzCalibration INTEGER NOT NULL,
    T1 REAL NOT NULL,
    T2 REAL NOT NULL,
    TimsCalibration INTEGER NOT NULL,
    PropertyGroup INTEGER,
    AccumulationTime REAL NOT NULL,
    RampTime REAL NOT NULL
);
CREATE UNIQUE INDEX FramesTimeIndex ON Frames (Time);
"""
_INSERT_FRAME = "INSERT INTO Frames VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
_FrameRow = tuple[float | int | str, ...]


@dataclass(frozen=True)
class TdfFacts:
    """What the database says of its acquisition; `size_bytes` is that of `analysis.tdf_bin`."""

    sample_name: str
    method_name: str
    acquired_at: datetime
    minutes: float
    size_bytes: int
    seed: int


class SimulatedTdf:
    """Writes one `analysis.tdf`; between two calls it is a valid database without a journal.

    A context manager: the file is created on entry (sqlite3.OperationalError if it has tables
    already) and let go of at the end, with `ClosedProperly` as it then stands.
    """

    def __init__(self, path: Path, facts: TdfFacts) -> None:
        self._path = path
        self._facts = facts
        self._frames_total = max(1, int(facts.minutes * 60 / FRAME_PERIOD_S))
        self._frames_written = 0
        self._frames = _frames(facts, self._frames_total)

    def __enter__(self) -> "SimulatedTdf":
        self._database = sqlite3.connect(self._path, timeout=30)  # a reader may hold it a while
        self._database.execute("PRAGMA journal_mode=DELETE")
        self._database.execute("PRAGMA synchronous=OFF")
        self._database.executescript(_SCHEMA)
        self._database.executemany(
            "INSERT INTO GlobalMetadata VALUES (?, ?)", _global_metadata(self._facts).items()
        )
        self._database.commit()
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def add_frames_until(self, fraction: float) -> None:
        """Writes the frames up to this part (0 to 1) of the gradient."""
        missing = int(self._frames_total * fraction) - self._frames_written
        if missing > 0:
            self._database.executemany(_INSERT_FRAME, islice(self._frames, missing))
            self._database.commit()
            self._frames_written += missing

    def finish(self) -> None:
        self._database.execute("UPDATE GlobalMetadata SET Value='1' WHERE Key='ClosedProperly'")
        self._database.commit()


def _global_metadata(facts: TdfFacts) -> dict[str, str]:
    return {
        "SchemaType": "TDF",
        "SchemaVersionMajor": "3",
        "SchemaVersionMinor": "1",
        "AcquisitionSoftwareVendor": "Bruker",
        "InstrumentVendor": "Bruker",
        "TimsCompressionType": "2",
        "ClosedProperly": "0",
        "MzAcqRangeLower": "99.998563",
        "MzAcqRangeUpper": "1700.000000",
        "OneOverK0AcqRangeLower": "0.601567",
        "OneOverK0AcqRangeUpper": "1.601096",
        "AcquisitionSoftware": "Kraken's simulated laboratory",
        "AcquisitionDateTime": facts.acquired_at.isoformat(timespec="milliseconds"),
        "InstrumentName": "timsTOF Pro (simulated)",
        "InstrumentFamily": "9",
        "InstrumentRevision": "1",
        "InstrumentSourceType": "11",
        "InstrumentSerialNumber": "0000000.00",
        "OperatorName": "Kraken",
        "Description": "",
        "SampleName": facts.sample_name,
        "MethodName": facts.method_name,
        "SimulatedBy": "Kraken",
    }


def _frames(facts: TdfFacts, count: int) -> Iterator[_FrameRow]:
    """Rows of `Frames` in the order of their columns; the same for the same seed."""
    chance = random.Random(f"{facts.seed}:frames")  # noqa: S311  # noise, no secret
    peaks = [(chance.uniform(0.1, 0.9), chance.uniform(0.3, 1.0)) for _ in range(12)]
    for index in range(count):
        fraction = index / count
        ms_type = DIA_MS2 if index % FRAMES_PER_CYCLE else MS1
        scale = 2.0e7 if ms_type == MS1 else 2.5e6
        intensity = scale * chromatogram(fraction, peaks) * chance.lognormvariate(0, 0.05)
        yield (
            index + 1,
            0.6 + index * FRAME_PERIOD_S + chance.uniform(0, FRAME_PERIOD_S / 20),
            "+",
            9,
            ms_type,
            int(fraction * facts.size_bytes),
            int(intensity / 900) + 1,
            int(intensity),
            NUM_SCANS,
            int(intensity / 80),
            1,
            25.783 + chance.uniform(-0.01, 0.01),
            28.877 + chance.uniform(-0.01, 0.01),
            1,
            1,
            round(chance.gauss(100.0, 0.05), 3),
            RAMP_TIME_MS,
        )


def chromatogram(fraction: float, peaks: list[tuple[float, float]]) -> float:
    """Total ion current at a part of the gradient: dead volume, elution with peaks, wash-out."""
    rise = 1 / (1 + math.exp((0.08 - fraction) / 0.01))
    fall = 1 / (1 + math.exp((fraction - 0.92) / 0.015))
    eluting = sum(height * math.exp(-(((fraction - at) / 0.03) ** 2)) for at, height in peaks)
    return 0.03 + rise * fall * (0.4 + eluting)
