"""What is known of a series of runs when one of them is judged, and what it is compared with."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from kraken_dagster.config.quality_rules import QcMetric
from kraken_dagster.model.quality import (
    Annotation,
    AnnotationKind,
    Exclusion,
    GuideSet,
    Outcome,
    QcRun,
    same_gradient,
)
from kraken_dagster.quality.statistics.charts import Floats
from kraken_dagster.quality.statistics.limits import ENOUGH

MOST_CHARTED = 500  # runs that a CUSUM goes back
# One less than gives plain 3 sigma: the prediction interval has half as many false alarms.
RECENT = ENOUGH - 1


@dataclass(frozen=True)
class Facts:
    """`runs` are those of one series in order, those of its guide sets among them. Withdrawn
    annotations and exclusions are not here; withdrawn guide sets are."""

    runs: Sequence[QcRun]
    annotations: Sequence[Annotation] = ()
    exclusions: Sequence[Exclusion] = ()
    guide_sets: Sequence[GuideSet] = ()
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)

    def excluded(self, raw_file: str, metric: str | None = None) -> Exclusion | None:
        """What takes the run, or this metric of it, out."""
        for item in self.exclusions:
            if item.raw_file == raw_file and item.metric in (None, metric):
                return item
        return None

    def during(self, at: datetime) -> Annotation | None:
        """What was being done to the instrument at that time."""
        for item in self.annotations:
            if item.begins_at <= at < item.over_at:
                return item
        return None

    def is_usable(self, run: QcRun) -> bool:
        return self.excluded(run.raw_file) is None and self.during(run.acquired_at) is None

    def boundary(self, at: datetime) -> Annotation | None:
        """The last event after which a new guide set began."""
        found = [item for item in self.annotations if item.new_guide_set and item.over_at <= at]
        return max(found, key=lambda item: item.over_at, default=None)

    def last_event(self, at: datetime) -> Annotation | None:
        """The last event after which CUSUM starts anew."""
        found = [item for item in self.annotations if item.over_at <= at]
        return max(found, key=lambda item: item.over_at, default=None)

    def guide_set_for(self, run: QcRun) -> GuideSet | None:
        """The newest that is valid at that time, of the same gradient, and after the last event
        that began a new one."""
        boundary = self.boundary(run.acquired_at)
        found = [
            item
            for item in self.guide_sets
            if item.withdrawn_at is None
            and item.valid_from <= run.acquired_at
            and item.takes(run.gradient_min)
            and (boundary is None or item.valid_from >= boundary.over_at)
        ]
        return max(found, key=lambda item: (item.valid_from, item.at), default=None)

    def values(self, runs: Sequence[QcRun], metric: str, rule: QcMetric) -> Floats:
        """(runs,) as they are charted; NaN what is missing or excluded."""
        out = {item.raw_file for item in self.exclusions if item.metric in (None, metric)}
        found = (None if it.raw_file in out else it.metrics.get(metric) for it in runs)
        return np.array([charted(value, rule) for value in found], dtype=float)


@dataclass(frozen=True)
class Basis:
    """What a run is compared with: `reference` makes the limits; `before` are the runs since the
    last event, that CUSUM goes over, in order, and none without a guide set."""

    guide_set: GuideSet | None
    reference: Sequence[QcRun]
    before: Sequence[QcRun] = ()
    head_start: bool = False

    def left_out(self, metric: str) -> frozenset[str]:
        left = () if self.guide_set is None else self.guide_set.left_out
        return frozenset(item.raw_file for item in left if item.metric == metric)


def basis_of(run: QcRun, facts: Facts) -> Basis:
    """A guide set where there is one for the run, else the last 29 good runs before it."""
    guide_set = facts.guide_set_for(run)
    if guide_set is None:
        return Basis(None, _recent_good(run, facts))
    event = facts.last_event(run.acquired_at)
    began_at = guide_set.valid_from
    if event is not None:
        began_at = max(began_at, event.over_at)
    members = set(guide_set.runs)
    before = [
        item
        for item in facts.runs
        if began_at <= item.acquired_at
        and item.order < run.order
        and facts.is_usable(item)
        and guide_set.takes(item.gradient_min)
    ]
    return Basis(
        guide_set,
        reference=[item for item in facts.runs if item.raw_file in members],
        before=before[-MOST_CHARTED:],
        head_start=event is not None and event.kind is AnnotationKind.MAINTENANCE,
    )


def _recent_good(run: QcRun, facts: Facts) -> list[QcRun]:
    boundary = facts.boundary(run.acquired_at)
    found = [
        item
        for item in comparable(run, facts)
        if item.order < run.order
        and facts.outcomes.get(item.raw_file) is not Outcome.OUT_OF_CONTROL
        and (boundary is None or item.acquired_at >= boundary.over_at)
    ]
    return found[-RECENT:]


def comparable(run: QcRun, facts: Facts) -> list[QcRun]:
    """The usable runs of the same gradient, in order."""
    return [
        item
        for item in facts.runs
        if facts.is_usable(item) and same_gradient(run.gradient_min, item.gradient_min)
    ]


def charted(value: float | None, rule: QcMetric) -> float:
    """A value on the scale of its chart; NaN where it is missing, or has no logarithm."""
    if value is None or not math.isfinite(value) or (rule.log and value <= 0):
        return math.nan
    return math.log10(value) if rule.log else value


def in_unit(value: float, rule: QcMetric) -> float:
    """Back from the scale of the chart."""
    return float(10**value) if rule.log else value
