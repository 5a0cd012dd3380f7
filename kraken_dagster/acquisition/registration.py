"""Registers what stands in an instrument's folder and MongoDB doesn't know, in bulk."""

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from kraken_dagster.config.instruments import InstrumentEntry
from kraken_dagster.model.eligibility import meets_age_criterion, project_id_of
from kraken_dagster.model.files.acquisition import FolderEntry, Watch
from kraken_dagster.model.files.dates import is_plausible, plausible
from kraken_dagster.model.files.file_ids import collision_flag, raw_file_id
from kraken_dagster.model.raw_file import FALLBACK_PROJECT, InstrumentFileStatus, RawFile, Status
from kraken_dagster.runtime.services import Services

_AT_ONCE = 500


def register_new(
    services: Services,
    instrument: InstrumentEntry,
    instrument_id: str,
    new: Sequence[tuple[FolderEntry, bool]],
    *,
    now: datetime,
    budget_s: float,
    settle: Callable[[RawFile, FolderEntry], RawFile] = lambda raw_file, _: raw_file,
) -> list[RawFile]:
    """Registers new acquisitions, each with whether its name is known already; those that were.

    Args:
        settle: a record as it is to be registered; one that is over already, say.
        budget_s: what doesn't get its turn within these seconds is left to the next look.
    """
    if not new:
        return []
    projects = services.store.catalog.project_ids()

    def record(number: int, *, flagged: bool) -> RawFile:
        found, _ = new[number]
        # A millisecond apart, so that two collisions of one look get ids of their own.
        flag = collision_flag(now + timedelta(milliseconds=number)) if flagged else None
        made = _record(
            services, instrument, instrument_id, found, flag=flag, projects=projects, now=now
        )
        return settle(made, found)

    registered: list[RawFile] = []
    deadline = time.monotonic() + budget_s
    for start in range(0, len(new), _AT_ONCE):
        if time.monotonic() > deadline:
            break
        numbers = range(start, min(start + _AT_ONCE, len(new)))
        registered += _register(services, new, numbers, record)
    return registered


def _register(
    services: Services,
    new: Sequence[tuple[FolderEntry, bool]],
    numbers: range,
    record: Callable[..., RawFile],
) -> list[RawFile]:
    """Those under a free name at once, the others one by one under a name with a flag."""
    plain = {number: record(number, flagged=False) for number in numbers if not new[number][1]}
    added = services.store.raw_files.register_many(list(plain.values()), reason="discovered")
    registered = [item for item in plain.values() if item.id in added]
    for number in numbers:
        first = plain.get(number)
        if first is not None:
            if first.id in added:
                continue
            taken = services.store.raw_files.get(first.id)
            if (taken.instrument_id, taken.original_name) == (
                first.instrument_id,
                first.original_name,
            ):
                continue  # another watcher of this instrument was quicker
        flagged = record(number, flagged=True)
        reason = "discovered under a name that is taken"
        if services.store.raw_files.register(flagged, reason=reason):
            registered.append(flagged)
    return registered


def _record(
    services: Services,
    instrument: InstrumentEntry,
    instrument_id: str,
    found: FolderEntry,
    *,
    flag: str | None,
    projects: Sequence[str],
    now: datetime,
) -> RawFile:
    epoch = found.created_at_epoch
    created_at = plausible(epoch, first_seen=now)
    young = meets_age_criterion(
        now - created_at, max_age_hours=instrument.debug_max_file_age_in_hours
    )
    limit = f"{instrument.debug_max_file_age_in_hours:g} h"
    watch = Watch.begin(now, main_file_seen=found.main_size_bytes is not None, seen=found)
    return RawFile(
        id=raw_file_id(services.rules(instrument_id), found.name, flag),
        original_name=found.name,
        instrument_id=instrument_id,
        collision_flag=flag,
        project_id=project_id_of(found.name, projects) or FALLBACK_PROJECT,
        status=Status.QUEUED_FOR_MONITORING if young else Status.IGNORED,
        status_details=None if young else f"Older than debug_max_file_age_in_hours ({limit}).",
        instrument_file_status=InstrumentFileStatus.INITIAL,
        created_at=created_at,
        created_at_=now,
        updated_at_=now,
        created_at_on_disk=None if is_plausible(epoch, now=now) else epoch,
        acquisition={
            **watch.to_record(),
            **({} if young else {"ended_size": found.main_size_bytes}),
        },
    )


def as_over(raw_file: RawFile, found: FolderEntry, *, now: datetime, reason: str) -> RawFile:
    """The record of an acquisition that is over at the very first look."""
    if raw_file.status is not Status.QUEUED_FOR_MONITORING:
        return raw_file
    ended = {
        "errors": [],
        "ended_at": now,
        "ended_size": found.main_size_bytes,
        "ended_total": found.total_bytes,
    }
    changes = {
        "status": Status.MONITORING_DONE,
        "status_details": reason,
        "acquisition": {**raw_file.acquisition, **ended},
    }
    return raw_file.model_copy(update=changes)
