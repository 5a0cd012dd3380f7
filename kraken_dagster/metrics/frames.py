"""Quality figures of raw data from its frames, without a vendor's library.

Only Bruker's `analysis.tdf` and `analysis.tsf` so far, whose table `Frames` has a row per frame.
Spectra are not looked at. The program around it is `rawqc`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from kraken_dagster.domain.errors import FileFormatError, UnsupportedRawFile
from kraken_dagster.domain.tdf import TSF_NAME, index_path, read_table, stands

_VENDORS = {".raw": "Thermo", ".wiff": "Sciex", ".wiff2": "Sciex"}
_MS1 = 0  # Frames.MsMsType; 8 is dda-PASEF, 9 dia-PASEF
_FRAME_COLUMNS = ("MsMsType", "Time", "SummedIntensities")
_ACCUMULATION = "AccumulationTime"  # of what was trapped: a tsf has none
_BAF_NAME = "analysis.baf"


@dataclass(frozen=True)
class Figures:
    """The columns of msqc_results.tsv, in their order.

    TICs are Bruker's `SummedIntensities` (arbitrary units), injection times its
    `AccumulationTime` (ms); a median is None if there is no such number at that level.
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
    """A row of `Frames`, in the order of `_FRAME_COLUMNS`, and `_ACCUMULATION`."""

    ms_type: float
    time_s: float
    tic: float
    accumulation_ms: float | None


def read_figures(raw: Path) -> Figures:
    """The figures of a Bruker raw folder, which is only read.

    Raises:
        UnsupportedRawFile: another vendor's, or no folder.
        FileFormatError: the frames' database is missing, damaged, incomplete or has none, or its
            data are incomplete.
    """
    _refuse_other_vendors(raw)
    frames = _read_frames(index_path(raw))
    ms1 = [frame for frame in frames if frame.ms_type == _MS1]
    ms2 = [frame for frame in frames if frame.ms_type != _MS1]
    times = [frame.time_s for frame in frames]
    return Figures(
        raw_file=raw.absolute().name,
        ms1_scans=len(ms1),
        ms1_median_tic=_median([frame.tic for frame in ms1]),
        ms1_median_injection_time=_median(_accumulations(ms1)),
        ms2_scans=len(ms2),
        ms2_median_tic=_median([frame.tic for frame in ms2]),
        ms2_median_injection_time=_median(_accumulations(ms2)),
        gradient_length=(max(times) - min(times)) / 60,
    )


def _refuse_other_vendors(raw: Path) -> None:
    vendor = _VENDORS.get(raw.suffix.lower())
    is_baf = not stands(index_path(raw)) and stands(raw / _BAF_NAME)
    if vendor is None and not raw.is_file() and not is_baf:
        return
    raise UnsupportedRawFile(
        f"{_BAF_NAME} can't be read yet"
        if is_baf
        else f"{vendor or 'This vendor'}'s files can't be read yet",
        file=raw,
        expected="a Bruker .d folder with analysis.tdf or analysis.tsf",
    )


def _read_frames(path: Path) -> list[_Frame]:
    # Only what was trapped has such a time.
    required = _FRAME_COLUMNS if path.name == TSF_NAME else (*_FRAME_COLUMNS, _ACCUMULATION)
    optional = () if _ACCUMULATION in required else (_ACCUMULATION,)
    rows = read_table(path, "Frames", required, optional=optional, all_data=True)
    if not rows:
        raise FileFormatError(f"Table Frames of {path.name} has no frames", file=path)
    return [_frame(path, *row) for row in rows]


def _frame(path: Path, ms_type: object, time: object, tic: object, trapped: object) -> _Frame:
    missing = trapped is None and path.name == TSF_NAME
    return _Frame(
        _number(path, ms_type),
        _number(path, time),
        _number(path, tic),
        None if missing else _number(path, trapped),
    )


def _accumulations(frames: Sequence[_Frame]) -> list[float]:
    """Those that were measured: nothing is trapped in no time."""
    times = (frame.accumulation_ms for frame in frames)
    return [time for time in times if time is not None and time > 0]


def _number(path: Path, value: object) -> float:
    if isinstance(value, int | float):
        return value
    raise FileFormatError(
        f"Table Frames of {path.name} has a cell that is no number",
        file=path,
        expected=f"numbers in {', '.join((*_FRAME_COLUMNS, _ACCUMULATION))}",
        found=repr(value),
    )


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None
