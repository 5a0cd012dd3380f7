"""Opens an instrument's folder, and says what is wrong with it. Nothing is changed there."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kraken_dagster.fs.digests import refuse_limit
from kraken_dagster.fs.dir_handles import Folder
from kraken_dagster.model.errors import (
    FolderMissing,
    FolderUnreadable,
    InstrumentBusy,
    UnsafePath,
)
from kraken_dagster.model.files.folder import Kind
from kraken_dagster.model.files.vendors import BACKUP_FOLDER_NAME

_NOT_WHAT_IT_WAS = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EISDIR})


@contextmanager
def instrument_errors(path: Path) -> Iterator[None]:
    """What the operating system says while something is changed, as the project's own errors."""
    try:
        yield
    except OSError as error:
        if error.errno in _NOT_WHAT_IT_WAS:
            raise UnsafePath(
                "Not what it was a moment before: a link, or a file in place of a folder",
                file=path,
                found=error.strerror,
                next_step="find out what is there, and who put it there. "
                "It is scanned again by itself.",
            ) from error
        refuse_limit(path, error)
        raise InstrumentBusy(
            "The instrument's file system refuses it",
            file=path,
            found=error.strerror or error,
            next_step="it may be open in the acquisition software; tried again by itself. Check "
            "the rights of Kraken's user if this goes on.",
        ) from error


def open_instrument(path: Path) -> Folder:
    """Opens an instrument's folder.

    Raises:
        FolderMissing, FolderUnreadable
    """
    try:
        return Folder.open(path)
    except FileNotFoundError as error:
        raise _away(path, "The instrument's folder is not there") from error
    except OSError as error:
        raise FolderUnreadable(
            "The instrument's folder can't be opened",
            file=path,
            found=error.strerror,
            next_step="check that the instrument's PC and its share are up, and the mount.",
        ) from error


def open_archive_folder(instrument: Folder) -> Folder:
    """Opens the folder with the files that were archived.

    Raises:
        FolderMissing: there is none. Files were put there, so it is the share that is away.
        FolderUnreadable: a link, or no folder, or on another disk. That is the instrument's trouble
            and not that of a file.
    """
    path = instrument.path / BACKUP_FOLDER_NAME
    with instrument_errors(path):
        seen = instrument.stat(BACKUP_FOLDER_NAME)
        if seen is None:
            raise _away(path, "The folder of the files that were archived is not there")
        if seen.kind is not Kind.FOLDER:
            raise FolderUnreadable(
                "A link, or a file in place of a folder, and those are never followed",
                file=path,
                found=seen.kind,
                next_step="find out what is there, and who put it there; tried again by itself.",
            )
        if seen.device != instrument.itself().device:
            raise FolderUnreadable(
                "`Backup` is on another disk, and a file is renamed and never copied",
                file=path,
                next_step="unmount what is mounted there; tried again by itself.",
            )
        return instrument.sub(BACKUP_FOLDER_NAME)


def require_mounted(instrument: Folder) -> None:
    """An empty folder is taken for one on which nothing is mounted.

    Raises:
        FolderMissing
    """
    with instrument_errors(instrument.path):
        if not instrument.names():
            raise _away(instrument.path, "The instrument's folder is empty")


def _away(path: Path, what: str) -> FolderMissing:
    return FolderMissing(
        what,
        file=path,
        next_step="mount the instrument's share, or correct `path` in instruments.yaml; tried "
        "again by itself.",
    )


def free_bytes(instrument: Folder) -> int:
    with instrument_errors(instrument.path):
        facts = os.fstatvfs(instrument.handle)
    return facts.f_bavail * facts.f_frsize
