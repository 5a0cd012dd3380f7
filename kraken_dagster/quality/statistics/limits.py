"""What charts are standardised by: limits from a guide set, and how often they alarm for nothing.

Limits from few runs lie: "3 sigma" of 20 runs alarms three times as often as 3 sigma. So below 30
runs the limits are those of a prediction interval, which the next run leaves as often as 3 sigma
would be left with mean and sigma known; below 5 there are none.
"""

import math
from dataclasses import dataclass

import numpy as np

from kraken_dagster.quality.statistics.charts import SIGMAS, Bools, Floats

FEWEST = 5
ENOUGH = 30
FALSE_ALARM = math.erfc(SIGMAS / math.sqrt(2))  # of 3 sigma, both sides: 0.0027
# In sigma from the median. 3.5, as is often recommended, leaves good runs out, and the limits of
# the rest are then too narrow: 1.7 times as many false alarms with 20 runs. With 5 it is 1.1 times,
# and an outlier of 8 sigma is still found in 98 of 100 guide sets.
_OUTLIER = 5.0
_ROUNDING = 1e-12  # of equal values the standard deviation is not always 0
_MAD_TO_SIGMA = 1.4826  # of a normal distribution


@dataclass(frozen=True)
class Limits:
    """Of one metric, in the unit that is charted: log10 of it where that was asked for.

    `sigmas` is how many standard deviations the limits are from the centre. `outliers` says which
    of the values were left out.
    """

    n: int
    centre: float
    sd: float
    sigmas: float
    outliers: Bools

    @property
    def half_width(self) -> float:
        return self.sigmas * self.sd

    @property
    def lower(self) -> float:
        return self.centre - self.half_width

    @property
    def upper(self) -> float:
        return self.centre + self.half_width

    def standardised(self, x: Floats) -> Floats:
        """Values such that the limits are at 3 sigma, however few runs they come from."""
        return np.asarray((x - self.centre) / (self.half_width / SIGMAS))

    @property
    def false_alarm(self) -> float:
        """How often a run in control is outside, on either side."""
        return false_alarm_rate(self.n, self.sigmas)


def limits(x: Floats, *, without_outliers: bool = False) -> Limits | None:
    """Limits from the values (n,) of a guide set, None if fewer than 5 are there or none differs.

    Args:
        without_outliers: leaves those out that the median and MAD tell.
    """
    x = np.asarray(x, dtype=float)
    outliers = find_outliers(x) if without_outliers else np.zeros(len(x), dtype=bool)
    kept = x[~outliers & ~np.isnan(x)]
    if len(kept) < FEWEST:
        return None
    centre, sd = float(np.mean(kept)), float(np.std(kept, ddof=1))
    if sd <= _ROUNDING * abs(centre):
        return None
    return Limits(
        n=len(kept),
        centre=centre,
        sd=sd,
        sigmas=width_of(len(kept)),
        outliers=outliers,
    )


def find_outliers(x: Floats) -> Bools:
    """Values farther than 5 sigma from the median, with sigma from the MAD (1.4826 MAD).

    They find outliers well, and make bad limits: with 20 runs a false alarm in 46.
    """
    x = np.asarray(x, dtype=float)
    if np.all(np.isnan(x)):
        return np.zeros(len(x), dtype=bool)
    away = np.abs(x - np.nanmedian(x))
    sigma = _MAD_TO_SIGMA * np.nanmedian(away)
    return np.asarray(np.greater(away, _OUTLIER * sigma) & (sigma > 0))


def width_of(n: int) -> float:
    """Half the width of the limits in standard deviations, from a guide set of `n` >= 5 runs."""
    if n < FEWEST:
        raise ValueError(f"limits need at least {FEWEST} runs, found {n}")
    if n >= ENOUGH:
        return SIGMAS
    return _t_quantile(FALSE_ALARM / 2, n - 1) * math.sqrt(1 + 1 / n)


def false_alarm_rate(n: int, sigmas: float) -> float:
    """How often a run in control is outside limits from `n` runs, on either side, on average."""
    return 2 * _t_tail(sigmas / math.sqrt(1 + 1 / n), n - 1)


def expected_false_alarms(rates: list[float], *, runs: float) -> float:
    """In how many of `runs` runs at least one metric alarms for nothing, if they are independent.

    Args:
        rates: of each metric, for one run.
    """
    return runs * (1 - math.prod(1 - rate for rate in rates))


def _t_tail(t: float, degrees: int) -> float:
    """P(T > t) of Student's distribution, t >= 0: Abramowitz & Stegun 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(degrees))
    cosine, odd = math.cos(angle), degrees % 2
    term = cosine if odd else 1.0
    total = term if degrees > 1 else 0.0
    for k in range(3 if odd else 2, degrees - 1, 2):
        term *= cosine**2 * ((k - 1) / k)
        total += term
    inside = math.sin(angle) * total
    if odd:
        inside = (angle + inside) * 2 / math.pi
    return (1 - inside) / 2


def _t_quantile(tail: float, degrees: int) -> float:
    """The t that is exceeded with probability `tail` < 0.5, by bisection."""
    low, high = 0.0, 1.0
    while _t_tail(high, degrees) > tail:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_tail(middle, degrees) > tail else (low, middle)
    return high
