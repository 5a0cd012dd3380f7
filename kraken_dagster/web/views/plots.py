"""Metrics over time, or over one another: as many points as a plot has pixels.

Of many files the lowest, the highest and the mean of each pixel's column are given, for each group
by itself; few are given as they are. What is flagged is always given as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kraken_dagster.model.quality import Outcome
from kraken_dagster.web.column_config import matches
from kraken_dagster.web.intake import QUALITY
from kraken_dagster.web.table.columns import Mask, Numbers, Rows, Table
from kraken_dagster.web.views.packing import pack
from kraken_dagster.web.views.robust import median, robust_sd
from kraken_dagster.web.views.words import number

MOST_PLOTS = 24
MOST_OVERLAID = 12
_MOST_GROUPS = 12
_MOST_FLAGGED = 2_000
_POINTS_PER_PIXEL = 2
_DIGITS = 5
_SD = 3.0
_SHADES = 5  # of a gradient


@dataclass(frozen=True)
class View:
    """What of the files is plotted: over which column, from where to where, how wide in pixels."""

    x: str = "created_at"
    low: float | None = None
    high: float | None = None
    width: int = 600
    color: str = "instrument_id"


def series(
    table: Table, mask: Mask, pattern: str, view: View, baseline: Mask | None = None
) -> dict[str, Any]:
    """The groups of one plot, each with `x`, `y` and `ids`, or `bins` (pixels) and `low`, `high`,
    `mean`, packed (`packing.pack`); `flagged` points besides, and the median and band of the files
    of `baseline`, whenever they were made, else of all that are shown."""
    names = overlaid(table, pattern)
    x = table.numbers(view.x)
    rows = np.flatnonzero(mask & np.isfinite(x))
    whole = _range(x[rows])
    low = whole[0] if view.low is None else view.low
    high = whole[1] if view.high is None else view.high
    rows = rows[(x[rows] >= low) & (x[rows] <= high)]
    groups = []
    flagged = []
    values = []
    for name in names:
        y = table.numbers(name)
        own = rows[np.isfinite(y[rows])]
        values.append(y[own] if baseline is None else y[baseline & np.isfinite(y)])
        flagged += _flagged(table, own, x, y)
        of_name = _groups(table, own, view.color, name if len(names) > 1 else None)
        for shade, (label, some) in enumerate(of_name):
            points = _points(table, some, (x, y), (low, high), view.width)
            groups.append({"label": label, "shade": shade, **points})
    pack(groups)
    return {
        "name": pattern,
        "groups": groups,
        "flagged": flagged[:_MOST_FLAGGED],
        "range": [low, high],
        "width": view.width,
        "is_gradient": _is_gradient(table, view.color),
        **_band(values),
    }


def overlaid(table: Table, pattern: str) -> list[str]:
    """The columns with numbers that a name, or a name with `*`, stands for."""
    if "*" not in pattern:
        names = [pattern] if pattern in table.columns else []
    else:
        names = sorted(name for name in table.columns if matches(pattern, name))
    return [name for name in names if table.columns[name].numbers is not None][:MOST_OVERLAID]


def plottable(table: Table) -> list[str]:
    """Columns that can be an axis."""
    return sorted(name for name, column in table.columns.items() if column.numbers is not None)


def _groups(table: Table, rows: Rows, color: str, name: str | None) -> list[tuple[str, Rows]]:
    """The most frequent ones by themselves, and all others as one."""
    column = table.columns.get(color)
    if _is_gradient(table, color):
        return _shades(table.numbers(color)[rows], rows, name)
    if column is None or column.codes is None:
        return [(name or "files", rows)] if len(rows) else []
    codes = table.codes(color)[rows]
    found, counts = np.unique(codes, return_counts=True)
    kept = found[np.argsort(-counts, kind="stable")][:_MOST_GROUPS]
    prefix = "" if name is None else f"{name} "
    groups = [
        (f"{prefix}{column.words[code] if code >= 0 else 'none'}", rows[codes == code])
        for code in sorted(kept)
    ]
    others = rows[~np.isin(codes, kept)]
    return [*groups, (f"{prefix}others", others)] if len(others) else groups


def _is_gradient(table: Table, color: str) -> bool:
    column = table.columns.get(color)
    return column is not None and column.codes is None and not column.is_time


def _shades(values: Numbers, rows: Rows, name: str | None) -> list[tuple[str, Rows]]:
    """As many files in each, from the lowest values to the highest; last those without one."""
    prefix = "" if name is None else f"{name} "
    there = np.isfinite(values)
    groups = []
    if there.any():
        edges = np.quantile(values[there], np.linspace(0, 1, _SHADES + 1))
        shade = np.searchsorted(edges[1:-1], values, side="right")
        for place in range(_SHADES):
            label = f"{prefix}{number(float(edges[place]))} to {number(float(edges[place + 1]))}"
            groups.append((label, rows[there & (shade == place)]))
    return [*groups, *([(f"{prefix}none", rows[~there])] if not there.all() else [])]


def _points(
    table: Table,
    rows: Rows,
    axes: tuple[Numbers, Numbers],
    ends: tuple[float, float],
    width: int,
) -> dict[str, Any]:
    x, y = axes
    rows = rows[np.argsort(x[rows], kind="stable")]
    if len(rows) <= _POINTS_PER_PIXEL * width:
        ids = [table.ids[row] for row in rows]
        return {"x": _plain(x[rows], None), "y": _plain(y[rows]), "ids": ids}
    low, high = ends
    bins = np.minimum(((x[rows] - low) / (high - low) * width).astype(np.int64), width - 1)
    starts = np.flatnonzero(np.r_[True, bins[1:] != bins[:-1]])
    values = y[rows]
    counts = np.diff(np.r_[starts, len(values)])
    with np.errstate(over="ignore"):
        mean = np.add.reduceat(values / np.repeat(counts, counts), starts)
    return {
        "bins": bins[starts],
        "low": np.minimum.reduceat(values, starts),
        "high": np.maximum.reduceat(values, starts),
        "mean": mean,
    }


def _flagged(table: Table, rows: Rows, x: Numbers, y: Numbers) -> list[dict[str, Any]]:
    """The runs that quality control has found out of control; the newest first."""
    bad = rows[table.is_word(QUALITY, Outcome.OUT_OF_CONTROL)[rows]]
    bad = bad[np.argsort(-x[bad], kind="stable")][:_MOST_FLAGGED]
    return [{"id": table.ids[row], "x": float(x[row]), "y": float(y[row])} for row in bad]


def _band(values: Sequence[Numbers]) -> dict[str, float | None]:
    """Median, and three robust standard deviations around it."""
    joined = np.concatenate(values) if values else np.zeros(0)
    if len(joined) < 2:
        return {"median": None, "band_low": None, "band_high": None}
    middle = median(joined)
    half = _SD * (robust_sd(joined, middle) or 0)
    low, high = middle - half, middle + half
    if not half or not np.isfinite([low, high]).all():
        return {"median": middle, "band_low": None, "band_high": None}
    return {"median": middle, "band_low": low, "band_high": high}


def _range(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    if len(values) == 0:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _plain(values: Numbers, digits: int | None = _DIGITS) -> list[float]:
    """Numbers for JSON, with as many digits as can be seen; times keep all of theirs."""
    if digits is None:
        return [round(float(value), 3) for value in values]
    return [float(f"{value:.{digits}g}") for value in values]
