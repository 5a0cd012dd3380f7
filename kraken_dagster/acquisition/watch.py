"""One look at an instrument's folder: everything that a watcher does to MongoDB."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from kraken_dagster.acquisition.identity import recognised, require_settled
from kraken_dagster.acquisition.registration import register_new
from kraken_dagster.acquisition.scene import Scene, look_around
from kraken_dagster.acquisition.share import clock_differs, mixture, partly_unknown, why_blind
from kraken_dagster.config.instruments import InstrumentEntry
from kraken_dagster.model.errors import FolderError, StatusConflict
from kraken_dagster.model.files import acquisition
from kraken_dagster.model.files.acquisition import FolderEntry, Watch
from kraken_dagster.model.files.dates import in_words
from kraken_dagster.model.files.folder import LeftAlone, left_alone_in_words, written_since
from kraken_dagster.model.files.known_file import KnownFile
from kraken_dagster.model.raw_file import BACKUP_UNDER_WAY, OPEN_ACQUISITION, RawFile, Status
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.connection import Store

# Dagster gives a sensor 60 s; what thousands of open acquisitions take goes on at the next look.
_SCAN_BUDGET_S = 25.0
# Looks of two watchers whose clocks are not quite the same.
_TOGETHER = timedelta(minutes=5)
_UNKNOWN = "it can't be known now whether it is there"
_DUE_FOR_BACKUP = BACKUP_UNDER_WAY | {
    Status.MONITORING_DONE,
    Status.COPYING_DONE,
    Status.COMPUTING_MSQC,
}


@dataclass(frozen=True)
class FolderScan:
    """What a look found and did. `open` are the acquisitions that are still watched.

    `problem` is what is wrong with the share, in words; `blind`: so much so that nothing of it
    can be gone by. `note` is what else stands in the folder; `stamp` that of the folder before it
    was listed, if nothing in it was new.
    """

    standing: int
    registered: tuple[RawFile, ...]
    ended: tuple[RawFile, ...]
    open: tuple[RawFile, ...]
    newly_left_alone: tuple[LeftAlone, ...]
    problem: str | None = None
    blind: bool = False
    note: str | None = None
    stamp: tuple[int, ...] | None = None

    def summary(self) -> str:
        reported = "" if self.note is None else f"; {self.note}"
        return (
            f"{self.standing} acquisitions in the folder, {len(self.registered)} new, "
            f"{len(self.open)} being acquired, {len(self.ended)} just ended{reported}"
        )


def look_at(services: Services, instrument_id: str) -> FolderScan:
    """Looks once, registers what is new, and decides which acquisitions are over.

    Raises:
        FolderError: the folder can't be looked at; `kraken_status` says so, nothing else changed.
        StoreUnavailable
    """
    now, instrument = services.now(), services.instrument(instrument_id)
    try:
        known = require_settled(services, instrument_id)
        scene = look_around(services, instrument, instrument_id)
        scene = recognised(services, instrument_id, known, scene)
    except FolderError as error:
        services.store.health.unwell(instrument_id, details=str(error), now=now)
        _wait_blindly(services, instrument_id, now)
        raise
    watched = _watched(services, instrument_id)
    blind = why_blind(services, instrument, instrument_id, scene, watched)
    registered = register_new(
        services, instrument, instrument_id, scene.new, now=scene.at, budget_s=_SCAN_BUDGET_S
    )
    for item in written_since(scene.standing, scene.known):
        services.store.retention.source_differs(item.id, item.source_mtime or 0, now=scene.at)
    still_open, ended = check_open(
        services, instrument, instrument_id, scene, registered, blind=blind is not None
    )
    mixed = mixture(services, instrument_id, scene.listing, scene.standing, scene.left_alone)
    wrong_type = mixed.reported if mixed is not None and mixed.is_wrong else None
    scan = FolderScan(
        len(scene.standing),
        tuple(registered),
        tuple(ended),
        tuple(still_open),
        (),
        blind or partly_unknown(scene) or wrong_type,
        blind is not None,
        None if mixed is None or mixed.is_wrong else mixed.reported,
        None if scene.new else scene.listing.stamp,
    )
    return _tell(services, instrument_id, scene, scan, clock_differs(scene, watched))


def _tell(
    services: Services, instrument_id: str, scene: Scene, scan: FolderScan, difference: float | None
) -> FolderScan:
    """Shows how the instrument is; the look with what is left alone for the first time."""
    health = services.store.health.get(instrument_id) or {}
    left_alone = [*scene.left_alone, *_without_main_file(services, instrument_id, scene, scan)]
    details = scan.summary() + _clock_summary(difference) + left_alone_in_words(left_alone)
    news = services.store.health.well(
        instrument_id,
        details=details,
        free_bytes=scene.listing.free_bytes,
        total_bytes=scene.listing.total_bytes,
        left_alone=left_alone,
        problem=scan.problem,
        blind_since=(health.get("blind_since") or scene.at) if scan.blind else None,
        had_entries=bool(scene.listing.entries) or (scan.blind and bool(health.get("had_entries"))),
        clock_difference_s=difference,
        now=scene.at,
    )
    return replace(scan, newly_left_alone=tuple(news))


def _without_main_file(
    services: Services, instrument_id: str, scene: Scene, scan: FolderScan
) -> list[LeftAlone]:
    """Folders that were waited for in vain: a layout that isn't known."""
    watched = {item.original_name for item in (*scan.registered, *scan.open)}
    rules = services.rules(instrument_id)
    return [
        LeftAlone(name, f"it has none of {', '.join(rules.main_files)}, so it can't be followed")
        for name, found in scene.standing.items()
        if rules.is_folder
        and found.main_size_bytes is None
        and found.problem is None
        and name not in watched
        and name in scene.known
    ]


