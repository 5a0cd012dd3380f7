"""Median and spread that no number overflows."""

import numpy as np

from kraken_dagster.web.table.columns import Numbers

_MAD_TO_SD = 1.4826  # of a normal distribution


def median(values: Numbers) -> float:
    """Of finite values; the mean of the two in the middle of an even number."""
    return float(np.median(values / 2) * 2)


def robust_sd(values: Numbers, around: float) -> float | None:
    """1.4826 times the median absolute deviation; None where it is 0, or greater than a float."""
    with np.errstate(over="ignore"):
        found = _MAD_TO_SD * float(np.median(np.abs(values - around) / 2) * 2)
    return found if 0 < found < float("inf") else None
