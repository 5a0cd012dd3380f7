"""The instruments at a glance: what each does, what of it is not well, and the next step."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from kraken_dagster.model.alerts.alert import Alert, Severity, State
from kraken_dagster.model.raw_file import OPEN_ACQUISITION, Status
from kraken_dagster.web.intake import BACKED, GB, QUALITY
from kraken_dagster.web.table.columns import Mask, Rows, Table
from kraken_dagster.web.views.disks import Forecast, Samples, forecast
from kraken_dagster.web.views.robust import median, robust_sd
from kraken_dagster.web.views.words import ago

_FAILED = (Status.ERROR, Status.QUANTING_FAILED, Status.ACQUISITION_FAILED)
_QUEUED = (Status.QUEUED_FOR_QUANTING, Status.QUANTING)
_NEVER_BACKED_UP = (Status.IGNORED, Status.ACQUISITION_FAILED, *OPEN_ACQUISITION)
_FRIDAY = 4
_COMPARED = 30  # files before the last one
_FEWEST_COMPARED = 5
_RATE_OVER = timedelta(days=7)
_LONGEST_RUN_S = 12 * 3600  # between two starts; longer is a pause
_HEADLINE = ("precursors", "proteins", "peptides", "ms1_median_accumulation", "tic")


@dataclass(frozen=True)
class Metric:
    """A metric of the newest file beside the median of those before it.

    `deviation` in robust standard deviations (1.4826 times the median absolute deviation); None
    where there are too few, or all are the same.
    """

    name: str
    value: float
    median: float
    deviation: float | None


@dataclass(frozen=True)
class Card:
    """One instrument. `wrong`: what needs a person, each with its next step."""

    id: str
    type: str
    condition: str
    looked_at: datetime | None
    acquiring: str | None = None
    acquiring_since: datetime | None = None
    expected_end: datetime | None = None
    last_file: str | None = None
    last_at: datetime | None = None
    since_yesterday: int = 0
    since_friday: int = 0
    failed: int = 0
    not_backed_up: int = 0
    queued: int = 0
    free_gb: float | None = None
    disk: Forecast | None = None  # when it is full
    quality: str | None = None  # of the last run that was judged
    judged: str | None = None
    metrics: tuple[Metric, ...] = ()
    wrong: tuple[str, ...] = field(default=())
    alerts: int = 0  # that are open, and that nobody has acknowledged

    @property
    def level(self) -> str:
        """`bad`, `busy` or `quiet`: what a glance has to tell."""
        if self.wrong or self.alerts:
            return "bad"
        return "busy" if self.acquiring is not None else "quiet"


def cards(
    table: Table,
    report: Mapping[str, Any],
    now: datetime,
    samples: Mapping[str, Samples] | None = None,
    alerts: Sequence[Alert] = (),
) -> list[Card]:
    """What needs a person first, then what acquires, then by name.

    Args:
        samples: how much was free on the instruments' disks.
        alerts: that are open.
    """
    of_instrument = Counter(
        item.instrument
        for item in alerts
        if item.state is State.OPEN and item.severity is not Severity.INFO
    )
    with table.lock:
        # What the report leaves out follows from something greater that it tells.
        said = report.get("wrong", ())
        found = [
            replace(
                _card(
                    table,
                    {**item, "wrong": [line for line in item["wrong"] if line in said]},
                    now,
                    (samples or {}).get(item["id"], ()),
                ),
                alerts=of_instrument[item["id"]],
            )
            for item in report.get("instruments", ())
        ]
    order = ("bad", "busy", "quiet")
    return sorted(
        found, key=lambda card: (order.index(card.level), -len(card.wrong) - card.alerts, card.id)
    )


def of_all(report: Mapping[str, Any]) -> list[str]:
    """What is wrong, and is no single instrument's."""
    own = {line for item in report.get("instruments", ()) for line in item["wrong"]}
    return [line for line in report.get("wrong", ()) if line not in own]


def last_friday(now: datetime) -> datetime:
    """The beginning (UTC) of the last Friday; on a Friday, of the one a week before."""
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day - timedelta(days=(day.weekday() - _FRIDAY - 1) % 7 + 1)


def yesterday(now: datetime) -> datetime:
    """The beginning (UTC) of the day before."""
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(
        days=1
    )


