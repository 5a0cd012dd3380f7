"""Purging one raw file: everything proven, the intention recorded, then deleted, then recorded."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from kraken_dagster.fs.stores.roots import OpenRoot
from kraken_dagster.fs.timeouts import bounded
from kraken_dagster.model.errors import (
    BackupDamaged,
    NotNeeded,
    PurgeRefused,
    StatusConflict,
    UnsafePath,
)
from kraken_dagster.model.raw_file import InstrumentFileStatus, RawFile, Step
from kraken_dagster.model.retention.refusal import PurgeIntent
from kraken_dagster.retention.proof import Proof, delete, prove
from kraken_dagster.retention.purge_plan import (
    PurgeOptions,
    target_of,
)
from kraken_dagster.retention.survey import Survey, Target, survey
from kraken_dagster.runtime.failures import record_damage
from kraken_dagster.runtime.leases import Held, holding
from kraken_dagster.runtime.mount_check import require_right_disk
from kraken_dagster.runtime.refusals import watched
from kraken_dagster.runtime.services import Services
from kraken_dagster.runtime.stores import opened_backup, require_backup_store, require_unchanged

_GONE_KEPT = 1_000  # names; a document has no room for 40,000 long ones


@dataclass(frozen=True)
class Purged:
    """What became of a raw file on the instrument.

    `size_bytes` were freed by this run; of `files` members `gone` were not there any more, and were
    proven to be in the backup all the same. `status` is `n/a` where somebody else had deleted it.
    """

    raw_file_id: str
    status: InstrumentFileStatus
    files: int
    size_bytes: int
    gone: int
    proven_at: datetime | None
    reason: str


def purge_file(
    services: Services,
    raw_file_id: str,
    *,
    run_id: str,
    options: PurgeOptions | None = None,
    still_short: Callable[[], bool] = lambda: True,
) -> Purged:
    """Deletes one raw file from its instrument's `Backup/`, if every byte of it is in the backup.

    Args:
        still_short: whether the space is still needed; asked once more when all is proven.

    Raises:
        PurgeRefused, NotRecorded, UnsafePath: nothing (more) is deleted until somebody looked.
        BackupDamaged: the same, and the file has status `error` by now.
        BackupUnwritable, InstrumentBusy: it can't be proven or deleted now.
        StoreAway: the backup store is away, or another one than that of the file's backup.
        FolderError, CopyStalled: the instrument or the backup store is away.
        LeaseHeld, LeaseLost, StatusConflict, StoreUnavailable
    """
    with holding(services, raw_file_id, step=Step.PURGE, run_id=run_id) as held:
        options = options or PurgeOptions.of(services.instrument(held.raw_file.instrument_id))
        _refuse_changed(services, held.raw_file, options)
        with opened_backup(services, held.raw_file) as root:
            return _purge_in(services, held, still_short, root=root)


def _purge_in(
    services: Services, held: Held, still_short: Callable[[], bool], *, root: OpenRoot
) -> Purged:
    raw_file = held.raw_file
    target = target_of(services, raw_file, root.path)
    found = bounded(
        lambda: survey(target),
        timeout_s=services.instrument(raw_file.instrument_id).copy_stall_s,
        what=raw_file.id,
    )
    if found.is_empty:
        return _nothing_left(services, held)
    proof = _prove(services, held, target, found, root=root)
    proven_at = services.now()
    held.require()
    _look_again(held, still_short, root)
    intent = _intend(services, held, proof)
    freed = _delete(services, held, target, proof, root=root)
    return _record(services, held, proof, intent=intent, freed=freed, proven_at=proven_at)


def _look_again(held: Held, still_short: Callable[[], bool], root: OpenRoot) -> None:
    """A proof takes its time: whether the store is still there, and the space still needed.

    Raises:
        StoreAway
        NotNeeded: as much is free as shall be, and nothing of the file was deleted yet.
    """
    raw_file = held.raw_file
    require_unchanged(root)
    if raw_file.purge_intent is None and not still_short():
        raise NotNeeded(
            "The file need not be deleted any more",
            file=raw_file.id,
            found="enough space is free by now",
            next_step="nothing: it is purged when space is short.",
        )


def _refuse_changed(services: Services, raw_file: RawFile, options: PurgeOptions) -> None:
    """What it was chosen for may not hold any more, now that its lease is ours."""
    reason = options.why_not(raw_file.model_copy(update={"lease": None}), now=services.now())
    if reason is not None:
        raise StatusConflict(
            "The file is not to be purged now",
            file=raw_file.id,
            found=reason,
            next_step="nothing: what is due follows from what is recorded now.",
        )


def _prove(
    services: Services, held: Held, target: Target, found: Survey, *, root: OpenRoot
) -> Proof:
    raw_file = held.raw_file
    try:
        proof = watched(
            held,
            lambda beat, _may_go_on: prove(target, found, on_bytes=beat),
            stall_s=services.instrument(raw_file.instrument_id).copy_stall_s,
            what=target.instrument_folder / raw_file.id,
        )
    except BackupDamaged as error:
        require_unchanged(root)
        require_backup_store(services, raw_file)  # it may have gone this very moment
        record_damage(services, raw_file, error, run_id=held.run_id, lease=held.lease)
        raise
    services.store.retention.proven(raw_file, now=services.now())
    return proof


def _intend(services: Services, held: Held, proof: Proof) -> PurgeIntent:
    """The intention of a run that died in the middle stays: it says how much there was."""
    if held.raw_file.purge_intent is not None:
        return held.raw_file.purge_intent
    intent = PurgeIntent(
        began_at=services.now(), run_id=held.run_id, files=len(proof.files), bytes=proof.size_bytes
    )
    services.store.retention.intend_purge(held.raw_file, intent.model_dump(), lease=held.lease)
    return intent


def _delete(services: Services, held: Held, target: Target, proof: Proof, *, root: OpenRoot) -> int:
    """Before each deletion the store is looked at once more, not only what of it was proven."""
    raw_file, deleted = held.raw_file, 0

    def work(beat: Callable[[int], None], may_go_on: Callable[[], bool]) -> int:
        def on_deleted(size: int) -> None:
            nonlocal deleted
            deleted += 1
            beat(size)

        def may_delete() -> bool:
            root.require_same()
            return may_go_on()

        return delete(target, proof, may_go_on=may_delete, on_deleted=on_deleted)

    try:
        return watched(
            held,
            work,
            stall_s=services.instrument(raw_file.instrument_id).copy_stall_s,
            what=target.instrument_folder / raw_file.id,
        )
    except (PurgeRefused, UnsafePath):  # raised before a deletion, never in the middle of one
        untouched = not deleted and (raw_file.purge_intent is None or not proof.gone)
        if untouched and held.still_ours():
            note = "nothing of it was deleted, so the purge was not begun"
            services.store.raw_files.update(
                services.store.raw_files.get(raw_file.id),
                {"purge_intent": None},
                now=services.now(),
                note=note,
            )
        raise


def _record(
    services: Services,
    held: Held,
    proof: Proof,
    *,
    intent: PurgeIntent,
    freed: int,
    proven_at: datetime,
) -> Purged:
    if intent.files == 0:
        return _gone_by_hand(services, held, gone=len(proof.gone))
    reason = _in_words(proof, intent, freed=freed, proven_at=proven_at, run_id=held.run_id)
    purged = {
        "at": services.now(),
        "run_id": held.run_id,
        "files": intent.files,
        "bytes": intent.bytes,
        "gone": list(proof.gone[:_GONE_KEPT]),
        "gone_files": len(proof.gone),
        "digest": "MD5",
        "proven_at": proven_at,
        "began_at": intent.began_at,
    }
    services.store.retention.set_instrument_file(
        held.raw_file,
        InstrumentFileStatus.PURGED,
        now=services.now(),
        reason=reason,
        run_id=held.run_id,
        lease=held.lease,
        fields={"purged": purged},
    )
    files, gone = len(proof.files), len(proof.gone)
    return Purged(
        held.raw_file.id, InstrumentFileStatus.PURGED, files, freed, gone, proven_at, reason
    )


def _in_words(
    proof: Proof, intent: PurgeIntent, *, freed: int, proven_at: datetime, run_id: str
) -> str:
    earlier = (
        ""
        if intent.run_id == run_id
        else f", the purge of {intent.files} files, {intent.bytes} bytes that run {intent.run_id} "
        "began, and of which it was the rest"
    )
    gone = f"; {len(proof.gone)} were gone already, and are in the backup" if proof.gone else ""
    gone += (
        f"; {len(proof.stay)} folders stay, for what a system left in them" if proof.stay else ""
    )
    return (
        f"purged{earlier}: {len(proof.files)} files, {freed} bytes. Proof: every byte of them and "
        f"of the backup read until {proven_at:%Y-%m-%d %H:%M:%S} UTC, sizes and MD5 equal to each "
        f"other and to the record{gone}"
    )


def _nothing_left(services: Services, held: Held) -> Purged:
    """Nothing stands there: a run of ours died before it could say so, or somebody deleted it."""
    raw_file, intent = held.raw_file, held.raw_file.purge_intent
    ours = intent is not None and intent.files > 0
    require_right_disk(services, raw_file.instrument_id, besides=raw_file.id, unproven=ours)
    if intent is None or not ours:
        return _gone_by_hand(services, held, gone=len(raw_file.file_info))
    new = InstrumentFileStatus.PURGED
    reason = (
        f"purged by run {intent.run_id}, which ended before it could say so: it had proven "
        f"{intent.files} files, {intent.bytes} bytes, at {intent.began_at:%Y-%m-%d %H:%M:%S} UTC"
    )
    services.store.retention.set_instrument_file(
        raw_file,
        new,
        now=services.now(),
        reason=reason,
        run_id=held.run_id,
        lease=held.lease,
        fields={"gone_at": services.now()},
    )
    gone = len(raw_file.file_info)
    return Purged(raw_file.id, new, intent.files, 0, gone, intent.began_at, reason)


def _gone_by_hand(services: Services, held: Held, *, gone: int) -> Purged:
    reason = "somebody else deleted it from the instrument's Backup/; Kraken didn't"
    new = InstrumentFileStatus.NOT_APPLICABLE
    services.store.retention.set_instrument_file(
        held.raw_file,
        new,
        now=services.now(),
        reason=reason,
        run_id=held.run_id,
        lease=held.lease,
        fields={"gone_at": services.now()},
    )
    return Purged(held.raw_file.id, new, 0, 0, gone, None, reason)
