"""Goes on with the part of a copy that died.

Only where all of this holds: the journal is whole; it is of this source (its size, mtime, ctime
and inode; where a share doesn't keep those, nothing is gone on with), by this host, for the same
backup; whoever wrote the part is gone; and the source still gives the last block that was written
and three others, by chance. Of the part only those first blocks count that its disk gives back as
they were read from the source. Everything else is copied anew.
"""

import fcntl
import os
import random
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import xxhash

from kraken_dagster.fs.attributes import Refusals, flush
from kraken_dagster.fs.content_digests import ContentDigests
from kraken_dagster.fs.copying.blocks import Block
from kraken_dagster.fs.copying.journal import Journal, Origin, read_journal
from kraken_dagster.fs.copying.part_files import (
    JOURNAL_ENDING,
    journal_path,
    open_part,
    remove_leftovers,
)
from kraken_dagster.fs.copying.source import SourceReader
from kraken_dagster.fs.copying.uncached import open_uncached, pieces
from kraken_dagster.fs.digests import target_errors

_BY_CHANCE = 3
_PIECE_BYTES = 4 * 1024 * 1024
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_LINK = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


class _Anew(Exception):
    """What is left can't be gone on with."""


@dataclass(frozen=True)
class Begun:
    """A part that is open for writing at its end. `digests` are of the bytes that it has."""

    writer: int
    digests: ContentDigests
    blocks: Sequence[Block] = ()
    journal: Journal | None = None

    @contextmanager
    def closing_journal(self) -> Iterator[None]:
        try:
            yield
        finally:
            if self.journal is not None:
                self.journal.close()


def begin(
    source: SourceReader,
    target: Path,
    part: Path,
    wanted: Origin,
    digests: ContentDigests,
    *,
    on_bytes: Callable[[int], None],
) -> Begun:
    """The part to write to, with its journal: what a copy that died left, or a new one.

    Nobody else's part is left beside it. Where the store has no locks no journal is kept.

    Args:
        wanted: what the part will be a copy of.
        digests: those that are to be taken, of no bytes yet.
        on_bytes: called with what is read back.

    Raises:
        SourceMissing, SourceUnreadable, BackupFull, BackupUnwritable, and what `on_bytes` raises
    """
    begun = _taken_over(source, part, wanted, digests, on_bytes)
    try:
        with target_errors(part):
            remove_leftovers(target, but=(part, journal_path(part)) if begun else ())
            if begun is None:
                begun = Begun(open_part(part), digests)
                if not _is_locked(begun.writer):
                    return begun
        return replace(begun, journal=_journal(part, wanted, begun.blocks))
    except BaseException:
        if begun is not None:
            os.close(begun.writer)
        raise


def _is_locked(writer: int) -> bool:
    """Whether nobody else has it open to write to it; for as long as this descriptor lives."""
    try:
        fcntl.flock(writer, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _journal(part: Path, wanted: Origin, blocks: Sequence[Block]) -> Journal | None:
    try:
        handle = os.open(journal_path(part), _NO_LINK | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError:  # the copy does without
        return None
    return Journal(handle, wanted, blocks)


def _taken_over(
    source: SourceReader,
    part: Path,
    wanted: Origin,
    digests: ContentDigests,
    on_bytes: Callable[[int], None],
) -> Begun | None:
    """What a dead copy left, now under the name of `part`; None where there is nothing of use."""
    try:
        folder = os.open(part.parent, _FOLDER)
    except OSError:
        return None
    try:
        for name in os.listdir(folder):
            if name.endswith(JOURNAL_ENDING):
                with suppress(OSError, _Anew):
                    blocks = _recorded(folder, name, wanted)
                    left = _Left(folder, name, blocks, digests)
                    return _take(left, part, source, on_bytes)
    finally:
        os.close(folder)
    return None


class _Left(NamedTuple):
    """What a dead copy left: the folder's descriptor, its journal's name and what that says; and
    the digests that are to be taken of it."""

    folder: int
    journal: str
    blocks: Sequence[Block]
    digests: ContentDigests


def _take(left: _Left, part: Path, source: SourceReader, on_bytes: Callable[[int], None]) -> Begun:
    folder, name = left.folder, left.journal.removesuffix(JOURNAL_ENDING)
    writer = os.open(name, _NO_LINK, dir_fd=folder)
    try:
        _require_deserted(writer)
        os.rename(name, part.name, src_dir_fd=folder, dst_dir_fd=folder)
        own = journal_path(part).name  # as it is until another one is written: we may die too
        os.rename(left.journal, own, src_dir_fd=folder, dst_dir_fd=folder)
        flush(writer, Refusals())
        digests, blocks = _given_back(left, part.name, on_bytes)
        _require_same(source, blocks)
        end = sum(block.size for block in blocks)
        os.ftruncate(writer, end)
        os.lseek(writer, end, os.SEEK_SET)
        source.start_at(end)
    except BaseException:
        os.close(writer)
        raise
    return Begun(writer, digests, blocks)


def _recorded(folder: int, name: str, wanted: Origin) -> list[Block]:
    handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        recorded = read_journal(handle)
    finally:
        os.close(handle)
    if recorded is None or recorded[0] != wanted:
        raise _Anew
    return recorded[1]


def _require_deserted(writer: int) -> None:
    facts = os.fstat(writer)
    if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1 or not _is_locked(writer):
        raise _Anew


def _given_back(
    left: _Left, name: str, on_bytes: Callable[[int], None]
) -> tuple[ContentDigests, list[Block]]:
    """The first blocks that the disk gives back as they were read from the source."""
    digests, good = left.digests, list[Block]()
    end = 0
    handle = open_uncached(name, dir_fd=left.folder)
    try:
        for block in left.blocks:
            if block.offset != end:
                break
            longer, xxh3, found = digests.copy(), xxhash.xxh3_128(), 0
            for piece in pieces(handle, _PIECE_BYTES, offset=block.offset, size=block.size):
                longer.update(piece)
                xxh3.update(piece)
                found += len(piece)
                on_bytes(len(piece))
            if (found, xxh3.hexdigest()) != (block.size, block.xxh3):
                break
            digests, end = longer, end + block.size
            good.append(block)
    finally:
        os.close(handle)
    if not good:
        raise _Anew
    return digests, good


def _require_same(source: SourceReader, blocks: Sequence[Block]) -> None:
    """The source itself is asked for the last block and some by chance."""
    others = blocks[:-1]
    chosen = random.SystemRandom().sample(others, min(_BY_CHANCE, len(others)))
    if any(source.block(item.offset, item.size) != item for item in (blocks[-1], *chosen)):
        raise _Anew
