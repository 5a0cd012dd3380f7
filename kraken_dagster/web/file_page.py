"""Everything that is known of one file, in an order for people."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from kraken_dagster.metrics.catalogue import Described, described
from kraken_dagster.model.metric_values import RESERVED_NAMES
from kraken_dagster.operations.file_report import show
from kraken_dagster.runtime.services import Services
from kraken_dagster.web.table.columns import Table
from kraken_dagster.web.views.robust import median

_RUN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_COMPARED = 100
_FEWEST = 5
# What a change to a status means, in words.
_MEANS: Mapping[str, str] = {
    "queued_for_monitoring": "was found on the instrument",
    "monitoring_acquisition": "is being acquired",
    "monitoring_done": "acquisition is over",
    "checksumming": "is being read for the backup",
    "checksumming_done": "was read for the backup",
    "copying": "is being copied to the backup",
    "copying_done": "is backed up, and every byte was verified",
    "queued_for_quanting": "waits for processing",
    "quanting": "is being processed",
    "done": "has ended well",
    "done_not_quanted": "is backed up, and is not processed",
    "quanting_failed": "processing has failed",
    "acquisition_failed": "the acquisition has failed",
    "error": "a step has failed",
    "ignored": "is left alone",
}


@dataclass(frozen=True)
class Event:
    at: datetime | None
    words: str
    reason: str | None
    run_id: str | None

    @property
    def is_run(self) -> bool:
        """Whether Dagster has a page of it; people and commands stand there too."""
        return self.run_id is not None and _RUN.fullmatch(self.run_id) is not None


@dataclass(frozen=True)
class PlacedMetric:
    """A metric, and its place among the files of the same instrument and settings before it.

    `place` is the share of them, in percent, that have no more; None where there are too few.
    """

    name: str
    value: Any
    described: Described | None = None
    median: float | None = None
    place: float | None = None
    compared: int = 0


def file_page(services: Services, table: Table, file_id: str) -> dict[str, Any]:
    """What the page of a file shows.

    Raises:
        UnknownRawFile
        StoreError: MongoDB can't be asked.
    """
    found = show(services, file_id)
    with table.lock:
        metrics = _metrics(table, file_id, found["metrics"])
        neighbours = _neighbours(table, file_id)
    return {
        "file": found,
        "events": [_event(item) for item in found["history"]],
        "metrics": metrics,
        "neighbours": neighbours,
    }


def _event(item: Mapping[str, Any]) -> Event:
    old, new = item.get("from"), str(item.get("to"))
    words = _MEANS.get(new, new.replace("_", " "))
    if old == item.get("to"):
        words = "was noted"
    at = item.get("at")
    reason, run_id = item.get("reason"), item.get("run_id")
    return Event(
        at if isinstance(at, datetime) else None,
        words,
        None if reason is None else str(reason),
        None if run_id is None else str(run_id),
    )


def _metrics(
    table: Table, file_id: str, results: Sequence[Mapping[str, Any]]
) -> list[PlacedMetric]:
    rows = _comparable(table, file_id)
    found = []
    names = {
        name: (value, str(result.get("type", "")))
        for result in reversed([item for item in results if item["current"]])
        for name, value in result.items()
        if name not in (*RESERVED_NAMES, "current") and isinstance(value, int | float | str)
    }
    for name, (value, of_type) in names.items():
        known = described(name, of_type)
        values = table.numbers(name)[rows]
        values = values[np.isfinite(values)]
        if isinstance(value, bool | str) or len(values) < _FEWEST:
            found.append(PlacedMetric(name, value, known))
        else:
            place = 100 * float(np.mean(values <= value))
            found.append(PlacedMetric(name, value, known, median(values), place, len(values)))
    return found


def comparable_ids(table: Table, file_id: str) -> list[str]:
    """The files of the same kind before this one, the newest first."""
    return [table.ids[row] for row in reversed(_comparable(table, file_id))]


def _comparable(table: Table, file_id: str) -> Any:
    """The last files before this one of its instrument that were processed by the same settings."""
    row = table.row(file_id)
    if row is None:
        return np.zeros(0, dtype=np.int64)
    created = table.numbers("created_at")
    alike = created < created[row]
    for name in ("instrument_id", "settings"):
        codes = table.codes(name)
        alike &= codes == codes[row]
    rows = np.flatnonzero(alike)
    return rows[np.argsort(created[rows])][-_COMPARED:]


def _neighbours(table: Table, file_id: str) -> dict[str, str | None]:
    """The files before and after this one on its instrument."""
    row = table.row(file_id)
    if row is None:
        return {"before": None, "after": None}
    own = np.flatnonzero(table.codes("instrument_id") == table.codes("instrument_id")[row])
    own = own[np.argsort(table.numbers("created_at")[own], kind="stable")]
    place = int(np.flatnonzero(own == row)[0])
    before = table.ids[own[place - 1]] if place > 0 else None
    after = table.ids[own[place + 1]] if place + 1 < len(own) else None
    return {"before": before, "after": after}
