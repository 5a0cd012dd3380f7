"""The verdicts of many runs side by side: as series, and what of them is out most often."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kraken_dagster.model.quality import MetricVerdict, Outcome, Series, Verdict

_TELLING = (Outcome.OUT_OF_CONTROL, Outcome.LOOK)


@dataclass(frozen=True)
class History:
    """The runs of one series in order of acquisition, each with its last verdict."""

    series: Series
    verdicts: Sequence[Verdict]

    @property
    def newest(self) -> Verdict:
        return self.verdicts[-1]

    @property
    def metric_names(self) -> list[str]:
        """Of all runs, in the order of the newest that has them."""
        found: dict[str, None] = {}
        for verdict in reversed(self.verdicts):
            found |= dict.fromkeys(item.name for item in verdict.metrics)
        return list(found)

    def of(self, name: str) -> list[MetricVerdict | None]:
        """How a metric stood in each run; None where it was not looked at."""
        return [
            next((item for item in verdict.metrics if item.name == name), None)
            for verdict in self.verdicts
        ]


@dataclass(frozen=True)
class Cause:
    """A metric, and in how many runs it was out of control, or to look at."""

    name: str
    out_of_control: int
    look: int
    share: float  # of all such metrics of all runs, in percent, this and those before it


def histories(verdicts: Iterable[Verdict], *, runs: int) -> list[History]:
    """By series, the one that was acquired last first, with the newest `runs` of each.

    Of the versions of a settings only the one that came last: others are the past.
    """
    found: dict[Series, list[Verdict]] = {}
    for item in sorted(verdicts, key=lambda item: (item.acquired_at, item.raw_file)):
        found.setdefault(item.series, []).append(item)
    newest: dict[tuple[str, str, str], History] = {}
    for series, items in found.items():
        history = History(series, items[-runs:])
        key = (series.instrument_id, series.sample_class, series.settings_name)
        if key not in newest or newest[key].newest.acquired_at < history.newest.acquired_at:
            newest[key] = history
    return sorted(newest.values(), key=lambda item: item.newest.acquired_at, reverse=True)


def most_often_out(history: History) -> list[Cause]:
    """The metrics that were out in any run, the most frequent first (Pareto)."""
    found: Counter[tuple[str, Outcome]] = Counter(
        (metric.name, metric.outcome)
        for verdict in history.verdicts
        for metric in verdict.metrics
        if metric.outcome in _TELLING
    )
    names = {name for name, _ in found}
    counts = {name: sum(found[name, outcome] for outcome in _TELLING) for name in names}
    in_order = sorted(names, key=lambda name: (-counts[name], name))
    causes, so_far, total = [], 0, sum(counts.values())
    for name in in_order:
        so_far += counts[name]
        out, look = (found[name, outcome] for outcome in _TELLING)
        causes.append(Cause(name, out, look, 100 * so_far / total))
    return causes
