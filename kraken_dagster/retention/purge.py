"""Purging an instrument's disk: the oldest files that were archived, with proof."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial

from kraken_dagster.acquisition.identity import require_settled
from kraken_dagster.model.errors import (
    BackupDamaged,
    BackupUnwritable,
    CopyStalled,
    FolderError,
    InstrumentBusy,
    KrakenError,
    LeaseHeld,
    LeaseLost,
    NotNeeded,
    OffsiteAway,
    OnAnotherStore,
    RecordRefused,
    StatusConflict,
    StoreAway,
    StoreError,
)
from kraken_dagster.model.raw_file import RawFile
from kraken_dagster.model.retention.rules import GB, Goal, span
from kraken_dagster.offsite.client import S3, connect
from kraken_dagster.offsite.places import configured
from kraken_dagster.retention.purge_file import purge_file
from kraken_dagster.retention.purge_plan import (
    NotDeleted,
    PurgeOptions,
    measured_free_bytes,
)
from kraken_dagster.retention.purge_record import Purged
from kraken_dagster.runtime.mount_check import require_answer
from kraken_dagster.runtime.refusals import PURGE, in_own_words, note_refusal
from kraken_dagster.runtime.services import Services
from kraken_dagster.runtime.stores import require_backup_store, require_some_backups


@dataclass(frozen=True)
class PurgeOutcome:
    """What a purge deleted, what it left and why; sizes in bytes.

    `enough`: as much is free as shall be, or the purge is off. `error`: what ended it before that.
    """

    instrument_id: str
    free_before_bytes: int
    free_after_bytes: int
    wanted_bytes: int
    deleted: tuple[Purged, ...]
    kept: tuple[NotDeleted, ...]
    enough: bool
    reason: str
    error: KrakenError | None = None

    @property
    def freed_bytes(self) -> int:
        return sum(item.size_bytes for item in self.deleted)


def purge(
    services: Services, instrument_id: str, *, run_id: str, options: PurgeOptions | None = None
) -> PurgeOutcome:
    """Deletes the oldest files that may go, one after the other, until enough is free.

    A file whose purge was begun and not ended is ended first, whether or not space is short; and
    what was refused is looked at again, so that it is forgotten once its cause is gone.

    Raises:
        FolderError, CopyStalled, InstrumentBusy: the instrument is away.
        BackupUnwritable: the backup store is away.
        OffsiteAway: so is the server of the copies off-site, and `purge_proof` asks for them.
        StoreUnavailable
        Only while nothing was found out of any file; after that it is in the outcome.
    """
    options = options or PurgeOptions.of(services.instrument(instrument_id))
    if options.off:
        return PurgeOutcome(instrument_id, 0, 0, 0, (), (), True, options.off)
    try:
        outcome = _purge(services, instrument_id, run_id, options)
    except (FolderError, CopyStalled, BackupUnwritable, InstrumentBusy, OffsiteAway) as error:
        services.store.health.disk_purged(
            instrument_id, details=str(error), enough=False, free_bytes=None, now=services.now()
        )
        raise
    with suppress(StoreError) if outcome.error else nullcontext():
        services.store.health.disk_purged(
            instrument_id,
            details=outcome.reason,
            enough=outcome.enough,
            free_bytes=outcome.free_after_bytes,
            now=services.now(),
        )
    return outcome


def _purge(
    services: Services, instrument_id: str, run_id: str, options: PurgeOptions
) -> PurgeOutcome:
    before = _free_before(services, instrument_id)
    goal = Goal(free=before, wanted=options.wanted_bytes)
    deleted: list[Purged] = []
    kept: list[NotDeleted] = []
    error: KrakenError | None = None
    still_short = partial(_is_short, services, instrument_id, options)
    s3 = connect(configured(services)) if options.needs_offsite else None
    try:
        with in_own_words(instrument_id):
            for raw_file in _candidates(services, instrument_id, options):
                if goal.missing <= 0 and raw_file.purge_intent is None:
                    break
                if (reason := _why_not(services, raw_file, options)) is not None:
                    kept.append(NotDeleted(raw_file.id, reason))
                    continue
                found = _one(services, raw_file, run_id, options, s3, still_short=still_short)
                freed = found.size_bytes if isinstance(found, Purged) else 0
                kept += [found] if isinstance(found, NotDeleted) else []
                deleted += [found] if isinstance(found, Purged) else []
                goal = goal.after(freed, measured=measured_free_bytes(services, instrument_id))
            had: list[Purged | NotDeleted] = [*kept, *deleted]
            kept += _refused_again(services, instrument_id, run_id, options, s3, had=had)
            after = measured_free_bytes(services, instrument_id)
        reported = _in_words(goal, deleted, kept, after, options)
    except KrakenError as stopped:
        if not (deleted or kept):
            raise
        freed = sum(item.size_bytes for item in deleted)
        error, after = stopped, before + freed
        reported = f"{len(deleted)} files purged, {freed} bytes freed; then it was stopped: {error}"
    enough = goal.missing <= 0 and error is None
    wanted, gone, stay = options.wanted_bytes, tuple(deleted), tuple(kept)
    return PurgeOutcome(instrument_id, before, after, wanted, gone, stay, enough, reported, error)


def _free_before(services: Services, instrument_id: str) -> int:
    """Refused where the instrument is in doubt, or none of its backups is there."""
    require_settled(services, instrument_id)
    free = measured_free_bytes(services, instrument_id)
    require_some_backups(services, instrument_id)
    return free


def _is_short(services: Services, instrument_id: str, options: PurgeOptions) -> bool:
    return measured_free_bytes(services, instrument_id) < options.wanted_bytes


def _candidates(services: Services, instrument_id: str, options: PurgeOptions) -> Iterator[RawFile]:
    begun = services.store.retention.purge_begun(instrument_id)
    yield from begun
    had = {item.id for item in begun}
    limit = services.now() - span(days=options.min_file_age_to_remove_in_days)
    for raw_file in services.store.retention.moved(instrument_id, created_before=limit):
        if raw_file.id not in had:
            yield raw_file


def _refused_again(
    services: Services,
    instrument_id: str,
    run_id: str,
    options: PurgeOptions,
    s3: S3 | None,
    *,
    had: Collection[Purged | NotDeleted],
) -> list[NotDeleted]:
    """Proves what was refused and had no turn, as space is not short: nothing is deleted."""
    done, found = {item.raw_file_id for item in had}, []
    for raw_file in services.store.retention.troubled(instrument_id):
        if raw_file.purge is None or raw_file.purge_intent is not None or raw_file.id in done:
            continue
        if _why_not(services, raw_file, options) is None:
            again = _one(services, raw_file, run_id, options, s3, still_short=lambda: False)
            found += [again] if isinstance(again, NotDeleted) else []
    return found


def _why_not(services: Services, raw_file: RawFile, options: PurgeOptions) -> str | None:
    return options.why_not(raw_file, now=services.now())


def _one(
    services: Services,
    raw_file: RawFile,
    run_id: str,
    options: PurgeOptions,
    s3: S3 | None,
    *,
    still_short: Callable[[], bool],
) -> Purged | NotDeleted:
    """One file; what is wrong with it alone is noted, and the next one is taken."""
    try:
        with in_own_words(raw_file.id):
            return purge_file(
                services,
                raw_file.id,
                run_id=run_id,
                options=options,
                still_short=still_short,
                s3=s3,
            )
    except NotNeeded as error:
        if raw_file.purge is not None:
            note = "what kept it from being purged is gone"
            services.store.retention.clear(raw_file, now=services.now(), note=note, fields=(PURGE,))
        return NotDeleted(raw_file.id, str(error))
    except (LeaseHeld, LeaseLost, StatusConflict, OnAnotherStore) as error:
        return NotDeleted(raw_file.id, str(error))
    except RecordRefused as error:
        return NotDeleted(raw_file.id, str(error))
    except (StoreAway, FolderError, StoreError, OffsiteAway):
        raise  # not this file's own trouble
    except BackupDamaged as error:  # it has the status `error` by now
        return NotDeleted(raw_file.id, str(error), damaged=True)
    except KrakenError as error:
        if isinstance(error, BackupUnwritable | CopyStalled):  # or is it all of them?
            require_backup_store(services, raw_file)
        if isinstance(error, CopyStalled):
            require_answer(services, raw_file.instrument_id)
        refusal = note_refusal(services, raw_file, PURGE, error, run_id=run_id)
        return NotDeleted(raw_file.id, refusal.in_words())


def _in_words(
    goal: Goal, deleted: list[Purged], kept: list[NotDeleted], after: int, options: PurgeOptions
) -> str:
    freed = sum(item.size_bytes for item in deleted)
    text = f"{len(deleted)} files purged, {freed} bytes freed; {after / GB:.3f} GB are free"
    if goal.missing <= 0:
        return f"{text} of the {options.min_free_space_gb:g} GB that shall be"
    reasons = Counter(item.reason.split(":", maxsplit=1)[0] for item in kept)
    in_the_way = ", ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3))
    return (
        f"{text}, which is {goal.missing / GB:.3f} GB less than the "
        f"{options.min_free_space_gb:g} GB that shall be, and no other file may be deleted. In the "
        f"way: {in_the_way or 'nothing, there are no more files that were archived long enough'}"
    )
