"""An instrument's quality at a glance: sparklines, the last verdict, what is out most often."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from kraken_dagster.config.quality_rules import QualityControl
from kraken_dagster.model.quality import MetricVerdict, Outcome, Verdict
from kraken_dagster.quality.hints import in_words
from kraken_dagster.quality.history import Cause, History, most_often_out
from kraken_dagster.quality.reported import compared_with
from kraken_dagster.web.quality.drawing import polylines, scale_of, steps

SPARK_RUNS = 30
HEAT_RUNS = 60
_BESIDE_RUNS = 30  # of two instruments beside each other
_WIDTH, _HEIGHT, _EDGE = 180.0, 34.0, 4.0
_CELL = 14.0


@dataclass(frozen=True)
class Sparkline:
    """A metric's last values; `marks`: (x, y, outcome) of the flagged ones and the last."""

    name: str
    last: MetricVerdict | None
    values: Sequence[str] = ()
    lower: Sequence[str] = ()
    upper: Sequence[str] = ()
    marks: Sequence[tuple[float, float, str]] = ()
    label: str = ""


@dataclass(frozen=True)
class HeatCell:
    """A metric of a run; `level` is z in whole sigma from -4 to 4, None where it has none."""

    x: float
    y: float
    level: int | None
    outcome: str
    title: str


@dataclass(frozen=True)
class HeatMap:
    """Runs from left to right, metrics from top to bottom, the verdicts above them."""

    size: float
    width: float
    height: float
    names: Sequence[tuple[float, str]]
    runs: Sequence[tuple[float, Verdict]]
    cells: Sequence[HeatCell]


@dataclass(frozen=True)
class SeriesGlance:
    history: History
    sparklines: Sequence[Sparkline]
    words: str | None
    compared: str
    causes: Sequence[Cause] = field(default=())
    heat: HeatMap | None = None

    @property
    def newest(self) -> Verdict:
        return self.history.newest


def glance(
    history: History, qc: QualityControl, *, closely: bool, beside: bool = False
) -> SeriesGlance:
    """`closely`: with the heat map, and what is out most often; `beside` another it is narrower."""
    return SeriesGlance(
        history=history,
        sparklines=[_sparkline(history, name) for name in history.metric_names],
        words=in_words(history.newest, qc.hints),
        compared=compared_with(history.newest),
        causes=most_often_out(history) if closely else (),
        heat=_heat_map(history, _BESIDE_RUNS if beside else HEAT_RUNS) if closely else None,
    )


def _sparkline(history: History, name: str) -> Sparkline:
    runs = history.of(name)[-SPARK_RUNS:]
    values = [None if item is None else item.value for item in runs]
    lower = [None if item is None else item.lower for item in runs]
    upper = [None if item is None else item.upper for item in runs]
    scale = scale_of([*values, *lower, *upper], _HEIGHT - _EDGE, _EDGE)
    step = (_WIDTH - 2 * _EDGE) / max(1, len(runs) - 1)
    xs = [round(_EDGE + n * step, 1) for n in range(len(runs))]

    def ys(some: Sequence[float | None]) -> list[float | None]:
        return [None if item is None else scale.at(item) for item in some]

    marks = [
        (x, scale.at(item.value), item.outcome.value)
        for place, (x, item) in enumerate(zip(xs, runs, strict=True))
        if item is not None
        and item.value is not None
        and (place == len(runs) - 1 or item.outcome in (Outcome.OUT_OF_CONTROL, Outcome.LOOK))
    ]
    out = sum(item is not None and item.outcome is Outcome.OUT_OF_CONTROL for item in runs)
    label = f"{name}: the last {len(runs)} runs, {out} out of control"
    half = step / 2
    return Sparkline(
        name=name,
        last=runs[-1],
        values=polylines(xs, ys(values)),
        lower=steps(xs, ys(lower), half),
        upper=steps(xs, ys(upper), half),
        marks=marks,
        label=label,
    )


def _heat_map(history: History, runs: int) -> HeatMap:
    verdicts = history.verdicts[-runs:]
    names = history.metric_names
    columns = {name: history.of(name)[-runs:] for name in names}
    cells = [
        _cell(place * _CELL, (row + 1) * _CELL, item, verdicts[place])
        for row, name in enumerate(names)
        for place, item in enumerate(columns[name])
        if item is not None
    ]
    return HeatMap(
        size=_CELL - 1,
        width=_CELL * len(verdicts),
        height=_CELL * (len(names) + 1),
        names=[((row + 1) * _CELL + _CELL - 4, name) for row, name in enumerate(names)],
        runs=[(place * _CELL, verdict) for place, verdict in enumerate(verdicts)],
        cells=cells,
    )


def _cell(x: float, y: float, metric: MetricVerdict, verdict: Verdict) -> HeatCell:
    level = None if metric.z is None else max(-4, min(4, round(metric.z)))
    title = f"{verdict.raw_file}: {metric.reason}"
    return HeatCell(x=x, y=y, level=level, outcome=metric.outcome.value, title=title)
