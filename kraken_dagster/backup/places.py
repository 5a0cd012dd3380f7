"""Whose backup stands under a name, and a folder of its own for a file whose name is taken.

Two raw file ids may be one name on the backup store: `A.raw` and `a.raw` where it tells no case
apart, or two ways to write an accent. Ids are exact and never change, and the store may be another
one tomorrow; so the second file keeps its id, and its backup gets a folder of its own beside the
first one's: `<YYYY_MM>/<its collision id>/<its id>`, recorded in `backup_base_path`. What is
another record's backup is never set aside.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from kraken_dagster.backup.copying.staging import remove_dead_copy
from kraken_dagster.fs.digests import exists, target_errors
from kraken_dagster.fs.stores.manifest import manifest_names
from kraken_dagster.fs.stores.roots import shown
from kraken_dagster.fs.timeouts import bounded
from kraken_dagster.model.errors import BackupConflict
from kraken_dagster.model.files.names import folded, is_same_entry
from kraken_dagster.model.raw_file import BACKUP_UNDER_WAY, RawFile
from kraken_dagster.runtime.leases import Held
from kraken_dagster.runtime.services import Services


def settle_place(services: Services, held: Held, targets: Iterable[str], *, root: Path) -> None:
    """Records a folder of its own for a backup of which a name is taken by another record's.

    Args:
        targets: the members' places below the file's folder in the backup.
    """
    raw_file = held.raw_file
    owner = owner_of(services, raw_file, targets, root=root)
    if owner is None:
        return
    base = f"{services.backup_base_path(raw_file)}/{services.own_name(raw_file)}"
    held.raw_file = services.store.raw_files.update(
        raw_file,
        {"backup_base_path": base},
        now=services.now(),
        note=f"on the backup store its name is that of {owner.id!a}, whose backup stays as it is; "
        "so its own has a folder of its own",
        run_id=held.run_id,
    )


def clear_away(services: Services, raw_file: RawFile, *, root: Path) -> None:
    """Removes what dead copies left of a file that is not on the instrument any more."""
    folder = services.backup_folder(raw_file, root)
    rules = services.rules(raw_file.instrument_id)
    tops = {raw_file.id} | manifest_names(raw_file.id)
    tops |= {name.split("/")[0] for name in raw_file.file_info}
    if rules.has_companions:
        stem = rules.stem(raw_file.id)
        tops |= {stem + ending for ending in rules.companions}

    def clear() -> None:
        for name in tops:
            with suppress(OSError):  # the store's own trouble, which is told where it matters
                remove_dead_copy(folder / name)

    stall_s = services.instrument(raw_file.instrument_id).copy_stall_s
    bounded(clear, timeout_s=stall_s, what=shown(folder))


def owner_of(
    services: Services, raw_file: RawFile, targets: Iterable[str], *, root: Path
) -> RawFile | None:
    """The other raw file whose recorded backup stands under one of this one's names."""
    folder = services.backup_folder(raw_file, root)
    names = {target.split("/")[0] for target in targets} | manifest_names(raw_file.id)
    stall_s = services.instrument(raw_file.instrument_id).copy_stall_s

    def scan() -> tuple[list[str], set[str]]:
        with target_errors(folder):
            taken = [name for name in sorted(names) if exists(folder / name)]
            return taken, set(os.listdir(folder)) if taken else set()

    taken, listed = bounded(scan, timeout_s=stall_s, what=shown(folder))
    if not taken:
        return None

    def is_theirs(other: RawFile) -> bool:
        with target_errors(folder):
            return any(
                is_same_entry(ours, theirs, listed) and exists(folder / theirs)
                for theirs in _names_of(other)
                for ours in taken
            )

    for other in _with_backup_in(services, raw_file, folder, root, _spelled(folder, taken, listed)):
        if bounded(partial(is_theirs, other), timeout_s=stall_s, what=shown(folder)):
            return other
    return None


@contextmanager
def others_kept(
    services: Services, raw_file: RawFile, targets: Iterable[str], *, root: Path
) -> Iterator[Callable[[], None]]:
    """Yields what is to be asked before anything is set aside, and names whose a conflict is."""
    names = list(targets)

    def ask() -> None:
        _refuse_others(services, raw_file, names, root=root)

    try:
        yield ask
    except BackupConflict:
        ask()
        raise


def _refuse_others(
    services: Services, raw_file: RawFile, targets: Iterable[str], *, root: Path
) -> None:
    """
    Raises:
        BackupConflict: what stands there is another raw file's backup.
    """
    owner = owner_of(services, raw_file, targets, root=root)
    if owner is not None:
        raise BackupConflict(
            "On the backup store this file's name is that of another one's backup, which stays "
            "as it is",
            file=shown(services.backup_folder(raw_file, root)) / raw_file.id,
            found=f"the backup of {owner.id!r}",
            next_step="nothing: at the next try it gets a folder of its own, by itself.",
        )


def _names_of(other: RawFile) -> set[str]:
    names = {name.split("/")[0] for name in other.file_info}
    return names | {other.id} | manifest_names(other.id)


def _spelled(folder: Path, taken: list[str], listed: set[str]) -> set[str]:
    """Names in the folder of what stands there under ours, where no rule of ours explains it.

    For a store that takes names for one in some way of its own: both have one inode.
    """
    folds = {folded(name) for name in listed}
    found = set()
    for name in taken:
        if name in listed or folded(name) in folds:
            continue
        with target_errors(folder):
            inode = os.lstat(folder / name).st_ino
            found |= {item for item in listed if os.lstat(folder / item).st_ino == inode}
    return found


def _with_backup_in(
    services: Services, raw_file: RawFile, folder: Path, root: Path, also: set[str]
) -> list[RawFile]:
    """The other files of which a backup in this folder is recorded, and whose names may be ours."""
    rules = services.rules(raw_file.instrument_id)
    ours = folded(raw_file.id)[: -len(rules.extension)]

    def may_be(file_id: str) -> bool:
        """A companion's name begins with a stem, so one stem may begin with another."""
        theirs = folded(file_id)[: -len(rules.extension)]
        return ours.startswith(theirs) or theirs.startswith(ours)

    ids = services.store.raw_files.ids_of_month(raw_file.filing_id, raw_file.year_month)
    wanted = [item for item in {*ids, *also} - {raw_file.id} if may_be(item) or item in also]
    found = services.store.raw_files.many(wanted)
    return [
        other
        for other in found.values()
        if other.filing_id == raw_file.filing_id
        and services.backup_folder(other, root) == folder
        and _claims(other, raw_file)
    ]


def _claims(other: RawFile, raw_file: RawFile) -> bool:
    """Whether a backup of it is recorded, or is being made while none of ours is recorded."""
    return bool(other.file_info) or (not raw_file.file_info and other.status in BACKUP_UNDER_WAY)
