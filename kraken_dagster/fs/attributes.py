"""What is no part of a backup's proof: times, flushes, the way of a rename.

It is tried, and noted where a file system refuses it. No finished copy is thrown away for it.
"""

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# What a file system says that has no such operation. EIO, say, is none of these: bytes may be lost.
_NO_FLUSH = frozenset(
    {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES}
)


class Refusals:
    """What a file system refused, in words, by operation; several threads add to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[str, str] = {}

    def add(self, operation: str, error: OSError) -> None:
        with self._lock:
            self._found.setdefault(operation, error.strerror or str(error))

    def in_words(self) -> tuple[str, ...]:
        with self._lock:
            return tuple(f"{name}: {said}" for name, said in sorted(self._found.items()))


@contextmanager
def tried(operation: str, refusals: Refusals) -> Iterator[None]:
    """What the block does may be refused; that is noted and goes no further."""
    try:
        yield
    except OSError as error:
        refusals.add(operation, error)


def set_times(handle: int, mtime_ns: int, refusals: Refusals) -> None:
    with tried("setting a file's times", refusals):
        os.utime(handle, ns=(mtime_ns, mtime_ns))


def flush(handle: int, refusals: Refusals) -> None:
    """Has the disk take what was written, where the file system can; a disk's error is one.

    Raises:
        OSError
    """
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_FLUSH:
            raise
        refusals.add("flushing a file", error)


def flush_folder(folder: Path) -> None:
    """The same of a folder; some network file systems can't, and have nothing to lose by it."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
