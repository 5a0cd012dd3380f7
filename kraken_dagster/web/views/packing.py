"""What is drawn of many files in as few bytes as the eye needs.

Of a first visit of the plots most bytes are numbers. A plot is some 200 pixels high, so that its
values are told in whole steps, 500 from the lowest to the highest of the plot.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kraken_dagster.web.table.columns import Numbers

VALUES = ("low", "high", "mean")
STEPS = 500
_DIGITS = 4
_DECADE = 10.0


def pack(groups: Sequence[dict[str, Any]]) -> None:
    """Makes plain numbers of the arrays of those groups that have `bins`.

    `bins` becomes the distance of each pixel from the one before, the first from 0. Values become
    whole steps, and `steps` says where the first is and how far it is to the next, in the metric's
    unit. Over more than a decade they stay numbers of 4 digits, since a logarithmic axis shows the
    lowest as large as the highest.
    """
    binned = [group for group in groups if "bins" in group]
    if not binned:
        return
    lowest = min(float(group["low"].min()) for group in binned)
    highest = max(float(group["high"].max()) for group in binned)
    step = (highest - lowest) / STEPS or 1.0
    is_linear = bool(np.isfinite(step)) and not 0 < lowest * _DECADE < highest
    for group in binned:
        group["bins"] = np.diff(group["bins"], prepend=0).tolist()
        if is_linear:
            group["steps"] = [lowest, step]
        for name in VALUES:
            values = group[name]
            group[name] = _in_steps(values, lowest, step) if is_linear else _in_digits(values)


def _in_steps(values: Numbers, lowest: float, step: float) -> list[int]:
    found: list[int] = np.rint((values - lowest) / step).astype(np.int64).tolist()
    return found


def _in_digits(values: Numbers) -> list[float]:
    return [float(f"{value:.{_DIGITS}g}") for value in values]
