"""The backup of one raw file: made, or proven to be there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kraken_dagster.backup.copier import CopyPlan, CopyResult, copy_members
from kraken_dagster.backup.mended import end_as_before, prove_in_place
from kraken_dagster.backup.outcome import BackupOutcome, instrument_facts, to_record, verify
from kraken_dagster.backup.places import clear_away, others_kept, settle_place
from kraken_dagster.backup.source import main_file_stands, members_of, refuse_grown, source_of
from kraken_dagster.config.schema import InstrumentEntry
from kraken_dagster.fs.digests import on_instrument
from kraken_dagster.fs.safe_copy import Progress
from kraken_dagster.fs.stores.manifest import write_manifest
from kraken_dagster.fs.stores.roots import OpenRoot, shown
from kraken_dagster.fs.timeouts import bounded
from kraken_dagster.model.eligibility import main_file_is_missing, overwrite_requested, was_renamed
from kraken_dagster.model.errors import (
    BackupDamaged,
    DigestMismatch,
    KrakenError,
    SourceMissing,
    StoreAway,
    StoreError,
)
from kraken_dagster.model.files.acquisition import Watch
from kraken_dagster.model.files.debris import without_gone_debris
from kraken_dagster.model.files.marks import SourceLook
from kraken_dagster.model.files.vendors import backup_mapping
from kraken_dagster.model.raw_file import (
    ENDED,
    OPEN_ACQUISITION,
    BackupStatus,
    FileFact,
    InstrumentFileStatus,
    RawFile,
    Status,
    Step,
)
from kraken_dagster.quant.decide import decide
from kraken_dagster.runtime.after_jobs import seen
from kraken_dagster.runtime.failures import (
    damage_fields,
    failure_recorded,
    note_not_done,
    record_damage,
    unexpected_of,
)
from kraken_dagster.runtime.leases import Held, holding
from kraken_dagster.runtime.mount_check import require_mounted_instrument
from kraken_dagster.runtime.services import Services
from kraken_dagster.runtime.stores import opened_backup, require_unchanged


@dataclass(frozen=True)
class BackupOptions:
    """The options that concern a backup; see `config/schema.py`."""

    backup_overwrite_file_id: str | None = None
    checksum_overwrite_file_id: str | None = None


def back_up(
    services: Services,
    raw_file_id: str,
    *,
    run_id: str,
    options: BackupOptions,
    by_hand: bool = True,
    decides: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> BackupOutcome:
    """Sees to it that a verified backup of the file exists.

    Args:
        by_hand: a person asked for it. Then a backup that is there already is read again in full;
            a sensor's request for what is done meanwhile does nothing.
        decides: also what is to be run on the file, so that one with nothing to run has ended,
            and the jobs of another are submitted once there is a slot.

    Raises:
        FileError: it could not be made; status `error` and its reason are in MongoDB.
        LeaseHeld, LeaseLost: another run works on the file.
        StoreUnavailable
    """
    raw_file = services.store.raw_files.current(raw_file_id)
    if reason := _why_not(raw_file, by_hand=by_hand):
        return BackupOutcome(raw_file, False, reason)
    with holding(services, raw_file_id, step=Step.BACKUP, run_id=run_id, known=raw_file) as held:
        raw_file = held.raw_file
        if reason := _why_not(raw_file, by_hand=by_hand):
            return BackupOutcome(raw_file, False, reason)
        if raw_file.is_backed_up and not by_hand:
            return BackupOutcome(raw_file, False, "the backup is there already")
        if raw_file.is_backed_up:
            return _verify_again(services, held, run_id)
        failed = damage_fields(raw_file)
        with failure_recorded(
            services, raw_file_id, run_id=run_id, lease=held.lease, fields=failed
        ):
            if raw_file.instrument_file_status is InstrumentFileStatus.PURGED:
                return prove_in_place(services, held, run_id)
            outcome = _settle_acquisition(services, held, run_id) or _make(
                services, held, run_id, options, on_progress
            )
            if decides and outcome.raw_file.status is Status.COPYING_DONE:
                held.raw_file = outcome.raw_file
                decide(services, held, run_id, by_hand=False)
            return outcome


def _verify_again(services: Services, held: Held, run_id: str) -> BackupOutcome:
    """Only damage changes the file. A store that can't be read says nothing of what it holds.

    Raises:
        BackupDamaged: status `error`.
        FileError: it could not be read; the history says so.
    """
    try:
        return verify(services, held.raw_file)
    except (StoreError, StoreAway):
        raise
    except BackupDamaged as error:
        record_damage(services, held.raw_file, error, run_id=run_id, lease=held.lease)
        raise
    except KrakenError as error:
        note_not_done(services, held.raw_file, error, run_id=run_id)
        raise
    except Exception as error:
        unexpected = unexpected_of(error, held.raw_file.id)
        note_not_done(services, held.raw_file, unexpected, run_id=run_id)
        raise unexpected from error


def _settle_acquisition(services: Services, held: Held, run_id: str) -> BackupOutcome | None:
    """The outcome where there is nothing to copy (yet): renamed, vanished, or back again.

    Raises:
        FolderError, SourceUnreadable, CopyStalled: the instrument doesn't say what is there.
    """
    raw_file, errors = held.raw_file, held.raw_file.acquisition.get("errors", ())
    if renamed := was_renamed(errors):
        return _nothing_to_copy(services, held, run_id, renamed, InstrumentFileStatus.RENAMED)
    instrument = services.instrument(raw_file.instrument_id)
    folder, name = source_of(services, raw_file)
    if not main_file_is_missing(errors):
        return None
    rules, path, stall_s = (
        services.rules(raw_file.instrument_id),
        folder / name,
        instrument.copy_stall_s,
    )
    if bounded(lambda: main_file_stands(folder, name, rules), timeout_s=stall_s, what=path):
        now = services.now()
        reason = "the main file is there after all, so the acquisition is watched again"
        after = services.store.raw_files.transition(
            raw_file,
            Status.QUEUED_FOR_MONITORING,
            now=now,
            reason=reason,
            run_id=run_id,
            lease=held.lease,
            fields={
                "acquisition": Watch.begin(now, main_file_seen=True).to_record(),
                "retry_at": None,
            },
        )
        return BackupOutcome(after, False, reason)
    if bounded(lambda: on_instrument(path), timeout_s=stall_s, what=path):
        return None  # a Bruker folder without its main file: what there is is kept
    # Of a share that is away nothing is there.
    require_mounted_instrument(services, raw_file.instrument_id)
    return _nothing_to_copy(services, held, run_id, ";".join(errors), InstrumentFileStatus.INITIAL)


def _why_not(raw_file: RawFile, *, by_hand: bool) -> str | None:
    if raw_file.status in OPEN_ACQUISITION:
        return f"the acquisition is not over yet: {raw_file.status_details or raw_file.status}"
    if raw_file.status is Status.IGNORED:
        return f"the file is ignored: {raw_file.status_details}"
    if not by_hand and raw_file.status in ENDED:
        return f"nothing is due: the file is {raw_file.status}"
    return None


def _nothing_to_copy(
    services: Services, held: Held, run_id: str, reason: str, instrument_file: InstrumentFileStatus
) -> BackupOutcome:
    if held.raw_file.status is Status.ACQUISITION_FAILED:  # as it was found to be before
        return BackupOutcome(held.raw_file, False, reason)
    raw_file = services.store.raw_files.transition(
        held.raw_file,
        Status.ACQUISITION_FAILED,
        now=services.now(),
        reason=reason,
        run_id=run_id,
        lease=held.lease,
        fields={
            "backup_status": BackupStatus.SKIPPED,
            "instrument_file_status": instrument_file,
            "retry_at": None,
        },
    )
    return BackupOutcome(raw_file, False, reason)


def _make(
    services: Services,
    held: Held,
    run_id: str,
    options: BackupOptions,
    on_progress: Callable[[Progress], None],
) -> BackupOutcome:
    """Nothing changes where the store is away; what has begun goes on from there once it is back.

    Raises:
        StoreAway
    """
    with opened_backup(services, held.raw_file.model_copy(update={"backup_store": None})) as root:
        return _make_in(services, held, run_id, options, on_progress, root=root)


def _make_in(
    services: Services,
    held: Held,
    run_id: str,
    options: BackupOptions,
    on_progress: Callable[[Progress], None],
    *,
    root: OpenRoot,
) -> BackupOutcome:
    instrument = services.instrument(held.raw_file.instrument_id)
    raw_file = held.raw_file

    def members() -> list[str]:
        return members_of(services, raw_file, instrument)

    try:  # before anything changes: of what isn't there nothing is begun
        found = bounded(members, timeout_s=instrument.copy_stall_s, what=raw_file.id)
    except SourceMissing:
        clear_away(services, raw_file, root=root.path)
        raise
    if not found:
        clear_away(services, raw_file, root=root.path)
        problem = ";".join(raw_file.acquisition.get("errors", ())) or "No files found."
        return _nothing_to_copy(services, held, run_id, problem, InstrumentFileStatus.INITIAL)
    raw_file = held.raw_file = services.store.raw_files.transition(
        raw_file,
        Status.COPYING,
        now=services.now(),
        run_id=run_id,
        lease=held.lease,
        options=_asked(options),
        fields={"backup_status": BackupStatus.COPYING_IN_PROGRESS, "retry_at": None},
    )
    refuse_grown(services, held, found, run_id)
    settle_place(
        services, held, _mapping(services, raw_file, found).values(), root=root.path, run_id=run_id
    )
    raw_file = held.raw_file
    plan = _plan(services, raw_file, instrument, found, options, root=root.path)
    with others_kept(services, raw_file, plan.members.values(), root=root.path) as keep:
        result = copy_members(
            plan,
            list_members=members,
            still_ours=held.still_ours,
            on_progress=on_progress,
            before_aside=keep,
        )
    _refuse_other_digests(raw_file, result.facts, options)
    manifest = bounded(
        lambda: write_manifest(plan.target_folder, raw_file.id, result.facts, plan.group),
        timeout_s=instrument.copy_stall_s,
        what=plan.target_folder,
    )
    require_unchanged(root)
    return _record_done(services, held, run_id, result, manifest, root=root)


def _plan(
    services: Services,
    raw_file: RawFile,
    instrument: InstrumentEntry,
    members: list[str],
    options: BackupOptions,
    *,
    root: Path,
) -> CopyPlan:
    return CopyPlan(
        source_folder=source_of(services, raw_file)[0],
        target_folder=services.backup_folder(raw_file, root),
        members=_mapping(services, raw_file, members),
        target_top=raw_file.id,
        is_folder=services.rules(raw_file.instrument_id).is_folder,
        overwrite=overwrite_requested(
            options.backup_overwrite_file_id,
            raw_file_id=raw_file.id,
            instrument_id=raw_file.instrument_id,
        ),
        threads=instrument.copy_threads,
        stall_s=instrument.copy_stall_s,
        read_only=True,
        group=services.backup_group,
    )


def _mapping(services: Services, raw_file: RawFile, members: list[str]) -> dict[str, str]:
    vendor = services.instrument(raw_file.instrument_id).type
    return backup_mapping(vendor, raw_file.id, source_of(services, raw_file)[1], members)


def _refuse_other_digests(
    raw_file: RawFile, facts: Mapping[str, FileFact], options: BackupOptions
) -> None:
    """What was recorded by an earlier try must not change unnoticed."""
    if overwrite_requested(
        options.checksum_overwrite_file_id,
        raw_file_id=raw_file.id,
        instrument_id=raw_file.instrument_id,
    ):
        return
    for name, recorded in without_gone_debris(raw_file.file_info, facts).items():
        found = facts.get(name)
        if recorded.md5 is not None and (found is None or found.md5 != recorded.md5):
            raise _RecordedDigestDiffers(
                "The source is not what was recorded of it earlier",
                file=name,
                expected=f"{recorded.size} bytes, MD5 {recorded.md5}",
                found=f"{found.size} bytes, MD5 {found.md5}" if found else "no such file",
                next_step="find out why it changed; to take it as it is now, set "
                "checksum_overwrite_file_id to this raw file id and `kraken retry` it.",
            )


class _RecordedDigestDiffers(DigestMismatch):
    transient = False


def _record_done(
    services: Services,
    held: Held,
    run_id: str,
    result: CopyResult,
    manifest: Path,
    *,
    root: OpenRoot,
) -> BackupOutcome:
    raw_file = held.raw_file
    size = sum(fact.size or 0 for fact in result.facts.values())
    facts = instrument_facts(services, raw_file, result, root.path)
    copied = raw_file.model_copy(update={"file_info": result.facts})
    scan = seen(services, copied, root.path)
    verb = "copied and verified" if result.copied else "was there already, and proven identical"
    if result.refused:
        verb += f"; the store refuses, which is no part of the proof: {', '.join(result.refused)}"
    after = services.store.raw_files.transition(
        raw_file,
        Status.COPYING_DONE,
        now=services.now(),
        reason=f"{len(result.facts)} files, {size} bytes, {verb}",
        run_id=run_id,
        lease=held.lease,
        fields={
            "backup_status": BackupStatus.COPYING_DONE,
            "backup_base_path": services.backup_base_path(raw_file),
            "backup_store": root.store_id,
            "file_info": to_record(raw_file, result.facts),
            "backup_seen": scan.model_dump(),
            "size": size,
            "source_look": _source_look(services, raw_file, result),
            "source_differs_at": None,
            "backed_up_at": services.now(),
            "verified_at": services.now(),
            "failures": 0,
            **({"acquisition.instrument": facts} if facts else {}),
        },
    )
    return BackupOutcome(
        end_as_before(services, held, after, result.facts, run_id),
        True,
        verb,
        facts=result.facts,
        copied_bytes=result.copied_bytes,
        proven=result.proven,
        seconds=result.seconds,
        manifest=shown(manifest),
        set_aside=tuple(map(shown, result.set_aside)),
        instrument_facts=facts,
    )


def _source_look(services: Services, raw_file: RawFile, result: CopyResult) -> dict[str, Any]:
    main = services.rules(raw_file.instrument_id).main_file_among(raw_file.id, result.scans)
    return SourceLook.of(result.scans, main=main).model_dump()


def _asked(options: BackupOptions) -> dict[str, Any]:
    """The options that differ from their defaults, for the history."""
    return {name: value for name, value in vars(options).items() if value is not None}
