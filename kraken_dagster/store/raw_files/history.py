"""A raw file's history: every change of it with its time, run and reason, the last hundred."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from kraken_dagster.model.raw_file import Status

HISTORY_LENGTH = 100

Document = dict[str, Any]


def event_of(
    now: datetime,
    old: Status | None,
    new: Status,
    reason: str | None,
    *,
    run_id: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Document:
    event: Document = {"at": now, "from": old, "to": new, "reason": reason, "run_id": run_id}
    return {**event, "options": dict(options)} if options else event


def appended(event: Document) -> Document:
    """What `$push` is given so that a history takes the event and keeps its length."""
    return {"history": {"$each": [event], "$slice": -HISTORY_LENGTH}}
