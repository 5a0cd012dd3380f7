"""Reading backups again, and comparing them with MongoDB and with their manifests."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from kraken_dagster.fs.copying.part_files import PART_PREFIX
from kraken_dagster.fs.digests import exists, target_errors
from kraken_dagster.fs.dir_handles import Folder, one_name, walk
from kraken_dagster.fs.rate_limit import RateLimit
from kraken_dagster.fs.stores.backup_reader import damaged, read_all
from kraken_dagster.fs.stores.backup_scan import appearance
from kraken_dagster.fs.stores.manifest import (
    manifest_kinds,
    manifest_path,
    manifest_text,
    write_manifests,
)
from kraken_dagster.fs.stores.read_only import protect_backup
from kraken_dagster.fs.stores.roots import OpenRoot
from kraken_dagster.model.errors import (
    BackupDamaged,
    BackupFull,
    BackupUnwritable,
    ConfigError,
    KrakenError,
    LeaseHeld,
    LeaseLost,
    OnAnotherStore,
    StatusConflict,
    StoreError,
    UnknownRawFile,
)
from kraken_dagster.model.files.appearance import Appearance
from kraken_dagster.model.files.debris import is_debris
from kraken_dagster.model.files.names import strangers
from kraken_dagster.model.files.vendors import RULES, VendorRules
from kraken_dagster.model.raw_file import FINAL, BackupStatus, RawFile, Status, Step
from kraken_dagster.model.retention.rules import require_record
from kraken_dagster.runtime.failures import record_damage
from kraken_dagster.runtime.leases import Held, holding
from kraken_dagster.runtime.refusals import in_own_words, watched
from kraken_dagster.runtime.services import Services
from kraken_dagster.runtime.stores import opened_backup, require_backup_store, require_unchanged


class Verdict(StrEnum):
    VERIFIED = "verified"
    MISMATCH = "mismatch"  # the file has status `error` by now, or had it before
    UNREADABLE = "unreadable"  # or not recorded; which says nothing about what is there
    SKIPPED = "skipped"


PROOFS = (Verdict.VERIFIED, Verdict.MISMATCH)  # which tell how the backup is


@dataclass(frozen=True)
class VerifyOutcome:
    """`extra` are files in the backup's folder that MongoDB doesn't know; they are left alone."""

    raw_file_id: str
    verdict: Verdict
    reason: str
    files: int = 0
    size_bytes: int = 0
    extra: tuple[str, ...] = ()
    manifest_written: bool = False
    seen: Appearance | None = None  # how the backup looked when it was proven


def verify_backup(
    services: Services,
    raw_file_id: str,
    *,
    run_id: str,
    rate_limit: RateLimit,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> VerifyOutcome:
    """Reads every byte of a backup, at a bounded rate, and compares it with what is known of it.

    A manifest that is missing is written anew, from the record that the bytes have just proven.
    A backup that is known to be damaged is read too: somebody may have mended it.

    Raises:
        BackupUnwritable, CopyStalled: the backup store is away, which says nothing about it.
        StoreUnavailable
    """
    try:
        raw_file = services.store.raw_files.get(raw_file_id)
    except UnknownRawFile as error:  # it is gone since, or its id is none that Kraken writes
        return VerifyOutcome(raw_file_id, Verdict.UNREADABLE, str(error))
    if reason := _why_not(raw_file):
        return VerifyOutcome(raw_file_id, Verdict.SKIPPED, reason)
    try:
        with holding(services, raw_file_id, step=Step.VERIFY, run_id=run_id) as held:
            if reason := _why_not(held.raw_file):
                return VerifyOutcome(raw_file_id, Verdict.SKIPPED, reason)
            return _verify(services, held, rate_limit, on_bytes)
    except (ConfigError, LeaseHeld, LeaseLost, OnAnotherStore, StatusConflict) as error:
        return VerifyOutcome(raw_file_id, Verdict.SKIPPED, str(error))


def _why_not(raw_file: RawFile) -> str | None:
    if raw_file.status not in FINAL:
        return f"it is still worked on: {raw_file.status}"
    if raw_file.unreadable is not None:
        return raw_file.status_details
    if not raw_file.file_info or not (raw_file.is_backed_up or _was_damaged(raw_file)):
        return f"no backup of it is recorded: {raw_file.backup_status or 'nothing'}"
    return None


def _was_damaged(raw_file: RawFile) -> bool:
    """Whether there was a backup that was found not to be what was recorded."""
    had_one = raw_file.backed_up_at is not None or raw_file.ended_as is not None
    return had_one and raw_file.backup_status is BackupStatus.COPYING_FAILED


def _verify(
    services: Services,
    held: Held,
    rate_limit: RateLimit,
    on_bytes: Callable[[int], None],
) -> VerifyOutcome:
    require_backup_store(services, held.raw_file)
    with opened_backup(services, held.raw_file) as root:
        return _verify_in(services, held, rate_limit, on_bytes, root=root)


def _verify_in(
    services: Services,
    held: Held,
    rate_limit: RateLimit,
    on_bytes: Callable[[int], None],
    *,
    root: OpenRoot,
) -> VerifyOutcome:
    raw_file = held.raw_file
    try:
        with in_own_words(raw_file.id):
            outcome = _read_watched(services, held, rate_limit, on_bytes, root=root)
    except BackupDamaged as error:
        require_unchanged(root)
        require_backup_store(services, raw_file)  # it may have gone this very moment
        if raw_file.is_backed_up:
            record_damage(services, raw_file, error, run_id=held.run_id, lease=held.lease)
        return VerifyOutcome(raw_file.id, Verdict.MISMATCH, str(error))
    except StoreError:
        raise
    except KrakenError as error:  # this file's own trouble, unless the store has gone or hangs
        require_unchanged(root)
        require_backup_store(services, raw_file)
        return VerifyOutcome(raw_file.id, Verdict.UNREADABLE, str(error))
    held.require()
    seen = outcome.seen if raw_file.is_backed_up else None
    services.store.retention.proven(raw_file, now=services.now(), seen=seen)
    if raw_file.is_backed_up:
        return outcome
    return _whole_again(services, raw_file, outcome, held.run_id)


def _read_watched(
    services: Services,
    held: Held,
    rate_limit: RateLimit,
    on_bytes: Callable[[int], None],
    *,
    root: OpenRoot,
) -> VerifyOutcome:
    raw_file = held.raw_file

    def read(beat: Callable[[int], None], may_go_on: Callable[[], bool]) -> VerifyOutcome:
        def took(count: int) -> None:
            beat(count)
            on_bytes(count)
            rate_limit.took(count, beat)

        return _read(services, raw_file, took, may_go_on, root=root.path)

    stall_s = services.instrument(raw_file.instrument_id).copy_stall_s
    path = services.backup_folder(raw_file, root.path) / raw_file.id
    return watched(held, read, stall_s=stall_s, what=path)


def _whole_again(
    services: Services, raw_file: RawFile, outcome: VerifyOutcome, run_id: str
) -> VerifyOutcome:
    """What counted as damaged, and isn't: the step that failed is due again, and settles it."""
    if raw_file.status is not Status.ERROR:
        return outcome
    if raw_file.retry_at is None:
        now, note = services.now(), "its backup is whole again, so that its step is tried again"
        services.store.raw_files.update(
            raw_file, {"retry_at": now}, now=now, note=note, run_id=run_id
        )
    reported = f"{outcome.reason}; it counted as damaged, and its watcher puts that right"
    return replace(outcome, reason=reported)


