"""The source of a backup: its members as they stand, and whether it still changes."""

import os
import stat
from pathlib import Path

from kraken_dagster.config.instruments import InstrumentEntry
from kraken_dagster.fs.digests import (
    exists,
    identity,
    names_of_files,
    source_errors,
    walk_members,
)
from kraken_dagster.fs.timeouts import bounded
from kraken_dagster.model.errors import SourceChanged, SourceMissing
from kraken_dagster.model.files.vendors import (
    BACKUP_FOLDER_NAME,
    RULES,
    VendorRules,
    backup_mapping,
)
from kraken_dagster.model.raw_file import InstrumentFileStatus, RawFile
from kraken_dagster.runtime.leases import Held
from kraken_dagster.runtime.services import Services


def source_of(services: Services, raw_file: RawFile) -> tuple[Path, str]:
    """The folder in which the raw file stands on its instrument, and its name there."""
    folder = services.instrument_folder(raw_file.instrument_id)
    if raw_file.instrument_file_status is InstrumentFileStatus.MOVED:
        return folder / BACKUP_FOLDER_NAME, raw_file.id
    return folder, raw_file.original_name


def refuse_grown(services: Services, held: Held, members: list[str]) -> None:
    """What changed since its acquisition was judged over must stand still until the next try."""
    raw_file = held.raw_file
    folder, own_name = source_of(services, raw_file)
    main = services.rules(raw_file.instrument_id).main_file_among(own_name, members)
    # Of an acquisition with companions the scan saw all files, of a folder the main file.
    companions = services.rules(raw_file.instrument_id).has_companions
    key = "ended_total" if companions else "ended_size"
    expected = raw_file.acquisition.get(key)
    if expected is None or main is None:
        return
    watched = members if companions else [main]
    path = folder / main
    stall_s = services.instrument(raw_file.instrument_id).copy_stall_s
    size = bounded(
        lambda: sum(identity(folder / name).size for name in watched), timeout_s=stall_s, what=path
    )
    if size != expected:
        services.store.raw_files.update(
            raw_file,
            {f"acquisition.{key}": size},
            now=services.now(),
            note=f"went from {expected} to {size} bytes after the acquisition had ended",
            run_id=held.run_id,
        )
        raise SourceChanged(
            "The file changed after its acquisition had ended",
            file=path,
            expected=f"{expected} bytes",
            found=f"{size} bytes",
            next_step="nothing: it is copied as soon as it stands still between two tries.",
        )


def main_file_stands(folder: Path, name: str, rules: VendorRules) -> bool:
    """Whether the raw file `name` has its main file; SourceUnreadable where that can't be known."""
    top = folder / name
    with source_errors(top):
        if not rules.is_folder or not exists(top):
            return exists(top)
        if not stat.S_ISDIR(os.lstat(top).st_mode):
            return False
        main = rules.main_file_among(name, [f"{name}/{item}" for item in os.listdir(top)])
        return main is not None and stat.S_ISREG(os.lstat(folder / main).st_mode)


def members_of(services: Services, raw_file: RawFile, instrument: InstrumentEntry) -> list[str]:
    """The raw file's members, relative to the folder it stands in, as they are right now."""
    folder, name = source_of(services, raw_file)
    if not RULES[instrument.type].has_companions:
        return walk_members(folder, name)
    names = names_of_files(folder, RULES[instrument.type].stem(name))
    if name not in names:
        raise SourceMissing(
            "The file is not on the instrument (any more)",
            file=folder / name,
            next_step="find out who moved or deleted it; if it comes back it is backed up.",
        )
    return list(backup_mapping(instrument.type, name, name, names))
