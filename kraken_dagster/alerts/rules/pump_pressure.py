"""When the pressure of an instrument's pump has risen.

The rule and its defaults are AlphaKraken's (`monitoring/alerts/pump_pressure_alert.py` there).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kraken_dagster.alerts.snapshot import Pressure

_SENSIBLE_BAR = 1000  # beyond it a reading is none
_GRADIENT_WITHIN = 0.1


@dataclass(frozen=True)
class Rise:
    younger: Pressure
    older: Pressure

    @property
    def bar(self) -> float:
        return self.younger.bar - self.older.bar


def rise(newest: Sequence[Pressure], *, window: int, bar: float) -> Rise | None:
    """The youngest rise of more than `bar` over `window` files of the newest file's gradient.

    Args:
        newest: newest first.
    """
    for older, younger in zip(newest[window:], newest, strict=False):
        alike = all(_is_alike(item.gradient, newest[0].gradient) for item in (older, younger))
        sensible = max(older.bar, younger.bar) <= _SENSIBLE_BAR
        if alike and sensible and younger.bar - older.bar > bar:
            return Rise(younger, older)
    return None


def too_high(newest: Sequence[Pressure], *, bar: float) -> list[Pressure]:
    return [item for item in newest if bar <= item.bar <= _SENSIBLE_BAR]


def _is_alike(gradient: float | None, other: float | None) -> bool:
    """False where one isn't known, or is no gradient."""
    if gradient is None or other is None or other == 0:
        return False
    return 1 - _GRADIENT_WITHIN < gradient / other < 1 + _GRADIENT_WITHIN
