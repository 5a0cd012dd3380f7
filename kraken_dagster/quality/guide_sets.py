"""Guide sets: the runs that others are compared with, chosen by people or after an event."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from statistics import median

import numpy as np

from kraken_dagster.config.quality_rules import QcMetric
from kraken_dagster.model.errors import InputRefused
from kraken_dagster.model.quality import GuideSet, LeftOut, QcRun, Series, same_gradient
from kraken_dagster.quality.facts import Facts, comparable
from kraken_dagster.quality.statistics.limits import FEWEST, find_outliers

AUTOMATIC = "automatic"


def automatic(
    run: QcRun, facts: Facts, metrics: Mapping[str, QcMetric], *, count: int, now: datetime
) -> GuideSet | None:
    """The guide set of the first `count` good runs after the last event that asks for a new one.

    None where nothing asks for one, one is there or was withdrawn, or too few runs have come up to
    `run`. Outliers by median and MAD are left out, with a mark, metric by metric.
    """
    event = facts.boundary(run.acquired_at)
    if event is None or facts.guide_set_for(run) is not None:
        return None
    after = [
        item
        for item in comparable(run, facts)
        if event.over_at <= item.acquired_at and item.order <= run.order
    ]
    if len(after) < count:
        return None
    chosen = after[:count]
    guide_set = GuideSet(
        id=_id(event.id, run.series, chosen[0].raw_file),
        series=run.series,
        gradient_min=_gradient(chosen),
        runs=tuple(item.raw_file for item in chosen),
        left_out=tuple(outliers(chosen, facts, metrics)),
        valid_from=event.over_at,
        why=f"the first {count} good runs after: {event.kind}, {event.text}",
        by=AUTOMATIC,
        at=now,
    )
    known = {item.id for item in facts.guide_sets}
    return None if guide_set.id in known else guide_set


def by_hand(
    runs: Sequence[QcRun],
    *,
    without: Sequence[LeftOut] = (),
    valid_from: datetime | None = None,
    why: str,
    by: str,
    now: datetime,
) -> GuideSet:
    """A guide set of these runs.

    Raises:
        InputRefused: fewer than 5, of two series, or of two gradients.
    """
    ordered = sorted(runs, key=lambda item: item.order)
    if len(ordered) < FEWEST:
        raise InputRefused(
            "A guide set needs more runs",
            expected=f"at least {FEWEST}, and better 20",
            found=len(ordered),
            next_step="choose more runs that were good.",
        )
    gradient = _require_comparable(ordered)
    ids = tuple(item.raw_file for item in ordered)
    return GuideSet(
        id=_id(now.isoformat(), ordered[0].series, *ids),
        series=ordered[0].series,
        gradient_min=gradient,
        runs=ids,
        left_out=tuple(without),
        valid_from=valid_from or ordered[0].acquired_at,
        why=why,
        by=by,
        at=now,
    )


def _require_comparable(runs: Sequence[QcRun]) -> float | None:
    """The gradient of runs that are of one series and one gradient.

    Raises:
        InputRefused
    """
    gradient = _gradient(runs)
    for item in runs:
        if item.series != runs[0].series:
            raise InputRefused(
                "A guide set has runs of one instrument, sample class and settings version",
                file=item.raw_file,
                expected=runs[0].series.in_words(),
                found=item.series.in_words(),
                next_step="leave this run out: the scales of two versions may differ.",
            )
        if not same_gradient(gradient, item.gradient_min):
            raise InputRefused(
                "The runs of a guide set have one gradient length",
                file=item.raw_file,
                expected="unknown" if gradient is None else f"{gradient:.4g} min, within 10 %",
                found="unknown" if item.gradient_min is None else f"{item.gradient_min:.4g} min",
                next_step="leave this run out.",
            )
    return gradient


def outliers(runs: Sequence[QcRun], facts: Facts, metrics: Mapping[str, QcMetric]) -> list[LeftOut]:
    """The values among these runs that median and MAD tell from the others."""
    return [
        LeftOut(raw_file=runs[place].raw_file, metric=name)
        for name, rule in metrics.items()
        for place in map(int, np.flatnonzero(find_outliers(facts.values(runs, name, rule))))
    ]


def _gradient(runs: Sequence[QcRun]) -> float | None:
    known = [item.gradient_min for item in runs if item.gradient_min is not None]
    return median(known) if known else None


def _id(why: str, series: Series, *runs: str) -> str:
    """Always the same for the same choice, so that two who make it make one."""
    parts = (why, series.instrument_id, series.sample_class, series.settings_name)
    text = "\0".join((*parts, str(series.settings_version), *runs))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
