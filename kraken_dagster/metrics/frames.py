"""Quality figures of raw data from its frames, without a vendor's library.

Only Bruker's `analysis.tdf` so far, whose table `Frames` has a row per frame. Spectra are not
looked at. The program around it is `rawqc`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from kraken_dagster.domain.errors import FileFormatError, UnsupportedRawFile
from kraken_dagster.domain.tdf import TDF_NAME, read_table

_VENDORS = {".raw": "Thermo", ".wiff": "Sciex", ".wiff2": "Sciex"}
_MS1 = 0  # Frames.MsMsType; 8 is dda-PASEF, 9 dia-PASEF
_FRAME_COLUMNS = ("MsMsType", "Time", "SummedIntensities", "AccumulationTime")


@dataclass(frozen=True)
class Figures:
    """The columns of msqc_results.tsv, in their order.

    TICs are Bruker's `SummedIntensities` (arbitrary units), injection times its
    `AccumulationTime` (ms); a median is None if there is no frame of that level.
    `gradient_length` is in minutes, the last frame's `Time` minus the first one's.
    """

    raw_file: str
    ms1_scans: int
    ms1_median_tic: float | None
    ms1_median_injection_time: float | None
    ms2_scans: int
    ms2_median_tic: float | None
    ms2_median_injection_time: float | None
    gradient_length: float


@dataclass(frozen=True)
class _Frame:
    """A row of `Frames`, in the order of `_FRAME_COLUMNS`."""

    ms_type: float
    time_s: float
    tic: float
    accumulation_ms: float


def read_figures(raw: Path) -> Figures:
    """The figures of a Bruker raw folder, which is only read.

    Raises:
        UnsupportedRawFile: another vendor's, or no folder.
        FileFormatError: analysis.tdf is missing or damaged, or has no frames.
    """
    _refuse_other_vendors(raw)
    frames = _read_frames(raw / TDF_NAME)
    ms1 = [frame for frame in frames if frame.ms_type == _MS1]
    ms2 = [frame for frame in frames if frame.ms_type != _MS1]
    times = [frame.time_s for frame in frames]
    return Figures(
        raw_file=raw.absolute().name,
        ms1_scans=len(ms1),
        ms1_median_tic=_median([frame.tic for frame in ms1]),
        ms1_median_injection_time=_median([frame.accumulation_ms for frame in ms1]),
        ms2_scans=len(ms2),
        ms2_median_tic=_median([frame.tic for frame in ms2]),
        ms2_median_injection_time=_median([frame.accumulation_ms for frame in ms2]),
        gradient_length=(max(times) - min(times)) / 60,
    )


def _refuse_other_vendors(raw: Path) -> None:
    vendor = _VENDORS.get(raw.suffix.lower())
    if vendor is None and not raw.is_file():
        return
    raise UnsupportedRawFile(
        f"{vendor or 'This vendor'}'s files can't be read yet",
        file=raw,
        expected="a Bruker .d folder",
    )


def _read_frames(path: Path) -> list[_Frame]:
    rows = read_table(path, "Frames", _FRAME_COLUMNS)
    if not rows:
        raise FileFormatError(f"Table Frames of {TDF_NAME} has no frames", file=path)
    return [_Frame(*(_number(path, value) for value in row)) for row in rows]


def _number(path: Path, value: object) -> float:
    if isinstance(value, int | float):
        return value
    raise FileFormatError(
        f"Table Frames of {TDF_NAME} has a cell that is no number",
        file=path,
        expected=f"numbers in {', '.join(_FRAME_COLUMNS)}",
        found=repr(value),
    )


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None
