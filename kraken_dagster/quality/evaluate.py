"""Judges runs and records it: those that have no verdict yet, or all of them anew when asked."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from kraken_dagster.model.quality import Outcome, QcRun, Series, Verdict
from kraken_dagster.quality.facts import MOST_CHARTED, Facts
from kraken_dagster.quality.guide_sets import automatic
from kraken_dagster.quality.judge import judge
from kraken_dagster.quality.runs import qc_runs
from kraken_dagster.runtime.services import Services

_OF_THE_MOMENT = {"revision", "by", "at", "false_alarms_a_month"}


@dataclass(frozen=True)
class Judged:
    """A verdict that was recorded, and the one of the same run before it."""

    verdict: Verdict
    before: Verdict | None


def judge_due(services: Services, instrument_id: str, *, by: str) -> list[Judged]:
    """Judges every run that has metrics and no verdict, in order of acquisition.

    Verdicts that are there stay, whatever has become of limits since.
    """
    return _judge_runs(services, qc_runs(services, instrument_id), by=by, anew=False)


def evaluate(
    services: Services, instrument_id: str, *, by: str, sample_class: str | None = None
) -> list[Judged]:
    """Judges all runs anew, with the guide sets, annotations and exclusions of now.

    A run gets a further verdict where it differs from the last one, which is kept.
    """
    runs = [
        item
        for item in qc_runs(services, instrument_id, everything=True)
        if sample_class in (None, item.series.sample_class)
    ]
    return _judge_runs(services, runs, by=by, anew=True)


def newest_of_each_class(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """The verdicts, one for each settings, of the run of each sample class that came last."""
    found: dict[str, list[Verdict]] = {}
    for item in sorted(verdicts, key=lambda item: (item.acquired_at, item.raw_file)):
        last = found.get(item.series.sample_class, [])
        same = last if last and last[0].raw_file == item.raw_file else []
        found[item.series.sample_class] = [*same, item]
    return [item for items in found.values() for item in items]


def _judge_runs(services: Services, runs: Sequence[QcRun], *, by: str, anew: bool) -> list[Judged]:
    ids = list(dict.fromkeys(item.raw_file for item in runs))
    known = services.store.quality.latest(ids, in_short=not anew)
    by_series: dict[Series, list[QcRun]] = {}
    for run in runs:
        by_series.setdefault(run.series, []).append(run)
    found = []
    for series, members in by_series.items():
        verdicts = {
            raw_file: item for (raw_file, *_), item in known.items() if item.series == series
        }
        if anew or len(verdicts) < len(members):
            found += _judge_series(services, members, verdicts, by=by, anew=anew)
    return sorted(found, key=lambda item: (item.verdict.acquired_at, item.verdict.raw_file))


def _judge_series(
    services: Services,
    runs: Sequence[QcRun],
    known: Mapping[str, Verdict],
    *,
    by: str,
    anew: bool,
) -> list[Judged]:
    quality, qc, series = services.store.quality, services.config.qc, runs[0].series
    annotations = quality.annotations(series.instrument_id)
    exclusions = quality.exclusions([item.raw_file for item in runs])
    made = [item for item in quality.guide_sets(series.instrument_id) if item.series == series]
    outcomes: dict[str, Outcome] = {}
    if not anew:
        outcomes = {name: item.outcome for name, item in known.items()}
    found = []
    for place, run in enumerate(runs):
        before = known.get(run.raw_file)
        if before is not None and not anew:
            continue
        facts = Facts((), annotations, exclusions, made, outcomes)
        facts = replace(facts, runs=_needed(runs, place, facts, qc.guide_set_runs))
        new = automatic(
            run,
            facts,
            qc.metrics_of(series.sample_class),
            count=qc.guide_set_runs,
            now=services.now(),
        )
        if new is not None:
            quality.add_guide_set(new)
            made.append(new)
        revision = 1 if before is None else before.revision + 1
        verdict = judge(run, facts, qc, by=by, now=services.now(), revision=revision)
        outcomes[run.raw_file] = verdict.outcome
        if not _same(verdict, before) and quality.record(verdict):
            found.append(Judged(verdict, before))
    return found


def _needed(runs: Sequence[QcRun], place: int, facts: Facts, count: int) -> list[QcRun]:
    """Of the runs up to one: those before it, those of guide sets, and those that may make one."""
    recent = max(0, place + 1 - 2 * MOST_CHARTED)
    members = {name for item in facts.guide_sets for name in item.runs}
    event = facts.boundary(runs[place].acquired_at)
    after = [] if event is None else [it for it in runs[:recent] if it.acquired_at >= event.over_at]
    members |= {item.raw_file for item in after[: 2 * count]}
    return [*(it for it in runs[:recent] if it.raw_file in members), *runs[recent : place + 1]]


def _same(verdict: Verdict, before: Verdict | None) -> bool:
    if before is None:
        return False
    return verdict.model_dump(exclude=_OF_THE_MOMENT) == before.model_dump(exclude=_OF_THE_MOMENT)
