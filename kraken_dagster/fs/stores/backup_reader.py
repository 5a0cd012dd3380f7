"""Reads a backup, file by file, and compares it with its record."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kraken_dagster.fs.digests import target_errors
from kraken_dagster.fs.dir_handles import Folder, Seen
from kraken_dagster.model.errors import BackupDamaged, BackupUnwritable
from kraken_dagster.model.files.folder import Kind
from kraken_dagster.model.files.vendors import safe_relative
from kraken_dagster.model.raw_file import FileFact


def require_store(root: Path, instrument_id: str) -> None:
    """Raises BackupUnwritable where a part of the store is away: then nothing is known of a backup.

    A store has the instrument's folder, with something in it; that may be a mount of its own.
    """
    folder = root / instrument_id
    with target_errors(folder):
        if not folder.is_dir() or next(folder.iterdir(), None) is None:
            raise BackupUnwritable(
                "The backup store is not there, or has nothing of this instrument",
                file=folder,
                next_step="mount it. If the backups are lost, `kraken verify --all` names them.",
            )


@dataclass(frozen=True)
class Backup:
    """The open folder that holds a month's backups under their ids; None where there is none."""

    opened: Folder | None
    path: Path

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> "Iterator[Backup]":
        with target_errors(path):
            try:
                folder = Folder.open(path)
            except FileNotFoundError:
                folder = None
        if folder is None:
            yield cls(None, path)
            return
        with folder:
            yield cls(folder, path)

    @property
    def folder(self) -> Folder:
        """Raises BackupUnwritable where it is missing: a part of the store is away, and that says
        nothing of any backup in it."""
        if self.opened is None:
            raise BackupUnwritable(
                "The folder of this backup and others is not there",
                file=self.path,
                next_step="see what became of it: it may be another disk that isn't mounted. If "
                "it is lost, that is the news. Tried again by itself.",
            )
        return self.opened

    def require_size(self, name: str, recorded: FileFact) -> Seen:
        """The file's identity.

        Raises:
            BackupUnwritable: the folder that it is to be in is missing.
            BackupDamaged: it is missing, no plain file, or of another size.
        """
        with target_errors(self.path / name):
            seen = self.folder.scan_below(name)
        expected = recorded.in_words()
        if seen is None:
            raise damaged(self.path / name, expected, "no file")
        if seen.kind is not Kind.FILE:
            raise damaged(self.path / name, expected, f"a {seen.kind}")
        if seen.size != recorded.size:
            raise damaged(self.path / name, expected, f"{seen.size} bytes")
        return seen


def read_backup(
    backup: Backup,
    name: str,
    recorded: FileFact,
    *,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> tuple[Seen, FileFact]:
    """Every byte of one file of a backup, past the page cache, compared with the record.

    Raises:
        BackupDamaged
        BackupUnwritable: it can't be read.
    """
    backup.require_size(name, recorded)
    with target_errors(backup.path / name):
        read, fact = backup.folder.read(name, second=recorded.kind, on_bytes=on_bytes)
    if not recorded.holds(fact):
        raise damaged(backup.path / name, recorded.in_words(), fact.in_words())
    return read, fact


def require_sizes(folder: Path, recorded: Mapping[str, FileFact]) -> None:
    """
    Raises:
        BackupDamaged: a file is missing, no plain file, or of another size.
        BackupUnwritable
    """
    with Backup.open(folder) as backup:
        for name, fact in recorded.items():
            safe_relative(name)
            backup.require_size(name, fact)


def read_all(
    folder: Path,
    recorded: Mapping[str, FileFact],
    *,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> dict[str, FileFact]:
    """Every byte of a backup, compared with the record; the sizes of all its files first.

    Raises:
        BackupDamaged, BackupUnwritable
    """
    with Backup.open(folder) as backup:
        for name, fact in recorded.items():
            safe_relative(name)
            backup.require_size(name, fact)
        return {
            name: read_backup(backup, name, fact, on_bytes=on_bytes)[1]
            for name, fact in recorded.items()
        }


def damaged(path: Path, expected: str, found: str) -> BackupDamaged:
    return BackupDamaged(
        "The backup is not what was recorded",
        file=path,
        expected=expected,
        found=found,
        next_step="find out what damaged it. If the instrument still has the file, "
        "`kraken retry` copies it again; a damaged file that is in the way is set aside "
        "with backup_overwrite_file_id.",
    )
