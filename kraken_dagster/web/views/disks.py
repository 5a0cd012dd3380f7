"""How full every disk was, when it is full if it goes on like this, and a drawing of both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from kraken_dagster.alerts.rules.disks import FILE_SYSTEM, days_until_full
from kraken_dagster.alerts.snapshot import Trend
from kraken_dagster.web.quality.drawing import Scale, polylines

WIDTH, HEIGHT = 460, 170
KEPT = timedelta(days=30)  # what is drawn of the past, and at most of what is to come
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 450, 10, 142
_TREND_OF = timedelta(days=7)
_DAY = timedelta(days=1)
_FURTHEST_DAYS = 3650.0
_SHORTEST = timedelta(days=2)  # of what is drawn

Samples = Sequence[tuple[datetime, float]]  # times, and GB that were free then, oldest first


@dataclass(frozen=True)
class Forecast:
    """`days` until the disk is full, None where it isn't to be; `basis`: by what, in words."""

    days: float | None
    basis: str


@dataclass(frozen=True)
class Tick:
    at: float
    text: str


@dataclass(frozen=True)
class Drawing:
    """Free space over time, in units of an SVG of `WIDTH` times `HEIGHT`."""

    lines: Sequence[str]
    last: tuple[float, float]
    ahead: str  # the line of the forecast, or nothing
    now: float
    ticks: Sequence[Tick]
    dates: Sequence[Tick]


@dataclass(frozen=True)
class Disk:
    """A disk over time. `full_at`: when it is full if it goes on like this."""

    id: str
    what: str
    status: str
    looked_at: datetime | None
    free_gb: float | None
    total_gb: float | None
    forecast: Forecast
    full_at: datetime | None
    drawing: Drawing | None


def name_of(kind: str, disk_id: str) -> str:
    """What the disk is called where samples of it are kept."""
    return disk_id if kind == "instrument" else f"{FILE_SYSTEM}{disk_id}"


def disks(
    report: Mapping[str, Any],
    samples: Mapping[str, Samples],
    rates: Mapping[str, float | None],
    now: datetime,
) -> list[Disk]:
    """Stores and instruments: what is full first comes first, then the fullest.

    Args:
        rates: GB per day that come to the instruments' disks.
    """
    items = [("store", item) for item in report.get("file_systems", ())]
    items += [("instrument", item) for item in report.get("instruments", ())]
    found = [
        _disk(kind, item, samples.get(name_of(kind, item["id"]), ()), rates, now)
        for kind, item in items
    ]
    return sorted(found, key=_urgency)


def forecast(
    samples: Samples, free_gb: float | None, per_day_gb: float | None, now: datetime
) -> Forecast:
    """By the trend of what was free, and where that isn't known by the files that come."""
    recent = tuple((at, gb) for at, gb in samples if now - _TREND_OF <= at <= now)
    if recent and recent[-1][0] - recent[0][0] >= _DAY and now - recent[-1][0] < _DAY:
        days = days_until_full(Trend("", recent), now)
        if days is None or days > _FURTHEST_DAYS:
            return Forecast(None, "it gets no fuller, by the trend of the last 7 days")
        return Forecast(days, "by the trend of the last 7 days")
    if free_gb is not None and per_day_gb is not None:
        days = max(free_gb, 0.0) / per_day_gb
        if days <= _FURTHEST_DAYS:
            return Forecast(days, "at this week's rate of files, if nothing is purged")
    return Forecast(None, "not known: it takes a day of looks")


def _disk(
    kind: str,
    item: Mapping[str, Any],
    samples: Samples,
    rates: Mapping[str, float | None],
    now: datetime,
) -> Disk:
    free, total = item.get("free_space_gb"), item.get("total_space_gb")
    per_day = rates.get(item["id"]) if kind == "instrument" else None
    found = forecast(samples, free, per_day, now)
    seen = item.get("looked_at")
    shown = [*samples, *([(seen, free)] if seen is not None and free is not None else [])]
    shown = sorted(pair for pair in shown if now - KEPT <= pair[0] <= now)
    return Disk(
        id=item["id"],
        what="instrument" if kind == "instrument" else "store",
        status=str(item.get("status")),
        looked_at=seen,
        free_gb=free,
        total_gb=total,
        forecast=found,
        full_at=None if found.days is None else now + timedelta(days=found.days),
        drawing=_drawn(shown, total, found.days, now) if shown else None,
    )


def _drawn(samples: Samples, total: float | None, days: float | None, now: datetime) -> Drawing:
    begin = min(samples[0][0], now - _SHORTEST)
    ahead = KEPT if days is None else min(KEPT, timedelta(days=days * 1.1) + _DAY)
    # What is to come has no more room than what was, so that what was can be seen.
    end = now + min(ahead, max(now - begin, timedelta(days=7)))
    x = Scale(begin.timestamp(), end.timestamp(), _LEFT, _RIGHT)
    top = max([gb for _, gb in samples] + ([total] if total else [])) or 1.0
    y = Scale(0.0, top, _BOTTOM, _TOP)
    last_at, last = samples[-1]
    return Drawing(
        lines=_lines(samples, x, y),
        last=(x.at(last_at.timestamp()), y.at(last)),
        ahead=_ahead(last, days, (now, end), x, y),
        now=x.at(now.timestamp()),
        ticks=[Tick(y.at(value), _gb(value)) for value in y.ticks(3)],
        dates=_dates(begin, end, x),
    )


def _lines(samples: Samples, x: Scale, y: Scale) -> list[str]:
    """A gap of more than a day is one."""
    xs: list[float] = []
    ys: list[float | None] = []
    before: datetime | None = None
    for at, gb in samples:
        if before is not None and at - before > _DAY:
            xs.append(x.at(at.timestamp()))
            ys.append(None)
        xs.append(x.at(at.timestamp()))
        ys.append(y.at(gb))
        before = at
    return polylines(xs, ys)


def _ahead(
    free: float, days: float | None, span: tuple[datetime, datetime], x: Scale, y: Scale
) -> str:
    """The line from now to when nothing is free, as far as it is within the drawing."""
    if days is None:
        return ""
    now, end = span
    until = min(now + timedelta(days=days), end)
    share = (until - now) / timedelta(days=days) if days else 1.0
    points = [(now, free), (until, free * (1 - share))]
    return " ".join(f"{x.at(at.timestamp()):g},{y.at(gb):g}" for at, gb in points)


def _dates(begin: datetime, end: datetime, x: Scale) -> list[Tick]:
    """Midnights (UTC), as many as have room."""
    days = max(1, -(-(end - begin).days // 4))
    first = begin.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + _DAY
    found = []
    while first <= end:
        found.append(Tick(x.at(first.timestamp()), f"{first:%d %b}"))
        first += timedelta(days=days)
    return found


def _gb(value: float) -> str:
    return f"{value / 1024:.1f} TB" if value >= 1024 else f"{value:g} GB"


def _urgency(disk: Disk) -> tuple[float, float]:
    days = disk.forecast.days
    left = 2.0 if not disk.total_gb or disk.free_gb is None else disk.free_gb / disk.total_gb
    return (_FURTHEST_DAYS if days is None else days, left)
