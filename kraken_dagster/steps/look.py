"""One look at an instrument's folder: everything that a watcher does to MongoDB."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from kraken_dagster.clients.store.connection import Store
from kraken_dagster.domain import acquisition
from kraken_dagster.domain.acquisition import Standing, Watch
from kraken_dagster.domain.config import InstrumentEntry
from kraken_dagster.domain.discovery import LeftAlone, new_acquisitions, sort_out
from kraken_dagster.domain.errors import FolderError, StatusConflict
from kraken_dagster.domain.raw_file import (
    BACKUP_UNDER_WAY,
    OPEN_ACQUISITION,
    KnownFile,
    RawFile,
    Status,
)
from kraken_dagster.steps.registering import register_new
from kraken_dagster.steps.world import World

# Dagster gives a sensor 60 s; what thousands of open acquisitions take goes on at the next look.
_LOOK_BUDGET_S = 25.0
_DUE_FOR_BACKUP = BACKUP_UNDER_WAY | {
    Status.MONITORING_DONE,
    Status.COPYING_DONE,
    Status.COMPUTING_MSQC,
}


@dataclass(frozen=True)
class Look:
    """What a look found and did. `open` are the acquisitions that are still watched."""

    standing: int
    registered: tuple[RawFile, ...]
    ended: tuple[RawFile, ...]
    open: tuple[RawFile, ...]
    newly_left_alone: tuple[LeftAlone, ...]

    def summary(self) -> str:
        return (
            f"{self.standing} acquisitions in the folder, {len(self.registered)} new, "
            f"{len(self.open)} being acquired, {len(self.ended)} just ended"
        )


def look_at(world: World, instrument_id: str) -> Look:
    """Looks once, registers what is new, and decides which acquisitions are over.

    Raises:
        FolderError: the folder can't be looked at; `kraken_status` says so, nothing else changed.
        StoreUnavailable
    """
    now, instrument = world.now(), world.instrument(instrument_id)
    rules = world.rules(instrument_id)
    try:
        listing = world.lister(
            str(world.instrument_folder(instrument_id)),
            main_file=rules.main_file_in_folder,
            timeout_s=instrument.folder_timeout_s,
        )
    except FolderError as error:
        world.store.board.unwell(instrument_id, details=str(error), now=now)
        raise
    standing, left_alone = sort_out(instrument.type, listing.entries)
    known = world.store.raw_files.known(instrument_id, standing)
    new = new_acquisitions(instrument.type, standing, known)
    registered = register_new(
        world, instrument, instrument_id, new, now=now, budget_s=_LOOK_BUDGET_S
    )
    first_seen = first_seen_of(standing, known, registered, now)
    still_open, ended = look_at_open(
        world, instrument, instrument_id, standing, first_seen, now=now
    )
    look = Look(len(standing), tuple(registered), tuple(ended), tuple(still_open), ())
    news = world.store.board.well(
        instrument_id,
        details=look.summary() + _left_alone_summary(left_alone),
        free_bytes=listing.free_bytes,
        total_bytes=listing.total_bytes,
        left_alone=left_alone,
        now=now,
    )
    return Look(look.standing, look.registered, look.ended, look.open, tuple(news))


def due_for_backup(store: Store, instrument_id: str, now: datetime) -> list[RawFile]:
    """Files whose backup or decision is due and that nobody holds, oldest acquisition first."""
    found = [
        *store.raw_files.in_status(instrument_id, _DUE_FOR_BACKUP),
        *store.raw_files.due_again(instrument_id, now),
    ]
    free = [item for item in found if item.leased(now) is None]
    return sorted(free, key=lambda item: item.created_at)


def first_seen_of(
    standing: dict[str, Standing],
    known: dict[str, list[KnownFile]],
    registered: Sequence[RawFile],
    now: datetime,
) -> dict[str, datetime]:
    """When each name was first seen; that of the newest acquisition where a name came twice."""
    new = {item.original_name for item in registered}
    return {
        name: now
        if name in new or name not in known
        else max(record.created_at_ for record in known[name])
        for name in standing
    }


def look_at_open(
    world: World,
    instrument: InstrumentEntry,
    instrument_id: str,
    folder: dict[str, Standing],
    first_seen: dict[str, datetime],
    *,
    now: datetime,
    budget_s: float = _LOOK_BUDGET_S,
) -> tuple[list[RawFile], list[RawFile]]:
    """The acquisitions that are still open after a look at them, and those that are over."""
    still_open: list[RawFile] = []
    ended: list[RawFile] = []
    watched = world.store.raw_files.in_status(instrument_id, OPEN_ACQUISITION)
    deadline = time.monotonic() + budget_s
    for raw_file in sorted(watched, key=lambda item: str(item.acquisition.get("looked_at"))):
        if time.monotonic() > deadline:
            break  # those that were looked at longest ago come first the next time
        if raw_file.acquisition.get("looked_at") == now:
            still_open.append(raw_file)  # registered by this very look
            continue
        verdict = acquisition.look(
            _watch_of(raw_file, folder, now),
            raw_file.original_name,
            vendor=instrument.type,
            folder=folder,
            first_seen=first_seen,
            now=now,
            timing=world.config.timing,
            consider_old=instrument.consider_old_files_acquired,
        )
        try:
            after = _keep(world, raw_file, verdict, folder.get(raw_file.original_name), now=now)
        except StatusConflict:
            continue  # another watcher was quicker; what is due follows from what it wrote
        (ended if verdict.over else still_open).append(after)
    return still_open, ended


def _watch_of(raw_file: RawFile, folder: dict[str, Standing], now: datetime) -> Watch:
    """The monitor's state; begun anew where there is none: another program registered the file."""
    if "looked_at" in raw_file.acquisition:
        return Watch.from_record(raw_file.acquisition)
    seen = folder.get(raw_file.original_name)
    return Watch.begin(now, main_file_seen=seen is not None and seen.main_size_bytes is not None)


def _keep(
    world: World,
    raw_file: RawFile,
    verdict: acquisition.Verdict,
    seen: Standing | None,
    *,
    now: datetime,
) -> RawFile:
    if not world.store.raw_files.save_watch(raw_file, verdict.watch):
        raise StatusConflict("Another look was quicker", file=raw_file.id)
    if not verdict.over:
        if raw_file.status is Status.MONITORING_ACQUISITION:
            return raw_file
        return world.store.raw_files.transition(
            raw_file, Status.MONITORING_ACQUISITION, now=now, reason=verdict.reason
        )
    return world.store.raw_files.transition(
        raw_file,
        Status.MONITORING_DONE,
        now=now,
        reason=verdict.reason,
        fields={
            "acquisition.errors": list(verdict.errors),
            "acquisition.ended_at": now,
            "acquisition.ended_size": None if seen is None else seen.main_size_bytes,
            "acquisition.ended_total": None if seen is None else seen.total_bytes,
        },
    )


def _left_alone_summary(left_alone: Sequence[LeftAlone]) -> str:
    if not left_alone:
        return ""
    first = left_alone[0]
    return f"; {len(left_alone)} left alone, {first.name!a}: {first.reason}"
