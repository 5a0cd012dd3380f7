"""Reads what a disk has, past the page cache: by O_DIRECT where the file system can, else after the
cached pages were dropped.
"""

import errno
import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def open_uncached(path: str | Path, *, dir_fd: int | None = None) -> int:
    """Opens a file, and no link, for being read from its disk: by O_DIRECT where that can be."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags | getattr(os, "O_DIRECT", 0), dir_fd=dir_fd)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.open(path, flags, dir_fd=dir_fd)


def pieces(
    handle: int, piece_bytes: int, *, offset: int = 0, size: int | None = None
) -> Iterator[memoryview]:
    """A file's bytes from its disk, each piece valid until the next one.

    Args:
        handle: as `open_uncached` gives it.
        piece_bytes: a multiple of a page, as are pieces but the last one.
        offset: a multiple of a page.
        size: as many bytes, or fewer where the file ends before; None means to its end.

    Raises:
        OSError
    """
    drop_cached(handle, offset, size or 0)
    left = os.fstat(handle).st_size - offset if size is None else size
    # Page-aligned, as O_DIRECT wants it; and no larger than it need be, because it pins all of it.
    length = min(piece_bytes, (max(left, 0) // mmap.PAGESIZE + 1) * mmap.PAGESIZE)
    with mmap.mmap(-1, length) as buffer:
        while size is None or size > 0:
            count = read_into(handle, buffer, offset)
            if size is not None:
                count = min(count, size)
                size -= count
            if count == 0:
                return
            offset += count
            with memoryview(buffer) as view, view[:count] as piece:
                yield piece


def read_into(handle: int, buffer: mmap.mmap | memoryview, offset: int | None = None) -> int:
    """Reads what is at `offset`, or what comes next; 0 at the end. By O_DIRECT as long as the file
    system does it.

    Raises:
        OSError
    """
    try:
        return _read(handle, buffer, offset)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # This file system opens with O_DIRECT and then doesn't read with it.
        flags = fcntl.fcntl(handle, fcntl.F_GETFL)
        fcntl.fcntl(handle, fcntl.F_SETFL, flags & ~getattr(os, "O_DIRECT", 0))
        return _read(handle, buffer, offset)


def _read(handle: int, buffer: mmap.mmap | memoryview, offset: int | None) -> int:
    if offset is None:
        return os.readv(handle, [buffer])
    return os.preadv(handle, [buffer], offset)


def drop_cached(handle: int, offset: int = 0, size: int = 0) -> None:
    """Of the bytes from `offset` on; a `size` of 0 means all of them."""
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):  # it is advice
            os.posix_fadvise(handle, offset, size, os.POSIX_FADV_DONTNEED)
