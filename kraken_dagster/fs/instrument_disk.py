"""Renames and deletes on an instrument's disk: the only module that changes anything there.

Everything goes through handles of open folders (`fs/dir_handles.py`).
"""

import ctypes
import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kraken_dagster.fs.digests import refuse_limit
from kraken_dagster.fs.dir_handles import Folder, Seen, one_name
from kraken_dagster.fs.private import share_folder
from kraken_dagster.model.errors import (
    FolderMissing,
    FolderUnreadable,
    InstrumentBusy,
    UnsafePath,
)
from kraken_dagster.model.files.folder import Kind
from kraken_dagster.model.files.vendors import BACKUP_FOLDER_NAME, deleteme_name

_RENAME_NOREPLACE = 1
NO_SUCH_FLAG = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_NOT_WHAT_IT_WAS = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EISDIR})

# Renames from a folder's handle and a name to another's; 0, or the error number.
KernelRename = Callable[[int, bytes, int, bytes], int]


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
                next_step="see what stands there, and who put it there. "
                "It is looked at again by itself.",
            ) from error
        refuse_limit(path, error)
        raise InstrumentBusy(
            "The instrument doesn't allow it",
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
    """Opens the folder with the files that were moved aside.

    Raises:
        FolderMissing: there is none. Files were put there, so it is the share that is away.
        FolderUnreadable: a link, or no folder, or on another disk. That is the instrument's trouble
            and not that of a file.
    """
    path = instrument.path / BACKUP_FOLDER_NAME
    with instrument_errors(path):
        seen = instrument.stat(BACKUP_FOLDER_NAME)
        if seen is None:
            raise _away(path, "The folder of the files that were moved aside is not there")
        if seen.kind is not Kind.FOLDER:
            raise FolderUnreadable(
                "A link, or a file in place of a folder, and those are never followed",
                file=path,
                found=seen.kind,
                next_step="see what stands there, and who put it there; tried again by itself.",
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


def make_folder(folder: Folder, name: str) -> None:
    """Creates a folder where nothing has that name."""
    with suppress(FileExistsError):
        os.mkdir(one_name(name), dir_fd=folder.handle)
        share_folder(name, inside=folder.handle)
        fsync(folder)


def renameat2(old: int, old_name: bytes, new: int, new_name: bytes) -> int:
    """The kernel's own rename that replaces nothing, which SMB mounts know too."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:  # a C library without it
        return errno.ENOSYS
    arguments = (old, ctypes.c_char_p(old_name), new, ctypes.c_char_p(new_name))
    done = call(*arguments, ctypes.c_uint(_RENAME_NOREPLACE))
    return 0 if done == 0 else ctypes.get_errno()


def rename(
    folder: Folder,
    name: str,
    target: Folder,
    target_name: str,
    *,
    kernel: KernelRename = renameat2,
) -> None:
    """Renames without replacing anything.

    Where the kernel or the file system has no such rename, this looks first and then renames. It
    does not promise then that what comes to stand at the target in that instant is not replaced;
    the file's lease keeps other Krakens away, not the instrument's own software.

    Raises:
        FileExistsError: something has the target's name.
        OSError
    """
    old, new = os.fsencode(one_name(name)), os.fsencode(one_name(target_name))
    number = kernel(folder.handle, old, target.handle, new)
    if number in NO_SUCH_FLAG:
        if target.stat(target_name) is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target_name)
        os.rename(old, new, src_dir_fd=folder.handle, dst_dir_fd=target.handle)
    elif number != 0:
        raise OSError(number, os.strerror(number), target_name)
    fsync(target)
    if target.handle != folder.handle:
        fsync(folder)


def rename_to_delete(folder: Folder, name: str, *, kernel: KernelRename = renameat2) -> str:
    """Renames to the first `name.deleteme`, `name.deleteme.2`, ... that is free; returns it."""
    number = 1
    while True:
        wanted = deleteme_name(name, number)
        if folder.stat(wanted) is None:
            with suppress(FileExistsError):  # it came to stand there this very moment
                rename(folder, name, folder, wanted, kernel=kernel)
                return wanted
        number += 1


def make_writable(folder: Folder) -> None:
    """So that what is in it can be deleted; Bruker's software makes method folders read-only."""
    seen = folder.itself()
    if not seen.mode & stat.S_IWUSR:
        with suppress(OSError):  # the deletion itself shows whether it can be done without
            os.fchmod(folder.handle, seen.mode | stat.S_IWUSR)


def unlink(folder: Folder, name: str) -> None:
    os.unlink(one_name(name), dir_fd=folder.handle)


@contextmanager
def passing_folder(folder: Folder, name: str) -> Iterator[None]:
    """An empty folder that is there while the block runs, unless the disk is too full for one.

    One that a killed run left behind is taken, and only an empty one is ever removed.
    """
    try:
        os.mkdir(one_name(name), dir_fd=folder.handle)
    except OSError as error:
        if error.errno not in _NO_ROOM | {errno.EEXIST}:
            raise
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            os.rmdir(name, dir_fd=folder.handle)


def remove_empty(folder: Folder, name: str, expected: Seen) -> None:
    """Removes a folder that is still the one that was seen, and empty.

    Raises:
        UnsafePath: it is another one.
        OSError: it isn't empty.
    """
    seen = folder.stat(name)
    if seen is None:
        return
    if not expected.is_same_folder(seen):
        raise UnsafePath(
            "The folder is not the one that was looked at a moment before",
            file=folder.path / name,
            next_step="see who changes files there. It is looked at again by itself.",
        )
    os.rmdir(one_name(name), dir_fd=folder.handle)


def fsync(folder: Folder) -> None:
    with suppress(OSError):  # some network file systems can't, and have nothing to lose by it
        os.fsync(folder.handle)
