"""Where things stand in a drawing: numbers for SVG, in its units from the upper left."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

PAD = 0.08  # of the range, above and below


@dataclass(frozen=True)
class Scale:
    """From values to places: `low` is at `begin`, `high` at `end`."""

    low: float
    high: float
    begin: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        share = (self._on(value) - self.low) / (self.high - self.low)
        return round(self.begin + share * (self.end - self.begin), 1)

    def _on(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def ticks(self, count: int = 4) -> list[float]:
        """Round values within the scale, in the unit of the values."""
        if not self.log:
            return _round_values(self.low, self.high, count)
        decades = range(math.floor(self.low), math.ceil(self.high) + 1)
        digits = (1, 2, 5) if len(decades) <= count + 1 else (1,)
        values = [digit * 10.0**decade for decade in decades for digit in digits]
        within = [value for value in values if self.low <= math.log10(value) <= self.high]
        return within if len(within) > 1 else _round_values(10**self.low, 10**self.high, count)


def scale_of(
    values: Iterable[float | None], begin: float, end: float, *, log: bool = False
) -> Scale:
    """A scale on which all of these have room."""
    known = [
        math.log10(item) if log else item
        for item in values
        if item is not None and math.isfinite(item) and not (log and item <= 0)
    ]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        half = abs(low) * 0.05 or 1.0
        low, high = low - half, high + half
    pad = PAD * (high - low)
    return Scale(low - pad, high + pad, begin, end, log)


def polylines(xs: Sequence[float], ys: Sequence[float | None]) -> list[str]:
    """The `points` of lines through what is there; what is missing is a gap."""
    found: list[list[str]] = [[]]
    for x, y in zip(xs, ys, strict=True):
        if y is None:
            found.append([])
        else:
            found[-1].append(f"{x:g},{y:g}")
    return [" ".join(points) for points in found if points]


def steps(xs: Sequence[float], ys: Sequence[float | None], half: float) -> list[str]:
    """The same as steps: each value holds for its run, `half` to either side."""
    sides = np.repeat(np.asarray(xs, dtype=float), 2) + np.tile([-half, half], len(xs))
    doubled = [y for y in ys for _ in range(2)]
    return polylines([float(x) for x in sides], doubled)


def _round_values(low: float, high: float, count: int) -> list[float]:
    step = _round_step((high - low) / count)
    return [step * n for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _round_step(step: float) -> float:
    power = 10 ** math.floor(math.log10(step))
    return float(next((n * power for n in (1, 2, 5) if n * power >= step), 10 * power))
