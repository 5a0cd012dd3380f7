"""Deletes a raw file that was archived on its instrument. The one place that destroys data.

Three steps, which are read in this order:

1. `surveying.survey` lists what stands there. Anything that the record doesn't have, a link, a
   name in another case: refused.
2. `prove` reads every byte on the instrument and in the backup, and compares both with each other
   and with the record. One file that differs: refused, all of it.
3. `delete` deletes the files of that proof one by one, each looked at once more right before, and
   then the folders, as far as they are empty. What systems and programs leave there
   (`model/files/debris.py`) is never deleted, and its folder stays.

What is not promised: a file that is replaced between that last look and its deletion, a few
microseconds, is deleted in place of the proven one.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from kraken_dagster.fs.digests import target_errors
from kraken_dagster.fs.dir_handles import Folder, Seen, fsync
from kraken_dagster.fs.instrument_folder import (
    instrument_errors,
    open_archive_folder,
    open_instrument,
)
from kraken_dagster.fs.stores.backup_reader import Backup, read_backup
from kraken_dagster.fs.stores.roots import shown
from kraken_dagster.model.errors import LeaseLost
from kraken_dagster.model.raw_file import FileFact
from kraken_dagster.model.retention.rules import ReadBack, may_purge
from kraken_dagster.retention.instrument_disk import (
    make_writable,
    passing_folder,
    remove_empty,
    unlink,
)
from kraken_dagster.retention.survey import Survey, Target, refused


@dataclass(frozen=True)
class Proven:
    """A file on the instrument and its backup, as they were while every byte was compared."""

    on_instrument: Seen
    in_backup: Seen
    fact: FileFact


@dataclass(frozen=True)
class Proof:
    """All members are what was recorded of them, here (unless they are gone) and in the backup."""

    files: Mapping[str, Proven]
    folders: Mapping[str, Seen]
    gone: tuple[str, ...]
    stay: tuple[str, ...] = ()  # folders with debris in them

    @property
    def size_bytes(self) -> int:
        return sum(item.on_instrument.size for item in self.files.values())


def prove(
    target: Target, found: Survey, *, on_bytes: Callable[[int], None] = lambda _: None
) -> Proof:
    """Reads every member on both sides, past the page cache, and compares.

    Raises:
        PurgeRefused: the instrument's side differs.
        BackupDamaged: the backup is not what was recorded.
        BackupUnwritable: the backup can't be read, which says nothing about it.
        FolderError, InstrumentBusy: the instrument's side can't be read.
    """
    with _both_sides(target) as sides:
        for name, recorded in target.recorded.items():  # nothing is read where a size is wrong
            sides.backup.require_size(name, recorded)
        files = {
            name: _prove_one(sides, name, surveyed, on_bytes)
            for name, surveyed in sorted(found.files.items())
        }
        for name in found.gone:  # of these too the backup must be whole
            read_backup(sides.backup, name, target.recorded[name], on_bytes=on_bytes)
    stay = tuple(path for path in found.folders if found.stays(path))
    return Proof(files, found.folders, found.gone, stay)


@dataclass(frozen=True)
class _Sides:
    target: Target
    aside: Folder
    backup: Backup


@contextmanager
def _both_sides(target: Target) -> Iterator[_Sides]:
    with (
        open_instrument(target.instrument_folder) as root,
        open_archive_folder(root) as aside,
        Backup.open(target.backup_folder) as backup,
    ):
        yield _Sides(target, aside, backup)


def _prove_one(sides: _Sides, name: str, surveyed: Seen, on_bytes: Callable[[int], None]) -> Proven:
    recorded = sides.target.recorded[name]
    there, kept = read_backup(sides.backup, name, recorded, on_bytes=on_bytes)
    with instrument_errors(sides.aside.path / name):
        here, fact = sides.aside.read(name, second=recorded.kind, on_bytes=on_bytes)
    if here.is_one_file_with(there):
        what = "The file on the instrument and its backup are one file"
        raise refused(sides.target, what, name)
    proven = may_purge(
        instrument=_read_back(fact), backup=_read_back(kept), recorded=recorded, hash_check=True
    )
    if not proven or not surveyed.is_unchanged(here):
        raise refused(
            sides.target,
            "The file on the instrument is not what was backed up",
            name,
            expected=f"{recorded.in_words()}, and unchanged meanwhile",
            found=fact.in_words(),
        )
    return Proven(here, there, recorded)


def _read_back(fact: FileFact) -> ReadBack | None:
    return None if fact.size is None else ReadBack(fact.size, fact.md5, fact.second)


def delete(
    target: Target,
    proof: Proof,
    *,
    may_go_on: Callable[[], bool],
    on_deleted: Callable[[int], None] = lambda _: None,
) -> int:
    """Deletes what was proven, file by file, then the folders that are empty; the bytes freed.

    Args:
        may_go_on: whether this process still holds the file's lease; asked before each deletion.
        on_deleted: called after each deletion with the bytes that it freed.

    Raises:
        PurgeRefused, UnsafePath: something changed since the proof. What was deleted until then
            was proven.
        InstrumentBusy: the instrument doesn't allow it.
        LeaseLost
    """
    freed = 0
    with _both_sides(target) as sides:
        if proof.files:
            _refuse_one_folder(sides, may_go_on)
        for name, item in sorted(proof.files.items()):
            with instrument_errors(sides.aside.path / name):
                _delete_one(sides, name, proof, may_go_on)
            freed += item.on_instrument.size
            on_deleted(item.on_instrument.size)
        with instrument_errors(sides.aside.path / target.raw_file_id):
            empty = proof.folders.keys() - set(proof.stay)
            for path in sorted(empty, key=lambda path: (-path.count("/"), path)):
                _delete_folder(sides, path, proof, may_go_on)
                on_deleted(0)
            fsync(sides.aside)
    return freed


def _refuse_one_folder(sides: _Sides, may_go_on: Callable[[], bool]) -> None:
    """What comes to stand in `Backup` must not be seen where the backup is, by whatever mounts."""
    target = sides.target
    name = f".kraken-{hashlib.sha256(target.raw_file_id.encode()).hexdigest()}"
    _require(may_go_on, target)
    with (
        instrument_errors(sides.aside.path / name),
        passing_folder(sides.aside, name),
        target_errors(sides.backup.path),
    ):
        seen = sides.backup.folder.stat(name)
    if seen is not None:
        what = "`Backup` on the instrument and the folder of the backup are one folder"
        raise refused(target, what, shown(sides.backup.path))


def _delete_one(sides: _Sides, name: str, proof: Proof, may_go_on: Callable[[], bool]) -> None:
    parent, _, own_name = name.rpartition("/")
    proven = proof.files[name]
    with sides.aside.below(parent) as folder:
        if parent:  # `Backup` itself is not ours to change
            if not proof.folders[parent].is_same_folder(folder.itself()):
                what = "The folder is another one than a moment before"
                raise refused(sides.target, what, parent)
            make_writable(folder)
        with target_errors(sides.backup.path / name):
            in_backup = sides.backup.folder.scan_below(name)
        if not proven.in_backup.is_unchanged(in_backup):
            raise refused(sides.target, "The backup changed after it was read", name)
        if not proven.on_instrument.is_unchanged(folder.stat(own_name)):
            raise refused(sides.target, "The file changed after it was read", name)
        _require(may_go_on, sides.target)
        unlink(folder, own_name)
        fsync(folder)


def _delete_folder(sides: _Sides, path: str, proof: Proof, may_go_on: Callable[[], bool]) -> None:
    parent, _, own_name = path.rpartition("/")
    with sides.aside.below(parent) as folder:
        if parent:
            make_writable(folder)
        _require(may_go_on, sides.target)
        remove_empty(folder, own_name, proof.folders[path])


def _require(may_go_on: Callable[[], bool], target: Target) -> None:
    if not may_go_on():
        raise LeaseLost(
            "This run may not be the only one that works on the file, and stops",
            file=target.raw_file_id,
            next_step="nothing: what is missing is done by another run.",
        )
