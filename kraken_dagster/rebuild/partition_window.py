"""Finds the files whose partitions are retired from Dagster, and asks for them again."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from kraken_dagster.model.jobs.job import QuantJob
from kraken_dagster.model.raw_file import ENDED, RawFile
from kraken_dagster.rebuild.window_rules import why_kept
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.raw_files.bulk import PAGE


def is_retired(services: Services, raw_file: RawFile, jobs: Sequence[QuantJob]) -> bool:
    """Whether the file has no partition, as far as MongoDB can tell; it comes with its history."""
    days = services.instrument(raw_file.instrument_id).partition_window_days
    return why_kept(raw_file, jobs, now=services.now(), window_days=days) is None


def to_retire(
    services: Services, instrument_id: str, raw_file_ids: Sequence[str]
) -> Iterator[list[str]]:
    """Of the files that have a partition, in portions, those that need it no longer."""
    days = services.instrument(instrument_id).partition_window_days
    if days <= 0:
        return
    long_ago = services.now() - timedelta(days=days)
    for start in range(0, len(raw_file_ids), PAGE):
        # What tells most of them apart needs no history, which would be a hundred times as much.
        perhaps = [
            item
            for item in services.store.bulk.files(raw_file_ids[start : start + PAGE])
            if item.dated_at < long_ago and item.status in ENDED
        ]
        jobs = services.store.bulk.jobs([item.id for item in perhaps])
        yield [
            item.id
            for item in perhaps
            if is_retired(services, services.store.raw_files.get(item.id), jobs.get(item.id, ()))
        ]


def ask_for_again(services: Services, raw_file: RawFile, *, asked_by: str) -> None:
    """Notes that somebody wants to see the file in Dagit, which keeps it there for another window.

    Raises:
        StatusConflict: something happened to it this very moment, which keeps it there too.
    """
    jobs = services.store.jobs.of(raw_file.id)
    if is_retired(services, raw_file, jobs):
        note = f"shown in Dagit again, asked for by {asked_by}"
        services.store.raw_files.update(raw_file, {}, now=services.now(), note=note)
