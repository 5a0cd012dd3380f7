"""Reads what programs left in a result folder, which may be anything: pipes, links, huge files."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from kraken_dagster.fs.dir_handles import Folder, one_name
from kraken_dagster.model.errors import OutputUnreadable
from kraken_dagster.model.errors.kinds import Kind, kind_of_errno

_TROUBLE = (Kind.AWAY, Kind.BUSY, Kind.ACCESS, Kind.DEVICE, Kind.SHORT)


@contextmanager
def opened_below(folder: Path, path: Path) -> Iterator[BinaryIO]:
    """A plain file below the folder, which no link may lead out of.

    It is opened step by step from the folder, which may be reached through an open root: a link is
    resolved to tell where it leads, and what is opened is what stands there in that very folder.

    Raises:
        FileNotFoundError: there is none such.
        OSError
    """
    base = os.path.realpath(folder)
    plain = path.parent == folder and not path.is_symlink()
    real = Path(base, path.name) if plain else Path(os.path.realpath(path))
    if not real.is_relative_to(base) or real == Path(base):
        raise FileNotFoundError(path)
    parent = real.parent.relative_to(base).as_posix()
    # a pipe without a writer would block
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with Folder.open(folder) as root, root.below("" if parent == "." else parent) as opened:
        handle = os.open(one_name(real.name), flags, dir_fd=opened.handle)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise FileNotFoundError(path)
    with os.fdopen(handle, "rb") as file:
        yield file


def read_text(folder: Path, name: str, *, limit: int) -> str:
    """The first `limit` bytes of a file in a result folder; empty if there is no such file.

    Raises:
        OutputUnreadable: nothing is known of it.
    """
    try:
        with opened_below(folder, folder / name) as file:
            return file.read(limit).decode(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        if not is_share_failure(error):
            return ""
        raise unreadable(folder / name, error) from error


def is_share_failure(error: OSError) -> bool:
    """Whether nothing is known of a result, as its share or disk gives an error.

    Not where what stands there is no plain file, and not what a library says of its content.
    """
    return error.errno not in (None, errno.ENXIO) and kind_of_errno(error.errno) in _TROUBLE


def is_away(error: OSError) -> bool:
    """The same, without a missing right, which may be the program's own doing."""
    return is_share_failure(error) and kind_of_errno(error.errno) in (Kind.AWAY, Kind.DEVICE)


def unreadable(path: Path, error: OSError) -> OutputUnreadable:
    return OutputUnreadable(
        "The output store gives an error, so nothing is known of the result",
        file=path,
        found=error.strerror or error,
        next_step="check that it is mounted, its disk, and the rights of Kraken's user; tried "
        "again by itself.",
    )


def is_below(folder: Path, path: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