def _card(table: Table, item: Mapping[str, Any], now: datetime, samples: Samples) -> Card:
    own = table.is_word("instrument_id", item["id"])
    rows = _by_time(table, own)
    created = table.numbers("created_at")
    friday = own & (created >= last_friday(now).timestamp())
    waiting = own & ~any_of(table, _NEVER_BACKED_UP) & ~table.is_word(BACKED, "yes")
    return Card(
        id=item["id"],
        type=str(item["type"]),
        condition=item["status"],
        looked_at=item["looked_at"],
        since_yesterday=int(np.count_nonzero(own & (created >= yesterday(now).timestamp()))),
        since_friday=int(np.count_nonzero(friday)),
        failed=int(np.count_nonzero(friday & any_of(table, _FAILED))),
        not_backed_up=int(np.count_nonzero(waiting)),
        queued=int(np.count_nonzero(own & any_of(table, _QUEUED))),
        free_gb=item["free_space_gb"],
        disk=forecast(samples, item["free_space_gb"], _gb_a_day(table, rows, now), now),
        metrics=_metrics(table, rows),
        wrong=tuple(item["wrong"]),
        **_acquiring(table, rows),
        **_last(table, rows),
        **_quality(table, rows),
    )


def any_of(table: Table, statuses: tuple[Status, ...]) -> Mask:
    found = np.zeros(len(table), dtype=bool)
    for status in statuses:
        found |= table.is_word("status", status)
    return found


def _last(table: Table, rows: Rows) -> dict[str, Any]:
    if len(rows) == 0:
        return {}
    row = int(rows[-1])
    return {"last_file": table.ids[row], "last_at": _time(table, row)}


def _quality(table: Table, rows: Rows) -> dict[str, Any]:
    judged = rows[table.codes(QUALITY)[rows] >= 0]
    if len(judged) == 0:
        return {}
    row = int(judged[-1])
    return {"quality": table.text(QUALITY, row), "judged": table.ids[row]}


def _acquiring(table: Table, rows: Rows) -> dict[str, Any]:
    """The newest file that is being written, and when it ends if it takes as long as those before.

    Files follow each other in a queue, so the median time between two starts is that of one.
    """
    being = any_of(table, tuple(OPEN_ACQUISITION))[rows]
    if len(rows) == 0 or not being[-1]:
        return {}
    row = int(rows[-1])
    since = _time(table, row)
    gaps = np.diff(table.numbers("created_at")[rows[-_COMPARED - 1 :]])
    gaps = gaps[(gaps > 0) & (gaps < _LONGEST_RUN_S)]
    end = None
    if len(gaps) >= _FEWEST_COMPARED and since is not None:
        end = since + timedelta(seconds=float(np.median(gaps)))
    return {"acquiring": table.ids[row], "acquiring_since": since, "expected_end": end}


def ages(table: Table, rows: Sequence[int], now: datetime) -> dict[int, str]:
    """How long ago these files were made; of one that is being written, when that should end."""
    open_ones = any_of(table, tuple(OPEN_ACQUISITION))
    found = {}
    for row in rows:
        made, end = _time(table, row), None
        if open_ones[row]:
            own = table.is_word("instrument_id", table.text("instrument_id", row))
            told = _acquiring(table, _by_time(table, own))
            end = told["expected_end"] if told.get("acquiring") == table.ids[row] else None
        if end is not None and end > now:
            found[row] = f"ends {ago(end, now)}"
        elif made is not None:
            found[row] = ago(made, now)
    return found


def _by_time(table: Table, mask: Mask) -> Rows:
    rows = np.flatnonzero(mask)
    created = table.numbers("created_at")
    rows = rows[np.argsort(created[rows], kind="stable")]
    return rows[~np.isnan(created[rows])]


def _time(table: Table, row: int) -> datetime | None:
    seconds = float(table.numbers("created_at")[row])
    return None if np.isnan(seconds) else datetime.fromtimestamp(seconds, UTC)


def rates(table: Table, instruments: Sequence[str], now: datetime) -> dict[str, float | None]:
    """GB per day that came to each instrument's disk in the last seven days."""
    with table.lock:
        own = {item: table.is_word("instrument_id", item) for item in instruments}
        return {item: _gb_a_day(table, _by_time(table, mask), now) for item, mask in own.items()}


def _gb_a_day(table: Table, rows: Rows, now: datetime) -> float | None:
    """Over the last seven days; None where less than a byte came a day."""
    recent = rows[table.numbers("created_at")[rows] >= (now - _RATE_OVER).timestamp()]
    per_day = float(np.nansum(table.numbers("size_gb")[recent])) / _RATE_OVER.days
    return per_day if per_day * GB >= 1 else None


def _metrics(table: Table, rows: Rows) -> tuple[Metric, ...]:
    found = []
    for name in _HEADLINE:
        values = table.numbers(name)[rows]
        values = values[np.isfinite(values)]
        if len(values) <= _FEWEST_COMPARED:
            continue
        before = values[-_COMPARED - 1 : -1]
        middle, last = median(before), float(values[-1])
        spread = robust_sd(before, middle)
        off = None if spread is None else last / spread - middle / spread
        found.append(Metric(name, last, middle, off))
    return tuple(found[:3])