def _watched(services: Services, instrument_id: str) -> list[RawFile]:
    return services.store.raw_files.in_status(instrument_id, OPEN_ACQUISITION)


def _wait_blindly(services: Services, instrument_id: str, now: datetime) -> None:
    """The time in which a folder can't be looked at is none in which a main file is missing."""
    for raw_file in _watched(services, instrument_id):
        watch = Watch.from_record(raw_file.acquisition) if _is_begun(raw_file) else None
        if watch is not None and (watch.missing_since or not watch.main_file_seen):
            services.store.raw_files.save_watch(raw_file, watch.blindfold(now))


def due_for_backup(store: Store, instrument_id: str, now: datetime) -> list[RawFile]:
    """Files whose backup or decision is due and that nobody holds, oldest acquisition first."""
    found = [
        *store.raw_files.in_status(instrument_id, _DUE_FOR_BACKUP),
        *store.raw_files.due_again(instrument_id, now),
    ]
    free = [item for item in found if item.leased(now) is None]
    return sorted(free, key=lambda item: item.dated_at)


def first_seen_of(
    standing: dict[str, FolderEntry],
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


def check_open(
    services: Services,
    instrument: InstrumentEntry,
    instrument_id: str,
    scene: Scene,
    registered: Sequence[RawFile],
    *,
    blind: bool,
    budget_s: float = _SCAN_BUDGET_S,
) -> tuple[list[RawFile], list[RawFile]]:
    """The acquisitions that are still open after a look at them, and those that are over.

    Args:
        registered: what this look has registered.
        blind: what isn't there may be there all the same.
    """
    still_open: list[RawFile] = []
    ended: list[RawFile] = []
    now, first_seen = scene.at, first_seen_of(scene.standing, scene.known, registered, scene.at)
    deadline = time.monotonic() + budget_s
    watched = _watched(services, instrument_id)
    for raw_file in sorted(watched, key=lambda item: str(item.acquisition.get("looked_at"))):
        if time.monotonic() > deadline:
            break  # those that were looked at longest ago come first the next time
        if _is_begun(raw_file) and now <= raw_file.acquisition["looked_at"] <= now + _TOGETHER:
            still_open.append(raw_file)  # registered, or looked at, by this very look or after it
            continue
        name = raw_file.original_name
        unknown = name in scene.unknown or (blind and name not in scene.standing)
        seen = None if unknown else first_seen
        verdict = _verdict(services, instrument, scene, raw_file, first_seen=seen)
        try:
            after = _keep(services, raw_file, verdict, scene.standing.get(name), now=now)
        except StatusConflict:
            continue  # another watcher was quicker; what is due follows from what it wrote
        (ended if verdict.over else still_open).append(after)
    return still_open, ended


def _verdict(
    services: Services,
    instrument: InstrumentEntry,
    scene: Scene,
    raw_file: RawFile,
    *,
    first_seen: Mapping[str, datetime] | None,
) -> acquisition.Verdict:
    """`first_seen` is None where nothing is known of the acquisition's folder entry."""
    watch = _watch_of(raw_file, scene.standing, scene.at)
    if first_seen is None:
        return acquisition.Verdict(watch.blindfold(scene.at), False, _UNKNOWN)
    return acquisition.observe(
        watch,
        raw_file.original_name,
        vendor=instrument.type,
        folder=scene.standing,
        first_seen=first_seen,
        now=scene.at,
        timing=services.config.timing,
        consider_old=instrument.consider_old_files_acquired,
    )


def _is_begun(raw_file: RawFile) -> bool:
    return isinstance(raw_file.acquisition.get("looked_at"), datetime)


def _watch_of(raw_file: RawFile, folder: dict[str, FolderEntry], now: datetime) -> Watch:
    """The monitor's state; begun anew where there is none: another program registered the file."""
    seen = folder.get(raw_file.original_name)
    there = seen is not None and seen.main_size_bytes is not None
    if not _is_begun(raw_file):
        return Watch.begin(now, main_file_seen=there, seen=seen)
    watch = Watch.from_record(raw_file.acquisition)
    if watch.looked_at <= now:
        return watch
    # This machine's clock was set back: waiting until it is as late again may take for ever.
    anew = Watch.begin(now, main_file_seen=there or watch.main_file_seen)
    return replace(anew, baseline_at=watch.looked_at, grown=watch.grown)


def _keep(
    services: Services,
    raw_file: RawFile,
    verdict: acquisition.Verdict,
    seen: FolderEntry | None,
    *,
    now: datetime,
) -> RawFile:
    if not services.store.raw_files.save_watch(raw_file, verdict.watch):
        raise StatusConflict("Another look was quicker", file=raw_file.id)
    if not verdict.over:
        if raw_file.status is Status.MONITORING_ACQUISITION:
            seen_now = {**raw_file.acquisition, **verdict.watch.to_record()}
            return raw_file.model_copy(update={"acquisition": seen_now})
        return services.store.raw_files.transition(
            raw_file, Status.MONITORING_ACQUISITION, now=now, reason=verdict.reason
        )
    return services.store.raw_files.transition(
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


def _clock_summary(difference: float | None) -> str:
    if difference is None:
        return ""
    return f"; its clock is {in_words(difference)} this machine's: no date of its files counts"
