"""The whole laboratory in numbers: throughput, and what stands where."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from kraken_dagster.model.raw_file import FINAL, Status
from kraken_dagster.web.table.columns import Table

_DAYS = 14


@dataclass(frozen=True)
class Day:
    day: datetime
    counts: tuple[int, ...]  # by instrument
    sizes_gb: tuple[float, ...]
    total: int
    size_gb: float


@dataclass(frozen=True)
class Oldest:
    """The oldest file that is in a status, and isn't to stay there."""

    instrument: str
    status: str
    count: int
    id: str
    since: datetime | None


def throughput(table: Table, instruments: list[str], now: datetime) -> list[Day]:
    """Files by the day (UTC) on which they were made, newest first."""
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    with table.lock:
        created, sizes = table.numbers("created_at"), table.numbers("size_gb")
        own = [table.is_word("instrument_id", item) for item in instruments]
        found = []
        for number in range(_DAYS):
            day = midnight - timedelta(days=number)
            end = (day + timedelta(days=1)).timestamp()
            there = (created >= day.timestamp()) & (created < end)
            counts = tuple(int(np.count_nonzero(there & mask)) for mask in own)
            of_each = tuple(float(np.nansum(sizes[there & mask])) for mask in own)
            total = float(np.nansum(sizes[there]))
            found.append(Day(day, counts, of_each, int(np.count_nonzero(there)), total))
    return found


def oldest(table: Table) -> list[Oldest]:
    """Of each instrument and each status that a file leaves by itself; longest first."""
    found = []
    with table.lock:
        updated = table.numbers("updated_at_")
        for status in Status:
            if status in FINAL and status is not Status.ERROR:
                continue
            rows = np.flatnonzero(table.is_word("status", status))
            codes = table.codes("instrument_id")[rows]
            for code in np.unique(codes[codes >= 0]):
                own = rows[codes == code]
                row = int(own[np.argmin(np.nan_to_num(updated[own], nan=np.inf))])
                since = float(updated[row])
                found.append(
                    Oldest(
                        table.text("instrument_id", row),
                        status.value,
                        len(own),
                        table.ids[row],
                        None if np.isnan(since) else datetime.fromtimestamp(since, UTC),
                    )
                )
    return sorted(found, key=lambda item: item.since or datetime.max.replace(tzinfo=UTC))
