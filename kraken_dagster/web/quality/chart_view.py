"""A control chart as a drawing: runs from left to right, equally far from each other."""

from collections.abc import Sequence
from dataclasses import dataclass

from kraken_dagster.config.quality_rules import Bounds
from kraken_dagster.model.quality import Annotation, GuideSet
from kraken_dagster.quality.metric_chart import MetricChart, Point
from kraken_dagster.quality.statistics.charts import CUSUM_H
from kraken_dagster.web.quality.drawing import Scale, polylines, scale_of, steps
from kraken_dagster.web.views.words import number

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 960.0, 300.0, 74.0, 26.0, 262.0
SUMS_HEIGHT = 110.0
_RIGHT = 12.0
_DATES = 6


@dataclass(frozen=True)
class Mark:
    """A run's point. `kind` is what it looks like; `title` what it says of itself."""

    x: float
    y: float
    kind: str
    point: Point
    title: str


@dataclass(frozen=True)
class ChartView:
    """`guide`: (x, width) of runs of the guide set; `notes`: (x, annotation)."""

    marks: Sequence[Mark]
    values: Sequence[str]
    means: Sequence[str]
    lower: Sequence[str]
    centre: Sequence[str]
    upper: Sequence[str]
    bounds: Sequence[tuple[float, str]]
    guide: Sequence[tuple[float, float]]
    notes: Sequence[tuple[float, Annotation]]
    ticks: Sequence[tuple[float, str]]
    dates: Sequence[tuple[float, str]]
    up: Sequence[str]
    down: Sequence[str]
    sums_limit: float


def chart_view(chart: MetricChart) -> ChartView:
    points = chart.points
    step = (WIDTH - LEFT - _RIGHT) / max(1, len(points))
    xs = [round(LEFT + (place + 0.5) * step, 1) for place in range(len(points))]
    bounds = chart.rule.bounds_on(chart.series.instrument_id)
    log = chart.rule.log
    y = scale_of(_all_values(points, bounds), BOTTOM, TOP, log=log)
    sums = scale_of([0, CUSUM_H, *_sums(points)], SUMS_HEIGHT - 8, 8)

    def ys(name: str, scale: Scale = y) -> list[float | None]:
        found = [getattr(item, name) for item in points]
        return [None if _missing(item, scale) else scale.at(item) for item in found]

    return ChartView(
        marks=_marks(points, xs, y),
        values=polylines(xs, ys("value")),
        means=polylines(xs, ys("trailing_mean")),
        lower=steps(xs, ys("lower"), step / 2),
        centre=steps(xs, ys("centre"), step / 2),
        upper=steps(xs, ys("upper"), step / 2),
        bounds=[
            (y.at(value), f"bound {number(value)}")
            for value in (bounds.lower, bounds.upper)
            if not _missing(value, y)
        ],
        guide=_stretches([it.in_guide_set for it in points], step),
        notes=[
            (round(LEFT + (chart.place(it.over_at) + 0.5) * step, 1), it)
            for it in chart.annotations
        ],
        ticks=[(y.at(value), number(float(f"{value:.4g}"))) for value in y.ticks()],
        dates=_dates(points, xs),
        up=polylines(xs, ys("up", sums)),
        down=polylines(xs, ys("down", sums)),
        sums_limit=sums.at(CUSUM_H),
    )


def guide_set_of(chart: MetricChart) -> GuideSet | None:
    """The one that the newest run is compared with."""
    wanted = None if chart.newest is None else chart.newest.guide_set
    return next((item for item in chart.guide_sets if item.id == wanted), None)


def _marks(points: Sequence[Point], xs: Sequence[float], scale: Scale) -> list[Mark]:
    return [
        Mark(x=x, y=scale.at(item.value), kind=_kind(item), point=item, title=_title(item))
        for x, item in zip(xs, points, strict=True)
        if item.value is not None
    ]


def _kind(point: Point) -> str:
    if point.exclusion is not None:
        return "excluded"
    if point.left_out:
        return "left_out"
    if point.outcome is not None:
        return point.outcome.value
    return "far" if point.is_far else "plain"


def _title(point: Point) -> str:
    value = "-" if point.value is None else number(point.value)
    parts = [f"{point.run.raw_file}, {point.run.acquired_at:%Y-%m-%d %H:%M} UTC: {value}"]
    if point.exclusion is not None:
        parts.append(f"excluded by {point.exclusion.by}: {point.exclusion.why}")
    if point.left_out:
        parts.append("left out of the guide set as an outlier")
    if point.reason:
        parts.append(f"{point.outcome}: {point.reason}".replace("_", " "))
    return "; ".join(parts)


def _all_values(points: Sequence[Point], bounds: Bounds) -> list[float | None]:
    names = ("value", "lower", "upper")
    found = [getattr(item, name) for item in points for name in names]
    return [*found, bounds.lower, bounds.upper]


def _sums(points: Sequence[Point]) -> list[float]:
    return [it for point in points for it in (point.up, point.down) if it is not None]


def _between(chart: MetricChart, note: Annotation, step: float) -> float:
    return round(LEFT + (chart.place(note.over_at) + 0.5) * step, 1)


def _missing(value: float | None, scale: Scale) -> bool:
    return value is None or (scale.log and value <= 0)


def _stretches(inside: Sequence[bool], step: float) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    for place, is_inside in enumerate(inside):
        if is_inside and place and inside[place - 1]:
            x, width = found.pop()
            found.append((x, round(width + step, 1)))
        elif is_inside:
            found.append((round(LEFT + place * step, 1), round(step, 1)))
    return found


def _dates(points: Sequence[Point], xs: Sequence[float]) -> list[tuple[float, str]]:
    """Some of the runs' days, as many as have room."""
    every = max(1, -(-len(points) // _DATES))
    return [
        (x, f"{item.run.acquired_at:%d %b %Y}")
        for x, item in list(zip(xs, points, strict=True))[::every]
    ]
