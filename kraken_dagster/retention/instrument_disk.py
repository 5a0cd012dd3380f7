"""Renames and deletes on an instrument's disk: the only module that changes anything there.

Everything goes through handles of open folders (`fs/dir_handles.py`).
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from kraken_dagster.fs.dir_handles import (
    Folder,
    KernelRename,
    Seen,
    fsync,
    one_name,
    rename,
    renameat2,
)
from kraken_dagster.fs.private import share_folder
from kraken_dagster.model.errors import UnsafePath
from kraken_dagster.model.files.vendors import deleteme_name

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


def make_folder(folder: Folder, name: str) -> None:
    """Creates a folder where nothing has that name."""
    with suppress(FileExistsError):
        os.mkdir(one_name(name), dir_fd=folder.handle)
        share_folder(name, inside=folder.handle)
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
            next_step="see who changes files there. It is scanned again by itself.",
        )
    os.rmdir(one_name(name), dir_fd=folder.handle)
