"""Reads what programs left in a result folder, which may be anything: pipes, links, huge files."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def opened_below(folder: Path, path: Path) -> Iterator[BinaryIO]:
    """A plain file below the folder, which no link may lead out of.

    Raises:
        FileNotFoundError: there is none such.
        OSError
    """
    base = os.path.realpath(folder)
    plain = path.parent == folder and not path.is_symlink()
    real = os.path.join(base, path.name) if plain else os.path.realpath(path)
    if not Path(real).is_relative_to(base):
        raise FileNotFoundError(path)
    # a pipe without a writer would block
    handle = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise FileNotFoundError(path)
    with os.fdopen(handle, "rb") as file:
        yield file


def read_text(folder: Path, name: str, *, limit: int) -> str:
    """The first `limit` bytes of a file in a result folder; empty if there is no such file."""
    try:
        with opened_below(folder, folder / name) as file:
            return file.read(limit).decode(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return ""


def is_below(folder: Path, path: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
