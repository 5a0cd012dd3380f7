"""Catching up: everything that stands on an instrument is known, and what is missing is listed.

The steps themselves are done by whoever is given `Wave`s: thousands of files at a time.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from kraken_dagster.catchup.results import with_every_result
from kraken_dagster.config.instruments import OutputExistsMode
from kraken_dagster.model.errors import LeaseHeld
from kraken_dagster.model.raw_file import (
    BACKUP_UNDER_WAY,
    RawFile,
    Status,
    Step,
)
from kraken_dagster.quant.decide import decide
from kraken_dagster.runtime.failures import failure_recorded
from kraken_dagster.runtime.leases import holding
from kraken_dagster.runtime.services import Services

_DUE = BACKUP_UNDER_WAY | {Status.MONITORING_DONE, Status.COPYING_DONE, Status.COMPUTING_MSQC}


@dataclass(frozen=True)
class CatchupOptions:
    """What a catch-up is asked for; see `config/schema.py`. `limit`: this many files; 0: all.

    `raw_metrics`: raw files are read whose backup was made before, too.
    """

    consider_old_files_acquired: bool = True
    debug_max_file_age_in_hours: float = -1
    output_exists_mode: OutputExistsMode = OutputExistsMode.ASSOCIATE
    newest_first: bool = False
    limit: int = 0
    raw_metrics: bool = False


@dataclass(frozen=True)
class Wave:
    """Files of which the same steps are due, in the order in which they are to be done."""

    backup: bool
    result: bool
    files: list[RawFile] = field(default_factory=list)
    raw_metrics: bool = False


def due(
    services: Services,
    instrument_id: str,
    options: CatchupOptions,
    *,
    now: datetime,
    live: Collection[str] = (),
) -> tuple[list[Wave], list[RawFile]]:
    """Waves of files to be backed up or whose results are there; and files to be decided on.

    Nobody holds any of them, nor is any in `live`: files that a run is on its way for.
    """
    store = services.store.raw_files
    statuses = set(_DUE)
    if options.output_exists_mode is OutputExistsMode.ASSOCIATE:
        statuses.add(Status.QUEUED_FOR_QUANTING)
    found = [*store.in_status(instrument_id, statuses), *store.due_again(instrument_id, now)]
    free = [item for item in found if item.leased(now) is None and item.id not in live]
    free.sort(key=lambda item: (item.dated_at, item.id), reverse=options.newest_first)
    chosen = free[: options.limit] if options.limit > 0 else free
    have_result: set[str] = set()
    if options.output_exists_mode is OutputExistsMode.ASSOCIATE:
        have_result = with_every_result(services, instrument_id, chosen)
    waves: dict[tuple[bool, bool], Wave] = {}
    to_decide: list[RawFile] = []
    for item in chosen:
        needs = (not item.is_backed_up, item.id in have_result)
        if any(needs):
            waves.setdefault(needs, Wave(*needs)).files.append(item)
        elif item.status is not Status.QUEUED_FOR_QUANTING:
            to_decide.append(item)
    unread = _unread(services, instrument_id, options, now=now, live=live)
    return [*waves.values(), *unread], to_decide


def _unread(
    services: Services,
    instrument_id: str,
    options: CatchupOptions,
    *,
    now: datetime,
    live: Collection[str],
) -> list[Wave]:
    """Files that are backed up, and of whose raw file nothing was read."""
    if not options.raw_metrics:
        return []
    ids = [item for item in services.store.raw_metrics.missing(instrument_id) if item not in live]
    known = services.store.raw_files.many(ids)
    found = [item for item in known.values() if item.is_backed_up and item.leased(now) is None]
    found.sort(key=lambda item: (item.dated_at, item.id), reverse=options.newest_first)
    chosen = found[: options.limit] if options.limit > 0 else found
    return [Wave(False, False, chosen, raw_metrics=True)] if chosen else []


def decide_on(services: Services, raw_file_id: str, *, run_id: str) -> str | None:
    """Decides what is run on a file that is backed up; what is wrong, in words.

    Raises:
        KrakenError: recorded in MongoDB, but for StoreError.
    """
    try:
        with (
            holding(services, raw_file_id, step=Step.QUANT, run_id=run_id) as held,
            failure_recorded(services, raw_file_id, run_id=run_id, lease=held.lease),
        ):
            if held.raw_file.status in _DUE | {Status.ERROR} and held.raw_file.is_backed_up:
                decide(services, held, by_hand=False)
    except LeaseHeld as error:
        return str(error)
    return None
