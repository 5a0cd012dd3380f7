"""`/metrics` for Prometheus from the page's columns, without a question to MongoDB."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

from kraken_dagster.alerts.exposition import FilesOfInstrument, metrics_text
from kraken_dagster.model.files.dates import EARLIEST
from kraken_dagster.model.raw_file import AFTER_BACKUP, FINAL, Status
from kraken_dagster.web.feed import Feed
from kraken_dagster.web.intake import BACKED
from kraken_dagster.web.table.columns import Rows, Table
from kraken_dagster.web.views.fleet import any_of

_UNDER_WAY = tuple(sorted(set(Status) - FINAL - AFTER_BACKUP | {Status.ERROR}))


def gauges(feed: Feed) -> bytes:
    """
    Raises:
        ConfigError: the extra `alerts` isn't installed.
    """
    config, now = feed.services.config, feed.services.now()
    late_before = now - timedelta(hours=config.alerts.thresholds.no_backup_hours)
    with feed.table.lock:
        files = list(count_files(feed.table, list(config.instruments), late_before))
    return metrics_text(files, feed.known)


def count_files(
    table: Table, instruments: Sequence[str], late_before: datetime
) -> Iterator[FilesOfInstrument]:
    """Each instrument's files, in one pass over all rows."""
    column = table.columns.get("instrument_id")
    words = [] if column is None else column.words
    place = {word: number for number, word in enumerate(words)}
    of = table.codes("instrument_id")
    statuses, seen = table.columns.get("status"), table.numbers("created_at_")
    names = [] if statuses is None else statuses.words
    known = (of >= 0) & (table.codes("status") >= 0)
    pairs = of[known].astype(np.int64) * max(1, len(names)) + table.codes("status")[known]
    counts = np.bincount(pairs, minlength=len(words) * max(1, len(names)))
    created = table.numbers("created_at")
    # a date that can't be counts as the moment at which Kraken first saw the file
    can_be = (created >= EARLIEST.timestamp()) & (created <= seen)
    newest = _of_each(np.maximum, of, np.where(can_be, created, seen), len(words))
    late = any_of(table, _UNDER_WAY) & ~table.is_word(BACKED, "yes")
    late &= seen < late_before.timestamp()
    oldest = -_of_each(np.maximum, of, np.where(late, -seen, np.nan), len(words))
    number = np.bincount(of[late & (of >= 0)], minlength=len(words))
    for item in instruments:
        if item not in place:
            yield FilesOfInstrument(item, {})
            continue
        code = place[item]
        own = counts[code * len(names) : (code + 1) * len(names)]
        yield FilesOfInstrument(
            item,
            {name: int(count) for name, count in zip(names, own, strict=True) if count},
            _moment(newest[code]),
            int(number[code]),
            _moment(oldest[code]),
        )


def _of_each(reduce: np.ufunc, of: Rows, values: Rows, count: int) -> Rows:
    """The greatest value of each instrument; -inf where there is none."""
    found = np.full(count, -np.inf)
    there = (of >= 0) & ~np.isnan(values)
    reduce.at(found, of[there], values[there])
    return found


def _moment(seconds: float) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if np.isfinite(seconds) else None
