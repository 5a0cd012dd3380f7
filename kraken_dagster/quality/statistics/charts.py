"""Control charts as pure functions of NumPy arrays.

Every function takes values along axis 0, in order of acquisition, and may have further axes (one
column per metric). A missing value is NaN: it moves no statistic, breaks no chart, and its own
place in an answer is NaN, or no signal. Standardised values, here `z`, are (value - centre) /
sigma. What the limits are made of is in `limits`.
"""

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

CUSUM_K, CUSUM_H = 0.5, 5.0
EWMA_WEIGHT, EWMA_WIDTH = 0.2, 2.962
SIGMAS = 3.0
# Of sqrt(|z|) with z of the standard normal distribution (Hawkins 1981).
_ROOT_MEAN, _ROOT_SD = 0.822, 0.349
# Of the range of two values of a normal distribution: its mean in sigma, and the upper limit of a
# moving range as a multiple of the mean one (Montgomery, Appendix VI).
_D2, _D4 = 1.128, 3.267


def levey_jennings(z: Floats, *, width: float = SIGMAS) -> Bools:
    """Values farther than `width` sigma from the centre (Levey & Jennings 1950)."""
    return np.greater(np.abs(z), width)


@dataclass(frozen=True)
class MovingRange:
    """Individuals and their moving range (NIST/SEMATECH 6.3.2.2).

    `ranges` is how far a value is from the one that was there before it. `signals` are values
    outside `lower` and `upper`, `range_signals` ranges above `range_upper`.
    """

    ranges: Floats
    mean_range: Floats
    sigma: Floats
    lower: Floats
    upper: Floats
    range_upper: Floats
    signals: Bools
    range_signals: Bools


def moving_range(x: Floats) -> MovingRange:
    """In the unit of `x`, with limits from all of its values."""
    x = np.asarray(x, dtype=float)
    before = _before(x)
    ranges = np.abs(x - before)
    with np.errstate(invalid="ignore"):
        mean, mean_range = _mean(x), _mean(ranges)
    sigma = mean_range / _D2
    lower, upper = mean - SIGMAS * sigma, mean + SIGMAS * sigma
    return MovingRange(
        ranges=ranges,
        mean_range=mean_range,
        sigma=sigma,
        lower=lower,
        upper=upper,
        range_upper=_D4 * mean_range,
        signals=(x < lower) | (x > upper),
        range_signals=ranges > _D4 * mean_range,
    )


@dataclass(frozen=True)
class Cusum:
    """Cumulative sums of what is above and below the centre, in sigma, each at least 0.

    `up_length` and `down_length` count the values since the sum was last 0: how long ago the
    change began, where there is one.
    """

    up: Floats
    down: Floats
    up_length: Ints
    down_length: Ints
    up_signals: Bools
    down_signals: Bools


def cusum(z: Floats, *, k: float = CUSUM_K, h: float = CUSUM_H, start: float = 0.0) -> Cusum:
    """Tabular CUSUM (Page 1954; Montgomery 9.1), tuned for shifts of 2 `k` sigma.

    Args:
        h: the sums signal above it; in control every 465 values, both sides taken together.
        start: of the sums; h / 2 for a fast response after an intervention (Lucas & Crosier 1982).
    """
    z = np.asarray(z, dtype=float)
    up, down = _one_sided(z - k, start), _one_sided(-z - k, start)
    return Cusum(
        up=up,
        down=down,
        up_length=_length(up),
        down_length=_length(down),
        up_signals=np.greater(up, h),
        down_signals=np.greater(down, h),
    )


def variability(z: Floats) -> Floats:
    """What a CUSUM of variability is made over: about standard normal while sigma is what it was.

    Hawkins 1981. A value far off raises it on whichever side it is.
    """
    return np.asarray((np.sqrt(np.abs(z)) - _ROOT_MEAN) / _ROOT_SD)


@dataclass(frozen=True)
class Ewma:
    """The exponentially weighted mean in sigma, and how far it may be from 0 at each place."""

    mean: Floats
    limit: Floats
    signals: Bools


def ewma(
    z: Floats, *, weight: float = EWMA_WEIGHT, width: float = EWMA_WIDTH, start: float = 0.0
) -> Ewma:
    """EWMA (Lucas & Saccucci 1990; NIST/SEMATECH 6.3.2.4), with limits that widen at its start."""
    z = np.asarray(z, dtype=float)

    def of_column(values: Floats) -> Floats:
        steps = accumulate(values.tolist(), lambda e, x: e + weight * (x - e), initial=start)
        return np.array(list(steps)[1:])[np.newaxis]

    mean = over_present(z, of_column, answers=1)[0]
    count = np.cumsum(~np.isnan(z), axis=0)
    variance = weight / (2 - weight) * (1 - (1 - weight) ** (2.0 * count))
    limit = width * np.sqrt(variance)
    return Ewma(mean=mean, limit=limit, signals=np.greater(np.abs(mean), limit))


def trailing(x: Floats, *, window: int = 10) -> tuple[Floats, Floats]:
    """Mean and coefficient of variation of the last `window` values that are there.

    NaN as long as there are fewer. The coefficient is a fraction of the mean.
    """

    def of_column(values: Floats) -> Floats:
        answer = np.full((2, len(values)), np.nan)
        if len(values) >= window:
            views = np.lib.stride_tricks.sliding_window_view(values, window)
            mean = views.mean(axis=1)
            answer[0, window - 1 :] = mean
            with np.errstate(divide="ignore", invalid="ignore"):
                answer[1, window - 1 :] = views.std(axis=1, ddof=1) / np.abs(mean)
        return answer

    both = over_present(x, of_column, answers=2)
    return both[0], both[1]


def over_present(x: Floats, of_column: Any, *, answers: int) -> Floats:
    """A function of a gapless series, for each column without its gaps; they are NaN in the answer.

    Args:
        of_column: takes (values,), returns (answers, values).

    Returns:
        (answers, *x.shape)
    """
    x = np.asarray(x, dtype=float)
    columns = int(np.prod(x.shape[1:]))
    flat = x.reshape(len(x), columns)
    result = np.full((answers, *flat.shape), np.nan)
    for column in range(columns):
        there = np.flatnonzero(~np.isnan(flat[:, column]))
        result[:, there, column] = of_column(flat[there, column])
    return result.reshape(answers, *x.shape)


def _before(x: Floats) -> Floats:
    """The value that was there before each."""

    def of_column(values: Floats) -> Floats:
        return np.asarray(np.concatenate([[np.nan], values[:-1]])[: len(values)][np.newaxis])

    return np.asarray(over_present(x, of_column, answers=1)[0], dtype=float)


def _mean(x: Floats) -> Floats:
    count = np.sum(~np.isnan(x), axis=0)
    return np.asarray(np.nansum(x, axis=0) / count)


def _one_sided(steps: Floats, start: float) -> Floats:
    """max(0, before + step) at each place, by the running minimum of the plain sum."""
    there = ~np.isnan(steps)
    total = start + np.cumsum(np.where(there, steps, 0.0), axis=0)
    lowest = np.minimum(np.minimum.accumulate(total, axis=0), 0.0)
    return np.asarray(np.where(there, total - lowest, np.nan))


def _length(sums: Floats) -> Ints:
    """How many values in a row, up to each, had a sum above 0."""
    there = ~np.isnan(sums)
    count = np.cumsum(there, axis=0)
    at_zero = np.where(there & (sums <= 0), count, 0)
    return np.asarray(np.where(there, count - np.maximum.accumulate(at_zero, axis=0), 0))
