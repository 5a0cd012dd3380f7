"""When a level changed: the split of a series into two means that fits best."""

from dataclasses import dataclass

import numpy as np

from kraken_dagster.quality.statistics.charts import Floats


@dataclass(frozen=True)
class ChangePoint:
    """`index` of the first value after the change, in the series as it was given."""

    index: int
    before: float
    after: float


def change_point(x: Floats, *, shortest: int = 2) -> ChangePoint | None:
    """The maximum likelihood estimate of one change of the mean of (n,) normal values.

    It says when, not whether: it is asked after a chart has signalled. None if there are fewer than
    2 `shortest` values; each part has at least `shortest`.
    """
    x = np.asarray(x, dtype=float)
    there = np.flatnonzero(~np.isnan(x))
    values = x[there]
    n = len(values)
    if n < 2 * shortest:
        return None
    first = np.arange(shortest, n - shortest + 1)
    sums = np.cumsum(values)
    before = sums[first - 1] / first
    after = (sums[-1] - sums[first - 1]) / (n - first)
    best = int(np.argmax(first * (n - first) / n * (after - before) ** 2))
    return ChangePoint(
        index=int(there[first[best]]), before=float(before[best]), after=float(after[best])
    )
