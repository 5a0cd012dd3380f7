"""Which files on an instrument may be archived, and which may be deleted. Nothing here does.

A GB is 1024^3 bytes, as in `kraken_status`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from kraken_dagster.model.errors import NotRecorded
from kraken_dagster.model.files.dates import local
from kraken_dagster.model.files.second_digest import SecondDigest
from kraken_dagster.model.files.vendors import Vendor, recorded_members, safe_relative
from kraken_dagster.model.raw_file import FINAL, FileFact, InstrumentFileStatus, RawFile, Status
from kraken_dagster.model.retention.refusal import Refusal

GB = 1024**3
_CENTURY_DAYS = 36_500
_FAILED = frozenset({Status.ACQUISITION_FAILED, Status.IGNORED})


@dataclass(frozen=True)
class ReadBack:
    """What was just read of a file: size in bytes and, unless only sizes are compared, its MD5 and
    the second digest that is recorded of it."""

    size: int
    md5: str | None
    second: SecondDigest | None = None


def may_purge(
    *,
    instrument: ReadBack | None,
    backup: ReadBack | None,
    recorded: FileFact | None,
    hash_check: bool = True,
) -> bool:
    """Whether the file on the instrument, its backup and its record are the same.

    Raises:
        NotRecorded: the backup is there, and MongoDB has no size or digest to prove it by.
    """
    if instrument is None or backup is None:
        return False
    if recorded is None or recorded.size is None or recorded.md5 is None:
        raise NotRecorded(
            "No size or digest is recorded, so nothing can be proven",
            next_step="leave the file where it is; `kraken show` has what is recorded.",
        )
    if not instrument.size == backup.size == recorded.size:
        return False
    if not hash_check:
        return True
    if recorded.second is not None and not instrument.second == backup.second == recorded.second:
        return False
    return instrument.md5 == backup.md5 == recorded.md5


def require_record(vendor: Vendor, raw_file_id: str, recorded: Mapping[str, FileFact]) -> None:
    """Raises NotRecorded unless every member has a size and a digest, and nothing else is in it."""
    keys = sorted(recorded)
    for key in keys:
        safe_relative(key)
    if not keys or recorded_members(vendor, raw_file_id, keys) != keys:
        raise NotRecorded(
            "What is recorded is not the members of this raw file, so nothing can be proven",
            file=raw_file_id,
            found=ascii(keys[:5]),
            next_step="leave the file where it is; `kraken show` has what is recorded.",
        )
    for key, fact in recorded.items():
        if fact.size is None or fact.md5 is None:
            raise NotRecorded(
                "No size or digest is recorded, so nothing can be proven",
                file=key,
                next_step="leave the file where it is; `kraken show` has what is recorded.",
            )


@dataclass(frozen=True)
class Goal:
    """How much shall be free, and how much was; all in the same unit.

    It is reached by what is measured, or by what was deleted: a disk may take its time to count
    that as free, or others fill it at the same moment, and neither is a reason to delete more.
    """

    free: float
    wanted: float
    freed: float = 0
    measured: float = 0

    @property
    def missing(self) -> float:
        return max(0, self.wanted - max(self.free + self.freed, self.measured))

    def after(self, freed: float, *, measured: float = 0) -> "Goal":
        """The same after a deletion, and after the look at the disk that followed it."""
        return replace(self, freed=self.freed + freed, measured=measured)


@dataclass(frozen=True)
class Weighed:
    """A candidate: what it has on the disk, or why it is not to be deleted."""

    raw_file_id: str
    size: float = 0
    problem: str | None = None


def select(goal: Goal, candidates: Iterable[Weighed]) -> Iterator[Weighed]:
    """The candidates to delete, in their order, until the goal is reached.

    No further candidate is asked for then: weighing one costs a look at the disk.
    """
    if goal.missing <= 0:
        return
    for candidate in candidates:
        if candidate.problem is None and candidate.size > 0:
            yield candidate
            goal = goal.after(candidate.size)
            if goal.missing <= 0:
                return


def span(*, days: float = 0, minutes: float = 0) -> timedelta:
    """A time span, for numbers of any size: a century is as good as for ever."""
    total = days + minutes / (24 * 60)
    return timedelta(days=min(total, _CENTURY_DAYS))


def _held(raw_file: RawFile, now: datetime) -> str | None:
    lease = raw_file.leased(now)
    return None if lease is None else f"run {lease.run_id} works on it (step {lease.step})"


def _in_trouble(refusal: Refusal | None, now: datetime) -> str | None:
    return None if refusal is None or refusal.is_over(now) else refusal.in_words()


def why_not_move(
    raw_file: RawFile, *, now: datetime, delay_m: float, failed_too: bool = False
) -> str | None:
    """Why a file is not (yet) archived; None if that is due."""
    if raw_file.instrument_file_status is not InstrumentFileStatus.INITIAL:
        return f"its file on the instrument is {raw_file.instrument_file_status or 'not recorded'}"
    if raw_file.is_backed_up and raw_file.file_info:
        since = raw_file.backed_up_at or raw_file.updated_at_
    elif raw_file.status in _FAILED and not raw_file.file_info:
        if not failed_too:
            return f"it is {raw_file.status} and has no backup, and move_failed is off"
        if raw_file.acquisition.get("ended_size") is None:
            return (
                f"it is {raw_file.status}, and neither a backup nor the size of its main file is "
                "known, so nothing tells it from another acquisition of its name"
            )
        since = raw_file.acquisition.get("ended_at") or raw_file.created_at_
    else:
        return f"it has no verified backup: it is {raw_file.status}"
    due = since + span(minutes=delay_m)
    if due > now:
        return f"it is not due before {local(due)}"
    return _in_trouble(raw_file.archive, now) or _held(raw_file, now)


def why_not_purge(
    raw_file: RawFile, *, now: datetime, min_age_days: float, needs_complete_index: bool = False
) -> str | None:
    """Why a file is not to be purged, by what MongoDB knows of it; None if it may be."""
    if raw_file.instrument_file_status is not InstrumentFileStatus.MOVED:
        return f"its file on the instrument is {raw_file.instrument_file_status or 'not recorded'}"
    # Its own date may be of a clock that was wrong; it is at least as old as we know it.
    if max(raw_file.dated_at, raw_file.created_at_) > now - span(days=min_age_days):
        return f"it is younger than {min_age_days:g} days"
    if raw_file.status not in FINAL:
        return f"it is still worked on: {raw_file.status}"
    if raw_file.status is Status.ERROR and raw_file.retry_at is not None:
        return "a step of it that failed is tried again"
    if not raw_file.is_backed_up or not raw_file.file_info:
        return f"no backup of it is recorded: {raw_file.backup_status or 'nothing'}"
    if needs_complete_index and (reason := _why_not_complete(raw_file)) is not None:
        return f"purge_needs_complete_index is on, and {reason}"
    return _in_trouble(raw_file.purge, now) or _held(raw_file, now)


def _why_not_complete(raw_file: RawFile) -> str | None:
    known = raw_file.raw_metrics
    if known is None:
        return "its backup's index was not read yet: materialise `raw_metrics` of it in Dagit"
    return None if known.complete else f"of its backup's index is known: {known.in_words}"
