"""Whether an instrument writes an acquisition right now, and what that is to copies from it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from kraken_dagster.model.files.acquisition import Timing, Watch
from kraken_dagster.model.files.dates import local
from kraken_dagster.model.raw_file import OPEN_ACQUISITION, RawFile


@dataclass(frozen=True)
class BeingWritten:
    """The acquisition that an instrument writes, and since when it is known."""

    raw_file_id: str
    since: datetime


def being_written(
    watched: Iterable[RawFile], *, now: datetime, timing: Timing
) -> BeingWritten | None:
    """The youngest of the open acquisitions that was first seen, or found with other sizes, within
    a pause. One that is only waited for, because nothing has come after it, is none.
    """
    found = [
        BeingWritten(item.id, item.created_at_)
        for item in watched
        if item.status in OPEN_ACQUISITION and _is_written(item, now, timing)
    ]
    return max(found, key=lambda item: item.since, default=None)


def _is_written(raw_file: RawFile, now: datetime, timing: Timing) -> bool:
    if not isinstance(raw_file.acquisition.get("looked_at"), datetime):
        last = raw_file.created_at_
    else:
        watch = Watch.from_record(raw_file.acquisition)
        last = watch.written_at or watch.began_at
    return abs(now - last) < timing.pause


@dataclass(frozen=True)
class Waiting:
    """Why a copy is not begun, and from when on it is all the same."""

    behind: BeingWritten
    until: datetime

    def in_words(self, now: datetime) -> str:
        return (
            f"another file is being acquired: {self.behind.raw_file_id!r}, since "
            f"{local(self.behind.since, now=now)}; it is copied once none is, at the latest at "
            f"{local(self.until, now=now)}"
        )


def why_not_copied(
    raw_file: RawFile, behind: BeingWritten | None, *, at_the_latest: timedelta, now: datetime
) -> Waiting | None:
    """What keeps a copy from being begun where none is begun while its instrument writes."""
    ended = raw_file.acquisition.get("ended_at")
    since = ended if isinstance(ended, datetime) else raw_file.created_at_
    until = since + at_the_latest
    if behind is None or behind.raw_file_id == raw_file.id or now >= until:
        return None
    return Waiting(behind, until)