def _read(
    services: Services,
    raw_file: RawFile,
    on_bytes: Callable[[int], None],
    may_write: Callable[[], bool],
    *,
    root: Path,
) -> VerifyOutcome:
    folder, recorded = services.backup_folder(raw_file, root), raw_file.file_info
    vendor = services.instrument(raw_file.instrument_id).type
    one_name(raw_file.id)
    require_record(vendor, raw_file.id, recorded)
    facts = read_all(folder, recorded, on_bytes=on_bytes)
    if may_write():  # it was made by an earlier version, say, or by AlphaKraken
        top = raw_file.id if RULES[vendor].is_folder else None
        protect_backup(folder, recorded, top, services.backup_group)
    written = _settle_manifest(folder, raw_file, may_write, services.backup_group)
    extra = _extra(folder, raw_file, RULES[vendor])
    size = sum(fact.size or 0 for fact in facts.values())
    parts = [f"{len(facts)} files, {size} bytes, equal to their record"]
    if written:
        parts.append("the manifest was missing, and is written anew")
    if extra:
        parts.append(f"{len(extra)} files that MongoDB doesn't know, {extra[0]!a}")
    return VerifyOutcome(
        raw_file.id,
        Verdict.VERIFIED,
        "; ".join(parts),
        len(facts),
        size,
        extra,
        written,
        appearance(folder, raw_file.id, recorded, RULES[vendor]),
    )


def _settle_manifest(
    folder: Path, raw_file: RawFile, may_write: Callable[[], bool], group: int | None
) -> bool:
    """Whether the manifest had to be written; one that says something else is damage.

    Where the store is mounted read-only a missing one stays missing; so it does where this hung,
    and was given up.
    """
    facts, missing = raw_file.file_info, False
    for kind in manifest_kinds(facts):
        path = manifest_path(folder, raw_file.id, facts, kind)
        with target_errors(path):
            if not exists(path):
                missing = True
            elif path.is_symlink() or path.read_bytes() != manifest_text(facts, kind).encode():
                raise damaged(path, "what MongoDB has recorded", "a manifest that says otherwise")
    if not missing or not may_write():
        return False
    with suppress(BackupUnwritable, BackupFull):
        write_manifests(folder, raw_file.id, facts, group)
        return True
    return False


def _extra(folder: Path, raw_file: RawFile, rules: VendorRules) -> tuple[str, ...]:
    if not rules.is_folder:
        return ()
    with target_errors(folder / raw_file.id), Folder.open(folder) as opened:
        tree = walk(opened, raw_file.id)
    found = strangers(raw_file.file_info, {*tree.files, *tree.odd})
    return tuple(sorted(name for name in found if PART_PREFIX not in name and not is_debris(name)))
