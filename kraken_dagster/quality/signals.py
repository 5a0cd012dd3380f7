"""Which charts signal at the last value of a series, on the side that is an alarm."""

import math
from collections.abc import Collection, Sequence
from datetime import datetime

import numpy as np

from kraken_dagster.config.quality_rules import Chart, Side
from kraken_dagster.model.quality import Signal
from kraken_dagster.quality.statistics.change_point import change_point
from kraken_dagster.quality.statistics.charts import (
    CUSUM_H,
    CUSUM_K,
    SIGMAS,
    Floats,
    cusum,
    ewma,
    moving_range,
    variability,
)
from kraken_dagster.quality.statistics.westgard import westgard

LEVEY_JENNINGS = "levey_jennings"
BOUNDS = "bounds"
# The upper limit of a moving range of standard normal values: 3.267 times the mean one, 1.128.
_RANGE_LIMIT = 3.267 * 1.128
_LOOKED_BACK = 100  # runs that may hold the change


def signals_of(
    z: Floats,
    times: Sequence[datetime],
    *,
    side: Side,
    charts: Collection[Chart],
    n: int,
    head_start: bool = False,
) -> list[Signal]:
    """The signals at the last value, which is not missing.

    Args:
        z: (runs,) standardised, since the charts began anew.
        times: when each was acquired.
        n: runs that the centre and sigma come from. Both are wrong by about 1 / sqrt(n), which a
            CUSUM would add up; its k is larger by that.
        head_start: CUSUM starts at half its limit, as after an intervention.
    """
    last, k = float(z[-1]), CUSUM_K + 1 / math.sqrt(n)
    found = []
    if abs(last) > SIGMAS and _alarms(last, side):
        found.append(Signal(chart=LEVEY_JENNINGS, statistic=last, limit=SIGMAS))
    if Chart.WESTGARD in charts:
        found += _by_westgard(z, side)
    if Chart.CUSUM_MEAN in charts:
        found += _by_cusum(z, times, side, k=k, start=CUSUM_H / 2 if head_start else 0.0)
    if Chart.CUSUM_VARIABILITY in charts and side is Side.BOTH:
        spread = cusum(variability(z), k=k)
        if spread.up_signals[-1]:
            statistic = float(spread.up[-1])
            found.append(Signal(chart=Chart.CUSUM_VARIABILITY, statistic=statistic, limit=CUSUM_H))
    if Chart.EWMA in charts:
        chart = ewma(z)
        mean = float(chart.mean[-1])
        if chart.signals[-1] and _alarms(mean, side):
            limit = float(chart.limit[-1])
            found.append(Signal(chart=Chart.EWMA, statistic=mean, limit=limit))
    if Chart.MOVING_RANGE in charts:
        found += _by_moving_range(z, side)
    return found


def _alarms(value: float, side: Side) -> bool:
    return side is Side.BOTH or (value > 0) == (side is Side.HIGH)


def _by_westgard(z: Floats, side: Side) -> list[Signal]:
    last = float(z[-1])
    broken = [name for name, places in westgard(z).items() if places[-1]]
    return [
        Signal(chart=f"{Chart.WESTGARD} {name}", statistic=last, limit=SIGMAS)
        for name in broken
        if _alarms(last, side) and name != "1_3s" and (side is Side.BOTH or name != "R_4s")
    ]


def _by_cusum(
    z: Floats, times: Sequence[datetime], side: Side, *, k: float, start: float
) -> list[Signal]:
    chart = cusum(z, k=k, start=start)
    found = []
    for sign, sums, signals in (
        (1, chart.up, chart.up_signals),
        (-1, chart.down, chart.down_signals),
    ):
        if signals[-1] and _alarms(sign, side):
            statistic = sign * float(sums[-1])
            changed = change_point(z[-_LOOKED_BACK:])
            since = None if changed is None else times[-_LOOKED_BACK:][changed.index]
            found.append(
                Signal(chart=Chart.CUSUM_MEAN, statistic=statistic, limit=CUSUM_H, since=since)
            )
    return found


def _by_moving_range(z: Floats, side: Side) -> list[Signal]:
    last = float(moving_range(z).ranges[-1]) if len(z) > 1 else float("nan")
    if np.isnan(last) or last <= _RANGE_LIMIT or not _alarms(float(z[-1]), side):
        return []
    return [Signal(chart=Chart.MOVING_RANGE, statistic=last, limit=_RANGE_LIMIT)]
