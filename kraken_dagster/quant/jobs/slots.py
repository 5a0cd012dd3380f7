"""Whose jobs are submitted next: as many files as have a chance of a slot on their engine."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import datetime

from kraken_dagster.config.engines import QueueOrder
from kraken_dagster.model.jobs.job import QuantJob
from kraken_dagster.model.raw_file import RawFile, Status
from kraken_dagster.quant.jobs.attempts import JOBS_COUNTER
from kraken_dagster.runtime.services import Services

# A file's id, settings and attempt: whose job it is.
Whose = tuple[str, str, int, int]


def whose(job: QuantJob) -> Whose:
    return job.raw_file, job.settings_name, job.settings_version, job.attempt


def room(
    services: Services,
    open_jobs: Mapping[str, int],
    slots: Mapping[str, int],
    closed: Collection[str],
) -> dict[str, int]:
    """How many jobs each engine may be given; those that can't be asked are left out."""
    return {
        name: max(0, slots[name] - open_jobs[name])
        for name in services.config.engines
        if name not in closed
    }


def free(files: Collection[RawFile], now: datetime) -> list[RawFile]:
    """What no run holds, oldest acquisition first."""
    unheld = [item for item in files if item.leased(now) is None]
    return sorted(unheld, key=lambda item: item.dated_at)


def next_to_submit(
    services: Services,
    room_on: Mapping[str, int],
    *,
    begun: Collection[str],
    submitted: Collection[Whose],
    now: datetime,
) -> list[RawFile]:
    """As many queued files as have a chance of a slot, and those that a run left half submitted.

    Args:
        room_on: free slots of each engine that can be asked.
        begun: files with intended jobs, which take slots until they are submitted or withdrawn.
        submitted: the jobs of queued files that are on their engines already.
    """
    if not begun and not any(room_on.values()):
        return []
    chosen: dict[str, RawFile] = {}
    waiting: dict[str, list[RawFile]] = defaultdict(list)
    for item in free(_queued(services), now):
        engines = _engines_of(services, item, submitted)
        if not engines:  # all that it needs is there already
            chosen[item.id] = item
        for name in engines & room_on.keys():
            waiting[name].append(item)
    for name, files in waiting.items():
        left = room_on[name]
        newest_first = services.config.engines[name].queue_order is QueueOrder.NEWEST_FIRST
        for item in reversed(files) if newest_first else files:
            if item.id in begun:
                chosen[item.id] = item
            elif left > 0:
                left -= 1
                chosen[item.id] = item
    return list(chosen.values())


def _queued(services: Services) -> list[RawFile]:
    return [
        item
        for instrument_id in services.config.instruments
        for item in services.store.raw_files.in_status(instrument_id, {Status.QUEUED_FOR_QUANTING})
    ]


def _engines_of(services: Services, raw_file: RawFile, submitted: Collection[Whose]) -> set[str]:
    """The engines that the file's jobs are still to be given to."""
    own = services.instrument(raw_file.instrument_id).engine
    if not raw_file.quant_settings:
        return {own}
    latest = raw_file.attempts.get(JOBS_COUNTER, 1)
    missing = [
        item.engine or own
        for item in raw_file.quant_settings
        if (item.attempt or latest) == latest  # else its result is there from an earlier one
        and (raw_file.id, item.name, item.version, latest) not in submitted
    ]
    return {name if name in services.config.engines else own for name in missing}
