"""Which raw files Dagit needs to show no longer, so that years of them don't make it slow."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from kraken_dagster.model.jobs.job import QuantJob
from kraken_dagster.model.jobs.report import JobState
from kraken_dagster.model.raw_file import FINAL, RawFile, Status


def why_kept(
    raw_file: RawFile, jobs: Sequence[QuantJob], *, now: datetime, window_days: float
) -> str | None:
    """Why a file keeps its partition; None: it is final and old, and nothing needs it.

    Args:
        raw_file: with its history.
        jobs: all of the file.
        window_days: 0 keeps everything.
    """
    if window_days <= 0:
        return "no window is set"
    if raw_file.status not in FINAL or raw_file.status is Status.ERROR:
        return f"it is {raw_file.status}"
    if (held := raw_file.leased(now)) is not None:
        return f"run {held.run_id} works on it"
    if raw_file.archive or raw_file.purge or raw_file.purge_intent:
        return "it can't be archived or purged"
    if any(job.is_open or _is_uncollected(job) for job in jobs):
        return "a job of it is open"
    if now - last_change(raw_file) < timedelta(days=window_days):
        return f"something happened to it less than {window_days:g} days ago"
    return None


def last_change(raw_file: RawFile) -> datetime:
    """When something was last recorded of a file; that a backup was proven again is nothing new."""
    reported = [event["at"] for event in raw_file.history if event.get("at") is not None]
    return max(reported, default=max(raw_file.dated_at, raw_file.updated_at_))


def _is_uncollected(job: QuantJob) -> bool:
    return job.collected_at is None and job.state is not JobState.SKIPPED
