"""Copying a backup out, verified."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

from kraken_dagster.backup.copier import copy_members
from kraken_dagster.backup.copying.plan import CopyPlan, CopyResult
from kraken_dagster.fs.copying.progress import Progress
from kraken_dagster.fs.dir_handles import one_name
from kraken_dagster.fs.stores.backup_reader import damaged, read_all
from kraken_dagster.fs.timeouts import beating
from kraken_dagster.model.errors import (
    BackupConflict,
    BackupFull,
    BackupUnwritable,
    DigestMismatch,
    NotRecorded,
    RestoreRefused,
    SourceChanged,
    SourceMissing,
    SourceUnreadable,
)
from kraken_dagster.model.raw_file import RawFile
from kraken_dagster.model.retention.rules import require_record
from kraken_dagster.runtime.services import Services
from kraken_dagster.runtime.stores import opened_backup, require_backup_store

_COPYING = (
    BackupConflict,
    BackupFull,
    BackupUnwritable,
    DigestMismatch,
    SourceChanged,
    SourceMissing,
    SourceUnreadable,
)


def restore(
    services: Services,
    raw_file_id: str,
    target: Path,
    *,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> CopyResult:
    """Copies a raw file's backup into a folder, under its raw file id.

    The backup is compared with its record first, so that nothing damaged gets a final name there,
    and the copy with the record afterwards. What stands there already is proven, and never
    replaced. Times are kept.

    Raises:
        NotRecorded: nothing is recorded that the backup could be proven by.
        UnsafePath: its id is not a name that a folder can have an entry of.
        ConfigError: its instrument is not configured.
        BackupDamaged: the backup is not what was recorded; nothing was copied.
        BackupUnwritable, CopyStalled: the backup store is away.
        RestoreRefused: the folder doesn't take it.
        UnknownRawFile, StoreUnavailable
    """
    raw_file = services.store.raw_files.get(raw_file_id)
    may_be_put_into(services, raw_file, target)
    require_backup_store(services, raw_file)
    with opened_backup(services, raw_file) as root:
        return _restore(services, raw_file, target, on_progress, root=root.path)


def may_be_put_into(services: Services, raw_file: RawFile, target: Path) -> None:
    """
    Raises:
        NotRecorded, UnsafePath, ConfigError
        RestoreRefused: it is no folder, or one of the backup store.
    """
    instrument = services.instrument(raw_file.instrument_id)
    one_name(raw_file.id)  # it is put below the folder, and no link there is to lead it elsewhere
    if not raw_file.file_info:
        raise NotRecorded(
            "There is no backup of this file yet",
            file=raw_file.id,
            found=f"status {raw_file.status}",
            next_step="`kraken show` has what it waits for.",
        )
    require_record(instrument.type, raw_file.id, raw_file.file_info)
    _require_folder(target)
    _require_outside(target, services.config.locations.backup.path)


def _restore(
    services: Services,
    raw_file: RawFile,
    target: Path,
    on_progress: Callable[[Progress], None],
    *,
    root: Path,
) -> CopyResult:
    instrument, folder = (
        services.instrument(raw_file.instrument_id),
        services.backup_folder(raw_file, root),
    )
    beating(
        lambda beat: read_all(folder, raw_file.file_info, on_bytes=beat),
        stall_s=instrument.copy_stall_s,
        what=folder / raw_file.id,
    )
    result = _copy(services, raw_file, target, on_progress, root=root)
    for name, recorded in raw_file.file_info.items():
        fact = result.facts[name]
        if not recorded.holds(fact):
            found = f"{fact.in_words()} in what was copied out"
            raise damaged(folder / name, recorded.in_words(), found)
    return result


def _require_folder(target: Path) -> None:
    try:
        found = None if stat.S_ISDIR(os.stat(target).st_mode) else "not a folder"
    except (FileNotFoundError, NotADirectoryError):
        found = "not a folder"
    except OSError as error:
        found = error.strerror or str(error)
    if found is not None:
        raise refused(target, found, "create it; what isn't mounted is never made up.")


def _require_outside(target: Path, backup: Path) -> None:
    """In the backup store it would be an entry that no record knows."""
    if target.resolve().is_relative_to(backup.resolve()):
        raise refused(target, "a folder of the backup store", "name a folder outside of it.")


def _copy(
    services: Services,
    raw_file: RawFile,
    target: Path,
    on_progress: Callable[[Progress], None],
    *,
    root: Path,
) -> CopyResult:
    instrument = services.instrument(raw_file.instrument_id)
    names = sorted(raw_file.file_info)
    plan = CopyPlan(
        source_folder=services.backup_folder(raw_file, root),
        target_folder=target,
        members={name: name for name in names},
        target_top=raw_file.id,
        is_folder=services.rules(raw_file.instrument_id).is_folder,
        threads=instrument.copy_threads,
        stall_s=instrument.copy_stall_s,
        digests={name: fact.kind for name, fact in raw_file.file_info.items() if fact.kind},
    )
    try:
        return copy_members(
            plan, list_members=lambda: names, still_ours=lambda: True, on_progress=on_progress
        )
    except _COPYING as error:  # whose words are those of a backup that is made
        what = "The folder refuses" if isinstance(error, BackupUnwritable) else error.what
        found = f"{what}: {error.found}" if error.found else what
        raise refused(
            target / raw_file.id,
            found,
            "see that you may write there, that there is space, and that nothing else has this "
            "name; what is there already "
            "is taken as it is the next time, if it is the same.",
        ) from error


def refused(path: Path, found: str, next_step: str) -> RestoreRefused:
    return RestoreRefused(
        "The backup can't be copied out to there", file=path, found=found, next_step=next_step
    )
