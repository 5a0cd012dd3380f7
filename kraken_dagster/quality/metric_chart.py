"""One metric of a series over its runs, with everything that limits and people say of it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from kraken_dagster.config.quality_rules import QcMetric
from kraken_dagster.model.quality import (
    Annotation,
    Exclusion,
    GuideSet,
    Outcome,
    QcRun,
    Series,
    Verdict,
)
from kraken_dagster.quality.facts import Basis, Facts, basis_of, charted, in_unit
from kraken_dagster.quality.runs import qc_runs
from kraken_dagster.quality.statistics.charts import (
    CUSUM_H,
    CUSUM_K,
    SIGMAS,
    Cusum,
    Floats,
    cusum,
    trailing,
)
from kraken_dagster.quality.statistics.limits import limits
from kraken_dagster.runtime.services import Services


@dataclass(frozen=True)
class Point:
    """A run in a chart, in the metric's unit. `lower`, `centre`, `upper`: of its verdict, or else
    of the newest limits. `outcome`: of the metric, None where runs are not judged by it."""

    run: QcRun
    value: float | None
    lower: float | None = None
    centre: float | None = None
    upper: float | None = None
    outcome: Outcome | None = None
    is_far: bool = False  # outside, where runs are not judged by it
    verdict: Verdict | None = None
    reason: str = ""
    exclusion: Exclusion | None = None
    in_guide_set: bool = False
    left_out: bool = False
    trailing_mean: float | None = None
    up: float | None = None  # the sums of a CUSUM, in sigma
    down: float | None = None


@dataclass(frozen=True)
class MetricChart:
    """`n`: runs that the newest limits come from. `trailing_cv`: of the last ten values."""

    series: Series
    metric: str
    rule: QcMetric
    is_judged: bool
    points: Sequence[Point]
    annotations: Sequence[Annotation]
    guide_sets: Sequence[GuideSet]
    n: int
    trailing_cv: float | None
    newest: Verdict | None

    def place(self, at: datetime) -> float:
        """Between which runs a moment is: 0.5 is between the first and the second."""
        return sum(item.run.acquired_at < at for item in self.points) - 0.5


def metric_chart(services: Services, series: Series, metric: str, *, runs: int) -> MetricChart:
    """The newest `runs` runs of a series, excluded ones among them."""
    quality, qc = services.store.quality, services.config.qc
    found = [
        item
        for item in qc_runs(services, series.instrument_id, also=[metric])
        if item.series == series
    ]
    facts = Facts(
        found,
        quality.annotations(series.instrument_id),
        quality.exclusions([item.raw_file for item in found]),
        [item for item in quality.guide_sets(series.instrument_id) if item.series == series],
    )
    shown = found[-runs:]
    latest = quality.latest([item.raw_file for item in shown])
    verdicts = {name: item for (name, *_), item in latest.items() if item.series == series}
    rules = qc.metrics_of(series.sample_class)
    rule = rules.get(metric, QcMetric())
    standing = _Standing(facts, metric, rule, basis_of(shown[-1], facts)) if shown else None
    first = shown[0].acquired_at if shown else services.now()
    return MetricChart(
        series=series,
        metric=metric,
        rule=rule,
        is_judged=metric in rules,
        points=[] if standing is None else standing.points(shown, verdicts),
        annotations=[item for item in facts.annotations if item.over_at >= first],
        guide_sets=[item for item in facts.guide_sets if item.withdrawn_at is None],
        n=0 if standing is None or standing.limits is None else standing.limits.n,
        trailing_cv=None if standing is None else standing.trailing_cv(shown),
        newest=verdicts.get(shown[-1].raw_file) if shown else None,
    )


@dataclass
class _Standing:
    """Where values stand by the limits of the newest run."""

    facts: Facts
    metric: str
    rule: QcMetric
    basis: Basis

    def __post_init__(self) -> None:
        reference = self.facts.values(self.basis.reference, self.metric, self.rule)
        left_out = self.basis.left_out(self.metric)
        marked = [item.raw_file in left_out for item in self.basis.reference]
        reference[np.array(marked, dtype=bool)] = np.nan
        self.limits = limits(reference, without_outliers=self.basis.guide_set is None)

    def points(self, shown: Sequence[QcRun], verdicts: Mapping[str, Verdict]) -> list[Point]:
        values = self.facts.values(shown, self.metric, self.rule)
        mean, _ = trailing(values)
        sums = self._cusum(shown, values)
        members = set() if self.basis.guide_set is None else set(self.basis.guide_set.runs)
        left_out = self.basis.left_out(self.metric)
        return [
            Point(
                run=run,
                value=self._shown_value(run),
                **self._limits_of(run, verdicts.get(run.raw_file)),
                exclusion=self.facts.excluded(run.raw_file, self.metric),
                in_guide_set=run.raw_file in members,
                left_out=run.raw_file in left_out,
                trailing_mean=None if np.isnan(mean[n]) else in_unit(float(mean[n]), self.rule),
                up=None if np.isnan(sums.up[n]) else float(sums.up[n]),
                down=None if np.isnan(sums.down[n]) else float(sums.down[n]),
            )
            for n, run in enumerate(shown)
        ]

    def trailing_cv(self, shown: Sequence[QcRun]) -> float | None:
        """Of the last ten values as they are, not of their logarithms."""
        plain = self.rule.model_copy(update={"log": False})
        _, cv = trailing(self.facts.values(shown, self.metric, plain))
        known = cv[np.isfinite(cv)]
        return float(known[-1]) if len(known) else None

    def _cusum(self, shown: Sequence[QcRun], values: Floats) -> Cusum:
        """Since the last event, as verdicts have it; nothing without a guide set."""
        before = {item.raw_file for item in self.basis.before}
        since = np.array([it.raw_file in before or it is shown[-1] for it in shown], dtype=bool)
        if self.limits is None or self.basis.guide_set is None:
            return cusum(np.full(len(shown), np.nan))
        z = np.where(since, self.limits.standardised(values), np.nan)
        start = CUSUM_H / 2 if self.basis.head_start else 0.0
        return cusum(z, k=CUSUM_K + 1 / math.sqrt(self.limits.n), start=start)

    def _shown_value(self, run: QcRun) -> float | None:
        value = run.metrics.get(self.metric)
        return None if math.isnan(charted(value, self.rule)) else value

    def _limits_of(self, run: QcRun, verdict: Verdict | None) -> dict[str, Any]:
        """Those of its verdict, or else those of the newest run."""
        own = None
        if verdict is not None:
            own = next((it for it in verdict.metrics if it.name == self.metric), None)
        if own is not None:
            names = ("lower", "centre", "upper", "outcome", "reason")
            return {"verdict": verdict, **{name: getattr(own, name) for name in names}}
        if self.limits is None:
            return {"verdict": verdict}
        x = charted(run.metrics.get(self.metric), self.rule)
        ends = {name: getattr(self.limits, name) for name in ("lower", "centre", "upper")}
        return {
            "verdict": verdict,
            **{name: in_unit(value, self.rule) for name, value in ends.items()},
            "is_far": bool(abs(self.limits.standardised(np.array([x]))[0]) > SIGMAS),
        }
