"""The verdict on a run: how each of its metrics stands, by which chart, and the worst of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from kraken_dagster.config.quality_rules import Bounds, Chart, QcMetric, QualityControl, Side
from kraken_dagster.model.quality import MetricVerdict, Outcome, QcRun, Signal, Verdict
from kraken_dagster.quality.facts import Basis, Facts, basis_of, charted, in_unit
from kraken_dagster.quality.signals import BOUNDS, LEVEY_JENNINGS, signals_of
from kraken_dagster.quality.statistics.charts import Floats
from kraken_dagster.quality.statistics.limits import FEWEST, Limits, expected_false_alarms, limits
from kraken_dagster.quality.words import metric_in_words

_OUT = (LEVEY_JENNINGS, BOUNDS, "westgard")
_ORDER = (Outcome.NOT_JUDGED, Outcome.IN_CONTROL, Outcome.LOOK, Outcome.OUT_OF_CONTROL)
_MONTH = timedelta(days=30)


@dataclass(frozen=True)
class _Judge:
    run: QcRun
    facts: Facts
    basis: Basis
    charts: Sequence[Chart]

    def metric(self, name: str, rule: QcMetric) -> MetricVerdict:
        excluded = self.facts.excluded(self.run.raw_file, name)
        if excluded is not None:
            why = f"{name} is excluded by {excluded.by}: {excluded.why}"
            return MetricVerdict(name=name, value=None, outcome=Outcome.NOT_JUDGED, reason=why)
        value = self.run.metrics.get(name)
        x = charted(value, rule)
        if np.isnan(x):
            why = f"{name} is missing" if value is None else f"{name} {value:g} has no logarithm"
            return MetricVerdict(name=name, value=value, outcome=Outcome.NOT_JUDGED, reason=why)
        reference = self._reference(name, rule)
        found = limits(reference, without_outliers=self.basis.guide_set is None)
        bounds = rule.bounds_on(self.run.series.instrument_id)
        signals = [*_beyond(value, bounds), *self._signals(found, name, rule, x)]
        verdict = MetricVerdict(
            name=name,
            value=value,
            **_shown(found, rule, x),
            signals=tuple(signals),
            outcome=_outcome(signals, judged=found is not None or bounds.are_set),
            reason="",
        )
        compared = int(np.sum(~np.isnan(reference)))
        reason = metric_in_words(verdict, bounds, compared=compared)
        return verdict.model_copy(update={"reason": reason})

    def _reference(self, name: str, rule: QcMetric) -> Floats:
        """The values that limits are made of."""
        values = self.facts.values(self.basis.reference, name, rule)
        left_out = self.basis.left_out(name)
        marked = [item.raw_file in left_out for item in self.basis.reference]
        values[np.array(marked, dtype=bool)] = np.nan
        return values

    def _signals(self, found: Limits | None, name: str, rule: QcMetric, x: float) -> list[Signal]:
        if found is None:
            return []
        before = self.basis.before
        charts = self.charts if self.basis.guide_set is not None else ()
        values = np.append(self.facts.values(before, name, rule), x)
        times = [item.acquired_at for item in (*before, self.run)]
        return signals_of(
            found.standardised(values),
            times,
            side=rule.side,
            charts=charts,
            n=found.n,
            head_start=self.basis.head_start,
        )


def judge(
    run: QcRun, facts: Facts, qc: QualityControl, *, by: str, now: datetime, revision: int = 1
) -> Verdict:
    """How a run stands against its guide set, or else against the last good runs before it.

    Of `facts` only what was acquired before the run is looked at, and the guide set.
    """
    basis = basis_of(run, facts)
    metrics = () if _why_not(run, facts) else _metrics(run, facts, basis, qc)
    outcome = max((item.outcome for item in metrics), key=_ORDER.index, default=Outcome.NOT_JUDGED)
    good = [
        item.raw_file
        for item in facts.runs
        if item.order < run.order and facts.outcomes.get(item.raw_file) is Outcome.IN_CONTROL
    ]
    return Verdict(
        raw_file=run.raw_file,
        series=run.series,
        gradient_min=run.gradient_min,
        acquired_at=run.acquired_at,
        outcome=outcome,
        reason=_why_not(run, facts) or _reason(outcome, metrics, basis),
        metrics=metrics,
        guide_set=None if basis.guide_set is None else basis.guide_set.id,
        compared=() if basis.guide_set else tuple(item.raw_file for item in basis.reference),
        last_good=good[-1] if good else None,
        false_alarms_a_month=_false_alarms(run, facts, metrics),
        revision=revision,
        by=by,
        at=now,
    )


def _metrics(
    run: QcRun, facts: Facts, basis: Basis, qc: QualityControl
) -> tuple[MetricVerdict, ...]:
    """Of all metrics that this kind of result has."""
    one = _Judge(run, facts, basis, qc.charts)
    known = {*run.metrics, *(name for item in basis.reference for name in item.metrics)}
    rules = qc.metrics_of(run.series.sample_class)
    return tuple(one.metric(name, rule) for name, rule in rules.items() if name in known)


def _why_not(run: QcRun, facts: Facts) -> str | None:
    excluded = facts.excluded(run.raw_file)
    if excluded is not None:
        return f"excluded by {excluded.by}: {excluded.why}"
    event = facts.during(run.acquired_at)
    return None if event is None else f"acquired during: {event.kind}, {event.text}"


def _reason(outcome: Outcome, metrics: Sequence[MetricVerdict], basis: Basis) -> str:
    reported = [item for item in metrics if item.outcome is outcome]
    if outcome is Outcome.IN_CONTROL:
        within = f"within its limits: {', '.join(item.name for item in reported)}"
        missing = [item.reason for item in metrics if item.outcome is Outcome.NOT_JUDGED]
        return "; ".join([within, *missing])
    if outcome is not Outcome.NOT_JUDGED:
        return "; ".join(item.reason for item in reported)
    if not metrics:
        return "it has none of the metrics that `qc.metrics` names"
    if len(basis.reference) < FEWEST:
        what = "good runs before it" if basis.guide_set is None else "runs in its guide set"
        return f"only {len(basis.reference)} {what}, and limits need at least {FEWEST}"
    return "; ".join(item.reason for item in reported)


def _beyond(value: float | None, bounds: Bounds) -> list[Signal]:
    if value is None:
        return []
    if bounds.lower is not None and value < bounds.lower:
        return [Signal(chart=BOUNDS, statistic=value, limit=bounds.lower)]
    if bounds.upper is not None and value > bounds.upper:
        return [Signal(chart=BOUNDS, statistic=value, limit=bounds.upper)]
    return []


def _shown(found: Limits | None, rule: QcMetric, x: float) -> dict[str, float | int | None]:
    if found is None:
        return {}
    rate = found.false_alarm if rule.side is Side.BOTH else found.false_alarm / 2
    return {
        "n": found.n,
        "centre": in_unit(found.centre, rule),
        "lower": None if rule.side is Side.HIGH else in_unit(found.lower, rule),
        "upper": None if rule.side is Side.LOW else in_unit(found.upper, rule),
        "z": float(found.standardised(np.array([x]))[0]),
        "false_alarm": rate,
    }


def _outcome(signals: Sequence[Signal], *, judged: bool) -> Outcome:
    if any(item.chart.startswith(_OUT) for item in signals):
        return Outcome.OUT_OF_CONTROL
    if signals:
        return Outcome.LOOK
    return Outcome.IN_CONTROL if judged else Outcome.NOT_JUDGED


def _false_alarms(run: QcRun, facts: Facts, metrics: Sequence[MetricVerdict]) -> float | None:
    """A month, as many runs as there were in the month up to this one."""
    rates = [item.false_alarm for item in metrics if item.n]
    if not rates:
        return None
    began = run.acquired_at - _MONTH
    runs = sum(began < item.acquired_at and item.order < run.order for item in facts.runs) + 1
    return expected_false_alarms(rates, runs=runs)
