"""Purging one raw file: everything proven, the intention recorded, then deleted, then recorded."""

from collections.abc import Callable
from functools import partial

from kraken_dagster.fs.stores.roots import OpenRoot
from kraken_dagster.fs.timeouts import bounded
from kraken_dagster.model.errors import (
    BackupDamaged,
    NotNeeded,
    PurgeRefused,
    StatusConflict,
    UnsafePath,
)
from kraken_dagster.model.offsite import OffsiteState
from kraken_dagster.model.raw_file import RawFile, Step
from kraken_dagster.model.retention.refusal import PurgeIntent
from kraken_dagster.offsite.check import require_copy
from kraken_dagster.offsite.client import S3, connect
from kraken_dagster.offsite.places import configured
from kraken_dagster.retention.proof import Proof, delete, prove
from kraken_dagster.retention.purge_plan import (
    PurgeOptions,
    target_of,
)
from kraken_dagster.retention.purge_record import Proven, Purged, nothing_left, record_purge
from kraken_dagster.retention.survey import Survey, Target, survey
from kraken_dagster.runtime.failures import record_damage
from kraken_dagster.runtime.leases import Held, holding
from kraken_dagster.runtime.refusals import watched
from kraken_dagster.runtime.services import Services
from kraken_dagster.runtime.stores import opened_backup, require_backup_store, require_unchanged


def purge_file(
    services: Services,
    raw_file_id: str,
    *,
    run_id: str,
    options: PurgeOptions | None = None,
    still_short: Callable[[], bool] = lambda: True,
    s3: S3 | None = None,
) -> Purged:
    """Deletes one raw file from its instrument's `Backup/`, if every byte of it is in the backup,
    and, where `purge_proof` asks for it, in the copy off-site.

    Args:
        still_short: whether the space is still needed; asked once more when all is proven.
        s3: a connection to the server of the copies, if there is one already.

    Raises:
        PurgeRefused, NotRecorded, UnsafePath: nothing (more) is deleted until somebody looked.
        BackupDamaged: the same, and the file has status `error` by now.
        BackupUnwritable, InstrumentBusy: it can't be proven or deleted now.
        StoreAway: the backup store is away, or another one than that of the file's backup.
        FolderError, CopyStalled: the instrument or the backup store is away.
        OffsiteError: the copy off-site is not there as recorded, or can't be asked about.
        LeaseHeld, LeaseLost, StatusConflict, StoreUnavailable
    """
    with holding(services, raw_file_id, step=Step.PURGE, run_id=run_id) as held:
        options = options or PurgeOptions.of(services.instrument(held.raw_file.instrument_id))
        _refuse_changed(services, held.raw_file, options)
        with opened_backup(services, held.raw_file) as root:
            second = partial(_second_copy, services, held, options, s3)
            return _purge_in(services, held, still_short, second, root=root)


def _second_copy(
    services: Services, held: Held, options: PurgeOptions, s3: S3 | None
) -> OffsiteState | None:
    """The copy off-site as the server has it now; None where it isn't asked for.

    Raises:
        ConfigError, OffsiteError, LeaseLost
    """
    if not options.needs_offsite:
        return None
    s3 = connect(configured(services)) if s3 is None else s3
    return require_copy(services, s3, held.raw_file, on_object=held.require)


def _purge_in(
    services: Services,
    held: Held,
    still_short: Callable[[], bool],
    second_copy: Callable[[], OffsiteState | None],
    *,
    root: OpenRoot,
) -> Purged:
    raw_file = held.raw_file
    target = target_of(services, raw_file, root.path)
    found = bounded(
        lambda: survey(target),
        timeout_s=services.instrument(raw_file.instrument_id).copy_stall_s,
        what=raw_file.id,
    )
    if found.is_empty:
        return nothing_left(services, held)
    second_copy()  # before everything is read in vain
    proof = _prove(services, held, target, found, root=root)
    proven_at = services.now()
    held.require()
    copy = second_copy()
    held.require()
    _look_again(held, still_short, root)
    intent = _intend(services, held, proof)
    freed = _delete(services, held, target, proof, root=root)
    proven = Proven(proof, proven_at, copy)
    return record_purge(services, held, proven, intent=intent, freed=freed)


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
