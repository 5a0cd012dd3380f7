"""Reads raw files and backups: what a path is, what belongs to a folder, what its digest is.

Nothing here writes. Operating system errors become the project's own here, by which side of a
copy they happened on.
"""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kraken_dagster.fs.content_digests import ContentDigests
from kraken_dagster.fs.copying.uncached import open_uncached, pieces
from kraken_dagster.model.errors import (
    BackupFull,
    BackupUnwritable,
    FileSystemLimit,
    OutputUnreadable,
    SourceMissing,
    SourceUnreadable,
    UnsafePath,
)
from kraken_dagster.model.errors.kinds import Kind, kind_of_errno
from kraken_dagster.model.files.debris import is_debris
from kraken_dagster.model.files.second_digest import DigestKind
from kraken_dagster.model.raw_file import FileFact

CHUNK_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class Identity:
    """What tells whether a source changed: its size in bytes, its mtime in ns."""

    size: int
    mtime_ns: int
    ctime_ns: int = field(default=0, compare=False)  # a change of mode or name is none of content
    inode: int = field(default=0, compare=False)  # some shares give another at each mount


def identity(path: Path) -> Identity:
    """What `path` is right now, without following a symbolic link.

    Raises:
        SourceMissing, SourceUnreadable, UnsafePath (a link, a special file, or a name that
        neither MongoDB nor a manifest can hold)
    """
    if not _is_utf8(path):
        raise UnsafePath(
            "The name is not valid UTF-8",
            file=path,
            next_step="rename it on the instrument.",
        )
    with source_errors(path):
        facts = os.lstat(path)
    if not stat.S_ISREG(facts.st_mode):
        raise UnsafePath(
            "Not a plain file, and links are never followed",
            file=path,
            next_step="replace it on the instrument by the data itself.",
        )
    return identity_of(facts)


def _is_utf8(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def exists(path: Path) -> bool:
    """Whether anything has this name, a dangling link too. What can't be known is an error, and
    not a no.

    Raises:
        OSError
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def on_instrument(path: Path) -> bool:
    """Whether anything has this name on an instrument.

    Raises:
        SourceUnreadable: the share doesn't say.
    """
    with source_errors(path):
        return exists(path)


def is_empty(folder: Path) -> bool:
    """Whether it is a folder with nothing in it. What can't be known is an error.

    Raises:
        OSError
    """
    try:
        with os.scandir(folder) as items:
            return next(items, None) is None
    except (FileNotFoundError, NotADirectoryError):
        return False


def entries_below(top: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Everything below a folder, each folder before what is in it; no link is followed. Nothing
    where there is none, but a folder that can't be listed is an error, and not empty.

    Raises:
        OSError
    """
    left = [top]
    while left:
        folder = left.pop()
        try:
            names = sorted(os.listdir(folder))
        except (FileNotFoundError, NotADirectoryError):  # none, or it went while we looked
            continue
        for name in names:
            try:
                facts = os.lstat(folder / name)
            except FileNotFoundError:
                continue
            yield folder / name, facts
            if stat.S_ISDIR(facts.st_mode):
                left.append(folder / name)


def walk_members(folder: Path, name: str) -> list[str]:
    """Every file below `folder/name`, relative to `folder`, sorted; `name` may be a file.

    Debris is none: it comes and goes, and may be gone before it was looked at.

    Raises:
        SourceMissing, SourceUnreadable, UnsafePath (a link or a special file among them)
    """
    top = folder / name
    with source_errors(top):
        if not stat.S_ISDIR(os.lstat(top).st_mode):
            identity(top)
            return [name]
        found: list[str] = []
        for parent, folders, files in os.walk(top, onerror=_reraise):
            for item in (*folders, *(file for file in files if not is_debris(file))):
                path = Path(parent) / item
                mode = os.lstat(path).st_mode
                if not stat.S_ISDIR(mode):
                    identity(path)
                    found.append(path.relative_to(folder).as_posix())
    return sorted(found)


def names_of_files(folder: Path, beginning: str) -> list[str]:
    """The plain files in `folder` whose names begin like this; no other is looked at.

    Raises:
        SourceMissing, SourceUnreadable
    """
    with source_errors(folder):
        names = [name for name in os.listdir(folder) if name.startswith(beginning)]
        return [name for name in names if _is_plain(folder / name)]


def _is_plain(path: Path) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except FileNotFoundError:  # it went while we looked
        return False


def digest(
    path: Path,
    *,
    second: DigestKind | None = None,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> FileFact:
    """Size and MD5 of what the disk holds, read past the page cache where that can be done; and
    the `second` digest of the same bytes."""
    handle = open_uncached(path)
    try:
        return digest_of(handle, second=second, on_bytes=on_bytes)
    finally:
        os.close(handle)


def digest_of(
    handle: int,
    *,
    second: DigestKind | None = None,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> FileFact:
    """Like `digest`, of a file that `open_uncached` has opened."""
    digests, size = ContentDigests(second), 0
    for piece in pieces(handle, CHUNK_BYTES):
        digests.update(piece)
        size += len(piece)
        on_bytes(len(piece))
    return digests.fact(size)


def identity_of(facts: os.stat_result) -> Identity:
    return Identity(facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino)


def _reraise(error: OSError) -> None:
    raise error


@contextmanager
def source_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SourceMissing(
            "The file is not on the instrument (any more)",
            file=path,
            next_step="find out who moved or deleted it; if it comes back it is backed up.",
        ) from error
    except OSError as error:
        refuse_limit(path, error)
        raise SourceUnreadable(
            "The file on the instrument can't be read",
            file=path,
            found=error.strerror or error,
            next_step="it may be open in the acquisition software; tried again by itself. Check "
            "the rights of Kraken's user if this goes on.",
        ) from error


@contextmanager
def target_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        refuse_limit(path, error)
        if kind_of_errno(error.errno) is Kind.FULL:
            raise BackupFull(
                "No space left on the backup store",
                file=path,
                next_step="free space there; tried again by itself. Nothing partial has a final "
                "name.",
            ) from error
        raise BackupUnwritable(
            "The backup store refuses",
            file=path,
            found=error.strerror or error,
            next_step="check that it is mounted and that Kraken's user may write there; tried "
            "again by itself.",
        ) from error


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """What goes wrong in the output folder says nothing of a result: it is looked for again."""
    try:
        yield
    except OSError as error:
        refuse_limit(path, error)
        raise OutputUnreadable(
            "The output store gives an error, so nothing is known of what is there",
            file=path,
            found=error.strerror or error,
            next_step="check that it is mounted, its disk, and the rights of Kraken's user; tried "
            "again by itself.",
        ) from error


def refuse_limit(path: Path, error: OSError) -> None:
    """Raises FileSystemLimit where time doesn't cure it, as a file of 5 GB on FAT."""
    kind = kind_of_errno(error.errno)
    if not kind.transient:
        raise FileSystemLimit(
            "The file system can't take this, or can't do it",
            file=path,
            found=f"{error.strerror}: {kind.meaning.lower()}",
            next_step=kind.next_step,
        ) from error
