"""A store's marker on the disk: read and written through the handle of its folder."""

import os
import stat
from contextlib import suppress
from pathlib import Path

from kraken_dagster.fs.attributes import Refusals, flush
from kraken_dagster.fs.private import share
from kraken_dagster.fs.stores.marker import MARKER_BYTES, MARKER_NAME, Role, parse_marker


def read_marker(path: Path) -> dict[Role, str]:
    """The ids in the marker of the folder at `path`; none where there is none.

    Raises:
        OSError
    """
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return marker_of(handle)
    finally:
        os.close(handle)


def write_marker(path: Path, text: str) -> None:
    """Puts a marker into a folder, whole or not at all; one that is there is replaced.

    Raises:
        OSError
    """
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    part = f"{MARKER_NAME}.part"
    try:
        with suppress(FileNotFoundError):
            os.unlink(part, dir_fd=folder)
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=folder)
        try:
            os.write(handle, text.encode())
            share(handle, is_folder=False)  # jobs look for it, on the cluster too
            flush(handle, Refusals())
        finally:
            os.close(handle)
        os.rename(part, MARKER_NAME, src_dir_fd=folder, dst_dir_fd=folder)
        with suppress(OSError):  # some network file systems can't, and have nothing to lose by it
            os.fsync(folder)
    finally:
        os.close(folder)


def marker_of(folder: int) -> dict[Role, str]:
    """What the marker says that is reached through the handle of a folder.

    A link, a pipe or a long file is no marker.

    Raises:
        OSError
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        facts = os.stat(MARKER_NAME, dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > MARKER_BYTES:
            return {}
        handle = os.open(MARKER_NAME, flags, dir_fd=folder)
    except FileNotFoundError:
        return {}
    try:
        return parse_marker(os.read(handle, MARKER_BYTES).decode("ascii", "replace"))
    finally:
        os.close(handle)
