"""Makes the backup of a raw file: copies its members, proves them, records what there is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kraken_dagster.backup.copier import copy_members
from kraken_dagster.backup.copying.plan import CopyPlan, CopyResult
from kraken_dagster.backup.mended import end_as_before
from kraken_dagster.backup.not_copied import end_without_backup
from kraken_dagster.backup.outcome import BackupOutcome, instrument_facts, with_known
from kraken_dagster.backup.pace import Pace
from kraken_dagster.backup.places import clear_away, others_kept, settle_place
from kraken_dagster.backup.source import members_of, refuse_grown, source_of
from kraken_dagster.fs.copying.progress import Progress
from kraken_dagster.fs.rate_limit import shared_limit
from kraken_dagster.fs.stores.manifest import write_manifests
from kraken_dagster.fs.stores.roots import OpenRoot, shown
from kraken_dagster.fs.timeouts import bounded
from kraken_dagster.model.eligibility import overwrite_requested
from kraken_dagster.model.errors import (
    DigestMismatch,
    SourceMissing,
)
from kraken_dagster.model.files.debris import without_gone_debris
from kraken_dagster.model.files.marks import SourceLook
from kraken_dagster.model.files.vendors import backup_mapping
from kraken_dagster.model.raw_file import (
    BackupStatus,
    FileFact,
    InstrumentFileStatus,
    RawFile,
    Status,
)
from kraken_dagster.runtime.after_jobs import seen
from kraken_dagster.runtime.leases import Held
from kraken_dagster.runtime.services import Services
from kraken_dagster.runtime.stores import opened_backup, require_unchanged
from kraken_dagster.store.raw_files.members import recorded


@dataclass(frozen=True)
class BackupOptions:
    """The options that concern a backup; see `config/schema.py`."""

    backup_overwrite_file_id: str | None = None
    checksum_overwrite_file_id: str | None = None


def make_backup(
    services: Services,
    held: Held,
    options: BackupOptions,
    on_progress: Callable[[Progress], None],
) -> BackupOutcome:
    """Nothing changes where the store is away; what has begun goes on from there once it is back.

    Raises:
        StoreAway
    """
    with opened_backup(services, held.raw_file.model_copy(update={"backup_store": None})) as root:
        return _make(services, held, options, on_progress, root=root)


def _make(
    services: Services,
    held: Held,
    options: BackupOptions,
    on_progress: Callable[[Progress], None],
    *,
    root: OpenRoot,
) -> BackupOutcome:
    try:  # before anything changes: of what isn't there nothing is begun
        found = _members(services, held)
    except SourceMissing:
        clear_away(services, held.raw_file, root=root.path)
        raise
    if not found:
        clear_away(services, held.raw_file, root=root.path)
        problem = ";".join(held.raw_file.acquisition.get("errors", ())) or "No files found."
        return end_without_backup(held, problem, InstrumentFileStatus.INITIAL)
    held.raw_file = held.transition(
        Status.COPYING,
        options=_asked(options),
        fields={"backup_status": BackupStatus.COPYING_IN_PROGRESS, "retry_at": None},
    )
    refuse_grown(services, held, found)
    targets = _mapping(services, held.raw_file, found).values()
    settle_place(services, held, targets, root=root.path)
    plan = _plan(services, held.raw_file, found, options, root=root)
    result = _copied(services, held, plan, on_progress, root=root.path)
    _refuse_other_digests(held.raw_file, result.facts, options)
    result = replace(result, facts=with_known(held.raw_file, result.facts))
    manifest = _manifest(plan, held.raw_file, result.facts)
    require_unchanged(root)
    return _record_done(services, held, result, manifest, root=root)


def _manifest(plan: CopyPlan, raw_file: RawFile, facts: Mapping[str, FileFact]) -> Path:
    folder, before = plan.target_folder, raw_file.file_info
    return bounded(
        lambda: write_manifests(folder, raw_file.id, facts, plan.group, before),
        timeout_s=plan.stall_s,
        what=folder,
    )


def _members(services: Services, held: Held) -> list[str]:
    """
    Raises:
        SourceMissing, CopyStalled
    """
    instrument = services.instrument(held.raw_file.instrument_id)
    return bounded(
        lambda: members_of(services, held.raw_file, instrument),
        timeout_s=instrument.copy_stall_s,
        what=held.raw_file.id,
    )


def _copied(
    services: Services,
    held: Held,
    plan: CopyPlan,
    on_progress: Callable[[Progress], None],
    *,
    root: Path,
) -> CopyResult:
    raw_file, instrument = held.raw_file, services.instrument(held.raw_file.instrument_id)
    with others_kept(services, raw_file, plan.members.values(), root=root) as keep:
        return copy_members(
            plan,
            list_members=lambda: members_of(services, raw_file, instrument),
            still_ours=held.still_ours,
            on_progress=on_progress,
            before_aside=keep,
        )


def _plan(
    services: Services,
    raw_file: RawFile,
    members: list[str],
    options: BackupOptions,
    *,
    root: OpenRoot,
) -> CopyPlan:
    instrument = services.instrument(raw_file.instrument_id)
    mapping = _mapping(services, raw_file, members)
    second = instrument.second_digest
    return CopyPlan(
        source_folder=source_of(services, raw_file)[0],
        target_folder=services.backup_folder(raw_file, root.path),
        members=mapping,
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
        attempt=f"{raw_file.id} of {raw_file.created_at_.isoformat()} on {root.store_id}",
        digests={} if second is None else dict.fromkeys(mapping.values(), second),
        rate_limit=shared_limit(raw_file.instrument_id, Pace(services, raw_file.instrument_id)),
        ionice=instrument.copy_ionice,
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
    for name, known in without_gone_debris(raw_file.file_info, facts).items():
        found = facts.get(name)
        if known.md5 is not None and (found is None or known.differs(found)):
            raise _RecordedDigestDiffers(
                "The source is not what was recorded of it earlier",
                file=name,
                expected=known.in_words(),
                found=found.in_words() if found else "no such file",
                next_step="find out why it changed; to take it as it is now, set "
                "checksum_overwrite_file_id to this raw file id and `kraken retry` it.",
            )


class _RecordedDigestDiffers(DigestMismatch):
    transient = False


def _record_done(
    services: Services,
    held: Held,
    result: CopyResult,
    manifest: Path,
    *,
    root: OpenRoot,
) -> BackupOutcome:
    raw_file, how = held.raw_file, _how(result)
    facts = instrument_facts(services, raw_file, result, root.path)
    size = sum(fact.size or 0 for fact in result.facts.values())
    fields = _backup_fields(services, raw_file, result, root=root)
    after = held.transition(
        Status.COPYING_DONE,
        of=raw_file,
        reason=f"{len(result.facts)} files, {size} bytes, {how}",
        fields={
            **fields,
            "size": size,
            **({"acquisition.instrument": facts} if facts else {}),
        },
    )
    return BackupOutcome(
        end_as_before(services, held, after, result.facts),
        True,
        how,
        facts=result.facts,
        copied_bytes=result.copied_bytes,
        proven=result.proven,
        seconds=result.seconds,
        manifest=shown(manifest),
        set_aside=tuple(map(shown, result.set_aside)),
        instrument_facts=facts,
    )


def _how(result: CopyResult) -> str:
    how = "copied and verified" if result.copied else "was there already, and proven identical"
    if result.refused:
        how += f"; the store refuses, which is no part of the proof: {', '.join(result.refused)}"
    return how


def _backup_fields(
    services: Services, raw_file: RawFile, result: CopyResult, *, root: OpenRoot
) -> dict[str, Any]:
    """What MongoDB keeps of a backup that was just proven."""
    copied = raw_file.model_copy(update={"file_info": result.facts})
    return {
        "backup_status": BackupStatus.COPYING_DONE,
        "backup_base_path": services.backup_base_path(raw_file),
        "backup_store": root.store_id,
        **recorded(result.facts),
        "backup_seen": seen(services, copied, root.path).model_dump(),
        "source_look": _source_look(services, raw_file, result),
        "source_differs_at": None,
        "backed_up_at": services.now(),
        "verified_at": services.now(),
        "failures": 0,
    }


def _source_look(services: Services, raw_file: RawFile, result: CopyResult) -> dict[str, Any]:
    main = services.rules(raw_file.instrument_id).main_file_among(raw_file.id, result.scans)
    return SourceLook.of(result.scans, main=main).model_dump()


def _asked(options: BackupOptions) -> dict[str, Any]:
    """The options that differ from their defaults, for the history."""
    return {name: value for name, value in vars(options).items() if value is not None}
