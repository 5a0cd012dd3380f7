"""Kraken's reader of Thermo's files beside another one (opentfraw, the extra `compare`)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kraken_dagster.fs.limited.child import call
from kraken_dagster.fs.limited.limits import ReadingLimits
from kraken_dagster.model.errors import FileFormatError, UnsupportedRawFile
from kraken_dagster.raw_readers import thermo
from kraken_dagster.raw_readers.contents import Scans

OTHER = "opentfraw"
_WITHIN_S = 600.0
# Our column, the other's, and how far the numbers may be from each other.
_COLUMNS = (
    ("ms_level", "ms_level", 0.0),
    ("rt_min", "retention_time", 0.0),
    ("tic", "total_ion_current", 0.0),
    ("base_peak", "base_peak_intensity", 0.0),
    ("injection_ms", "ion_injection_time_ms", 0.001),
    ("low_mz", "low_mz", 1e-6),
    ("high_mz", "high_mz", 1e-6),
)


@dataclass(frozen=True)
class Compared:
    """One column: how many scans differ, and by how much at most; `lacks`: which reader has no
    number there, and how often."""

    column: str
    scans: int
    differ: int
    most: float
    lacks: str = ""

    @property
    def in_words(self) -> str:
        reported = f"{self.scans} scans, all equal"
        if self.differ:
            reported = f"{self.differ} of {self.scans} scans differ, by {self.most:g} at most"
        return f"{reported}; {self.lacks}" if self.lacks else reported


def compare(raw: Path, *, limits: ReadingLimits) -> list[Compared]:
    """Every column of both readers' scans, in a child process with limits.

    Raises:
        FileFormatError: one of the readers can't read it, or they find other numbers of scans.
        UnsupportedRawFile: not Thermo's, or the other reader is not installed.
        CopyStalled
    """
    function = f"{__name__}:compare_there"
    found = call(function, raw, limits=limits, wall_s=_WITHIN_S, what=raw)
    return [Compared(**item) for item in found]


def compare_there(raw: Path) -> list[dict[str, Any]]:
    if raw.suffix.lower() != ".raw":
        raise UnsupportedRawFile("Only Thermo's files have a second reader", file=raw)
    try:
        import opentfraw  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise UnsupportedRawFile(
            f"The second reader, {OTHER}, is not installed",
            next_step="pip install 'kraken-dagster[compare]'",
        ) from error
    scans = thermo.read(raw).scans
    try:
        table = opentfraw.RawFile(str(raw)).scan_table()
    except (OSError, ValueError) as error:
        raise FileFormatError(f"{OTHER} can't read it", file=raw, found=error) from error
    if len(table["ms_level"]) != len(scans):
        raise FileFormatError(
            "The readers find other numbers of scans",
            file=raw,
            expected=f"{len(scans)}, as Kraken reads them",
            found=f"{len(table['ms_level'])} by {OTHER}",
        )
    return [vars(_compared(scans, table, *item)) for item in _COLUMNS]


def _compared(scans: Scans, table: Any, ours: str, theirs: str, tolerance: float) -> Compared:
    pairs = list(
        zip(_known(getattr(scans, ours), scans), _known(table[theirs], scans), strict=True)
    )
    both = [abs(one - other) for one, other in pairs if one is not None and other is not None]
    differ = [gap for gap in both if gap > tolerance]
    lacking = [
        f"{name} has no number for {count}"
        for name, count in (
            ("Kraken", sum(one is None for one, _ in pairs)),
            (OTHER, sum(other is None for _, other in pairs)),
        )
        if count
    ]
    return Compared(ours, len(both), len(differ), max(differ, default=0.0), "; ".join(lacking))


def _known(column: Sequence[float | None], scans: Scans) -> list[float | None]:
    if not len(column):
        return [None] * len(scans)
    return [None if value is None or math.isnan(value) else float(value) for value in column]
