"""Copies a file so that a backup is a proof.

What a finished copy promises: the source was read once and did not change meanwhile; what the
disk of the target gives back, past the page cache, has the same digests; nothing that stood there
was replaced; under the final name there was never anything but the whole file.

What it does not promise: that the disk tells the truth about its own cache, and that the source
was right in the first place. Ownership, ACLs and alternate data streams are not copied.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from kraken_dagster.fs.content_digests import ContentDigests
from kraken_dagster.fs.copying.journal import origin
from kraken_dagster.fs.copying.overlapped import SIZES, CopySizes, Overlapped, copy_straight
from kraken_dagster.fs.copying.part_files import (
    journal_path,
    open_part,
    part_path,
    remove_leftovers,
    remove_part,
    rename_into_place,
)
from kraken_dagster.fs.copying.progress import Progress, Stopped, go_on_or_stop
from kraken_dagster.fs.copying.proven_part import proven_part
from kraken_dagster.fs.copying.resume import Begun, begin
from kraken_dagster.fs.copying.source import SourceReader, opened_source, refuse_changed
from kraken_dagster.fs.digests import exists, identity, target_errors
from kraken_dagster.fs.private import make_folders
from kraken_dagster.fs.stores.read_only import protect
from kraken_dagster.model.errors import SourceUnreadable
from kraken_dagster.model.files.second_digest import DigestKind
from kraken_dagster.model.raw_file import FileFact


def copy_file(
    source: Path,
    target: Path,
    *,
    progress: Progress,
    may_go_on: Callable[[], bool] = lambda: True,
    read_only: bool = False,
    group: int | None = None,
    flush_name: bool = True,
    attempt: str | None = None,
    second: DigestKind | None = None,
    sizes: CopySizes = SIZES,
) -> FileFact:
    """Copies one file to a place where nothing stands, and proves it; only for who holds its lease.

    Args:
        may_go_on: asked before each chunk and the final rename; False stops the copy.
        read_only, group: nobody may write to the copy once it has its name; only `group` reads it.
        flush_name: False where the caller flushes the folder.
        attempt: which backup this is; the next copy for it goes on from what is there (`resume`).
        second: which digest of the source's bytes is taken beside MD5.

    Raises:
        SourceMissing, SourceUnreadable, SourceChanged, BackupFull, BackupUnwritable,
        BackupConflict (something came to stand at the target), DigestMismatch, Stopped
    """
    before, on_bytes = identity(source), go_on_or_stop(progress.touch, may_go_on)
    with target_errors(target):
        make_folders(target.parent, group)
    place = _Place(target, part_path(target), progress, on_bytes)
    with _removed_unless_resumable(place.part):
        with opened_source(source, before, progress, may_go_on) as reader:
            digests = _write(reader, place, attempt, second, sizes)
        if read_only:
            protect([place.part], group)
        refuse_changed(source, before, identity(source))
        on_bytes(0)
        with target_errors(target):
            rename_into_place(place.part, target, flush_name=flush_name)
    return digests.fact(before.size)


@contextmanager
def _removed_unless_resumable(part: Path) -> Iterator[None]:
    """A part with a journal is kept where the copy was stopped, or could not read its source."""
    kept = False
    try:
        yield
    except (Stopped, SourceUnreadable):
        with suppress(OSError):
            kept = exists(journal_path(part))
        raise
    finally:
        if not kept:
            with suppress(OSError):  # its store is gone: the next copy removes it
                remove_part(part)


class _Place(NamedTuple):
    target: Path
    part: Path
    progress: Progress
    on_bytes: Callable[[int], None]


def _write(
    reader: SourceReader,
    place: _Place,
    attempt: str | None,
    second: DigestKind | None,
    sizes: CopySizes,
) -> ContentDigests:
    """Writes and proves the part; returns the digests of the source's bytes."""
    straight = reader.before.size <= sizes.straight
    if straight or attempt is None:
        with target_errors(place.part):
            remove_leftovers(place.target)
            begun = Begun(open_part(place.part), ContentDigests(second))
    else:
        wanted = origin(reader.path, reader.before, attempt, sizes.block)
        new = ContentDigests(second)
        begun = begin(reader, place.target, place.part, wanted, new, on_bytes=place.on_bytes)
    piece_bytes = sizes.straight_chunk if straight else sizes.read_back
    with (
        begun.closing_journal(),
        proven_part(
            place.target,
            place.part,
            begun.writer,
            refusals=place.progress.refusals,
            on_bytes=place.on_bytes,
            piece_bytes=piece_bytes,
        ) as part,
    ):
        if straight:
            copy_straight(reader, part, begun.digests, sizes)
        else:
            Overlapped(reader, part, begun, sizes).run()
        reader.require_whole()
        part.require_size(reader.before.size)
    return begun.digests
