"""What a verdict says to people."""

from kraken_dagster.config.quality_rules import Bounds, Chart
from kraken_dagster.model.quality import MetricVerdict, Signal
from kraken_dagster.quality.statistics.limits import ENOUGH, FEWEST

_CHARTS = {
    Chart.CUSUM_VARIABILITY: "it varies more than it did",
    Chart.EWMA: "its weighted mean has left its limits",
    Chart.MOVING_RANGE: "it jumped from the run before",
}


def metric_in_words(verdict: MetricVerdict, bounds: Bounds, *, compared: int) -> str:
    """A metric, how far it is from its centre, by which limits, and what drifts.

    Args:
        compared: how many runs have a value that limits could be made of.
    """
    text = f"{verdict.name} {_number(verdict.value)}"
    if verdict.centre is None:
        text += f", and {compared} runs to compare with"
        text += ", which never differ" if compared >= FEWEST else f": limits need {FEWEST}"
    else:
        text += f", {_away(verdict)}"
        text += f" ({_limits(verdict)}, from {verdict.n} runs{_few(verdict.n)})"
    drifts = [_signal(item, bounds) for item in verdict.signals]
    return ": ".join([text, ", ".join(part for part in drifts if part)]) if any(drifts) else text


def _away(verdict: MetricVerdict) -> str:
    assert verdict.value is not None
    assert verdict.centre is not None
    centre = _number(verdict.centre)
    if verdict.centre <= 0 or verdict.value <= 0:  # a share of it would say nothing
        return f"mean {centre}"
    share = 100 * (verdict.value / verdict.centre - 1)
    return f"{abs(share):.0f} % {'below' if share < 0 else 'above'} the mean {centre}"


def _limits(verdict: MetricVerdict) -> str:
    if verdict.lower is None:
        return f"upper limit {_number(verdict.upper)}"
    if verdict.upper is None:
        return f"lower limit {_number(verdict.lower)}"
    return f"limits {_number(verdict.lower)} to {_number(verdict.upper)}"


def _few(n: int) -> str:
    return ", wide because they are few" if n < ENOUGH else ""


def _signal(signal: Signal, bounds: Bounds) -> str:
    if signal.chart == "bounds":
        over = signal.limit == bounds.upper
        return f"{'above' if over else 'below'} the fixed bound {_number(signal.limit)}"
    if signal.chart == Chart.CUSUM_MEAN:
        since = "" if signal.since is None else f" since {signal.since:%Y-%m-%d %H:%M} UTC"
        return f"it drifts {'up' if signal.statistic > 0 else 'down'}{since} (CUSUM)"
    if signal.chart.startswith(Chart.WESTGARD):
        return f"breaks Westgard's rule {signal.chart.removeprefix(Chart.WESTGARD).strip()}"
    return _CHARTS.get(Chart(signal.chart), "") if signal.chart in set(Chart) else ""


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
