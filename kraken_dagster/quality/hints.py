"""What a run that is out points to, by the site's table of hints."""

from collections.abc import Sequence

from kraken_dagster.config.quality_rules import QcHint, Side
from kraken_dagster.model.quality import MetricVerdict, Outcome, Verdict

_OUT = (Outcome.OUT_OF_CONTROL, Outcome.LOOK)
_ENOUGH = 3


def in_short(verdict: Verdict) -> str | None:
    """`ms1 signal 35 % below, fwhm rt 12 % above`; None where nothing is out."""
    return ", ".join(_away(item) for item in _out(verdict)) or None


def hints_of(verdict: Verdict, hints: Sequence[QcHint]) -> list[str]:
    """What those hints say whose every metric is out on its side, in the order of the table.

    One whose metrics are all in a hint before it says less than that one, and is left out.
    """
    sides = {item.name: _side(item) for item in _out(verdict)}
    found: list[QcHint] = []
    for hint in hints:
        holds = all(
            name in sides and side in (Side.BOTH, sides[name])
            for name, side in hint.metrics.items()
        )
        if holds and not any(hint.metrics.keys() <= item.metrics.keys() for item in found):
            found.append(hint)
    return list(dict.fromkeys(item.text for item in found))[:_ENOUGH]


def in_words(verdict: Verdict, hints: Sequence[QcHint]) -> str | None:
    """What is out, and what that points to: `ms1 signal 35 % below: spray or column?`"""
    short = in_short(verdict)
    said = hints_of(verdict, hints)
    return short if short is None or not said else f"{short}: {'; '.join(said)}"


def _out(verdict: Verdict) -> list[MetricVerdict]:
    return [item for item in verdict.metrics if item.outcome in _OUT]


def _side(metric: MetricVerdict) -> Side | None:
    """On which side it is out: by the chart that signals, else by its centre."""
    signals = [item for item in metric.signals if item.chart == "cusum_mean"]
    if metric.outcome is Outcome.LOOK and signals:
        return Side.HIGH if signals[0].statistic > 0 else Side.LOW
    bounds = [item for item in metric.signals if item.chart == "bounds"]
    centre = bounds[0].limit if bounds else metric.centre
    if metric.value is None or centre is None or metric.value == centre:
        return None
    return Side.HIGH if metric.value > centre else Side.LOW


def _away(metric: MetricVerdict) -> str:
    name, side = metric.name.replace("_", " "), _side(metric)
    if side is None:
        return f"{name} unusual"
    word = "above" if side is Side.HIGH else "below"
    if metric.outcome is Outcome.LOOK:
        return f"{name} drifts {'up' if side is Side.HIGH else 'down'}"
    value, centre = metric.value, metric.centre
    if value is None or centre is None or value <= 0 or centre <= 0:
        return f"{name} {'-' if value is None else f'{value:.3g}'}, {word} its limits"
    share = abs(100 * (value / centre - 1))
    return f"{name} {share:.0f} % {word}"
