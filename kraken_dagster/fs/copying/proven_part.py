"""What is written of a copy, and the proof that its disk has it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import xxhash

from kraken_dagster.fs.attributes import Refusals, flush, set_times
from kraken_dagster.fs.copying.blocks import Block
from kraken_dagster.fs.copying.part_files import write_all
from kraken_dagster.fs.copying.uncached import open_uncached, pieces
from kraken_dagster.fs.digests import target_errors
from kraken_dagster.model.errors import DigestMismatch


class BlockReader:
    """Reads blocks of a file from its disk, past the page cache where that can be done."""

    def __init__(self, handle: int, piece_bytes: int, on_bytes: Callable[[int], None]) -> None:
        """
        Args:
            handle: as `open_uncached` gives it.
            piece_bytes: how much is read at a time, and how much memory is pinned for it.
            on_bytes: called with the size of each piece once it is read.
        """
        self.handle = handle
        self._piece_bytes = piece_bytes
        self._on_bytes = on_bytes

    def read(self, offset: int, size: int) -> Block:
        """These bytes as the disk has them.

        Raises:
            OSError
        """
        found, digest = 0, xxhash.xxh3_128()
        for piece in pieces(self.handle, self._piece_bytes, offset=offset, size=size):
            digest.update(piece)
            found += len(piece)
            self._on_bytes(len(piece))
        return Block(offset, found, digest.hexdigest())


class ProvenPart:
    """A part that is written and read back; `writer` is its descriptor."""

    def __init__(
        self, target: Path, part: Path, writer: int, reader: BlockReader, refusals: Refusals
    ) -> None:
        self._target = target
        self._part = part
        self._writer = writer
        self._reader = reader
        self._refusals = refusals
        # In bytes, of those that this copy writes. One flush may do for several blocks.
        self._written = self._flushed = self._settled = 0

    def write(self, chunk: memoryview) -> None:
        with target_errors(self._part):
            write_all(self._writer, chunk)
        self._written += len(chunk)

    def set_times(self, mtime_ns: int) -> None:
        set_times(self._writer, mtime_ns, self._refusals)

    def flush(self) -> None:
        written = self._written  # others go on writing meanwhile
        with target_errors(self._part):
            flush(self._writer, self._refusals)
        self._flushed = written

    def settle(self, block: Block) -> None:
        """Has the disk take the block that was written next, unless a flush has done so already.

        Raises:
            BackupFull, BackupUnwritable
        """
        self._settled += block.size
        if self._settled > self._flushed:
            self.flush()

    def prove(self, block: Block) -> None:
        """Compares what the disk gives back of a block that it has taken.

        Raises:
            DigestMismatch, BackupUnwritable, Stopped
        """
        with target_errors(self._part):
            found = self._reader.read(block.offset, block.size)
        if found != block:
            raise self._mismatch(block, found)

    def require_size(self, size: int) -> None:
        """
        Raises:
            DigestMismatch: the part has more than was written to it.
        """
        with target_errors(self._part):
            found = os.fstat(self._reader.handle).st_size
        if found != size:
            raise self._mismatch(Block(0, size, ""), Block(0, found, ""))

    def _mismatch(self, block: Block, found: Block) -> DigestMismatch:
        return DigestMismatch(
            "The backup gives back other bytes than were written to it",
            file=self._target,
            expected=_in_words(block),
            found=_in_words(found),
            next_step="check the backup store's disk; the copy is tried again by itself.",
        )


def _in_words(block: Block) -> str:
    digest = f", XXH3-128 {block.xxh3}" if block.xxh3 else ""
    return f"{block.size} bytes from byte {block.offset} on{digest}"


@contextmanager
def proven_part(
    target: Path,
    part: Path,
    writer: int,
    *,
    refusals: Refusals,
    on_bytes: Callable[[int], None],
    piece_bytes: int,
) -> Iterator[ProvenPart]:
    """
    Args:
        writer: a descriptor of the part, which is closed at the end.
        on_bytes: called with the size of each piece that was read back.

    Raises:
        BackupFull, BackupUnwritable
    """
    try:
        with target_errors(part):
            handle = open_uncached(part)
        try:
            reader = BlockReader(handle, piece_bytes, on_bytes)
            yield ProvenPart(target, part, writer, reader, refusals)
        finally:
            os.close(handle)
    finally:
        with target_errors(part):
            os.close(writer)
