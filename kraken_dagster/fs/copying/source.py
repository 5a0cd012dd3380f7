"""The source of a copy: opened once, read once, and the same from the first look to the last."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import xxhash

from kraken_dagster.fs.copying.blocks import Block
from kraken_dagster.fs.copying.progress import Progress, Stopped
from kraken_dagster.fs.copying.uncached import drop_cached
from kraken_dagster.fs.digests import Identity, identity_of, source_errors
from kraken_dagster.model.errors import SourceChanged

_AGAIN_BYTES = 1024 * 1024


class SourceReader:
    """Reads an open source from its beginning to its end.

    `size` is what was read so far, in bytes.
    """

    def __init__(
        self,
        path: Path,
        handle: int,
        before: Identity,
        progress: Progress,
        may_go_on: Callable[[], bool],
    ) -> None:
        self.path = path
        self.handle = handle
        self.before = before
        self.size = 0
        self._progress = progress
        self._may_go_on = may_go_on
        self._ended = False

    def fill(self, buffer: bytearray) -> int:
        """Fills the buffer as far as the source goes, however little the share gives at a time.

        Raises:
            SourceMissing, SourceUnreadable, SourceChanged (it has more than it had), Stopped
        """
        filled = 0
        with memoryview(buffer) as view:
            while filled < len(view) and not self._ended:
                if not self._may_go_on():
                    raise Stopped
                with source_errors(self.path), view[filled:] as rest:
                    count = os.readv(self.handle, [rest])
                self._ended = count == 0
                filled += count
                self._count(count)
                self._progress.wait_after(count, self._may_go_on)
        return filled

    def _count(self, count: int) -> None:
        self.size += count
        self._progress.add(count)
        if self.size > self.before.size:
            raise _changed(self.path, f"{self.before.size} bytes", f"{self.size} bytes or more")

    def start_at(self, offset: int) -> None:
        """The bytes before `offset` count as read."""
        with source_errors(self.path):
            os.lseek(self.handle, offset, os.SEEK_SET)
        self.size = 0
        self._count(offset)

    def block(self, offset: int, size: int) -> Block:
        """These bytes once more, wherever reading is.

        Raises:
            SourceMissing, SourceUnreadable, Stopped
        """
        self.drop_read(offset, size)
        found, xxh3 = 0, xxhash.xxh3_128()
        buffer = bytearray(min(size, _AGAIN_BYTES))
        while found < size:
            if not self._may_go_on():
                raise Stopped
            with memoryview(buffer) as view, view[: size - found] as piece:
                with source_errors(self.path):
                    count = os.preadv(self.handle, [piece], offset + found)
                if count == 0:
                    break
                xxh3.update(piece[:count])
            found += count
            self._progress.touch()
        return Block(offset, found, xxh3.hexdigest())

    def drop_read(self, offset: int, size: int) -> None:
        """Leaves the page cache to others."""
        drop_cached(self.handle, offset, size)

    def require_whole(self) -> None:
        """
        Raises:
            SourceChanged: what was read is not the file that was looked at first.
        """
        with source_errors(self.path):
            refuse_changed(self.path, self.before, identity_of(os.fstat(self.handle)))
        if self.size != self.before.size:
            raise _changed(self.path, f"{self.before.size} bytes", f"{self.size} bytes were read")


@contextmanager
def opened_source(
    path: Path, before: Identity, progress: Progress, may_go_on: Callable[[], bool]
) -> Iterator[SourceReader]:
    """
    Raises:
        SourceMissing, SourceUnreadable, SourceChanged
    """
    with source_errors(path):
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with source_errors(path):
            refuse_changed(path, before, identity_of(os.fstat(handle)))
        yield SourceReader(path, handle, before, progress, may_go_on)
        drop_cached(handle)
    finally:
        with suppress(OSError):  # a share that is gone fails here too, and what counts was said
            os.close(handle)


def refuse_changed(source: Path, before: Identity, after: Identity) -> None:
    if before != after:
        raise _changed(
            source,
            f"{before.size} bytes, mtime {before.mtime_ns} ns",
            f"{after.size} bytes, mtime {after.mtime_ns} ns",
        )


def _changed(source: Path, expected: str, found: str) -> SourceChanged:
    return SourceChanged(
        "The source changed while it was copied",
        file=source,
        expected=expected,
        found=found,
        next_step="nothing: the copy was thrown away and is made anew once the file stands still.",
    )
