"""Copies raw files so that a backup is a proof, and reads them back.

What a finished copy promises: the source was read once and did not change meanwhile; what the
disk of the target gives back, past the page cache, has the same digest; nothing that stood there
was replaced; under the final name there was never anything but the whole file.

What it does not promise: that the disk tells the truth about its own cache, and that the source
was right in the first place. Ownership, ACLs and alternate data streams are not copied.
"""

import errno
import hashlib
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from kraken_dagster.fs.attributes import Refusals, flush, flush_folder, set_times
from kraken_dagster.fs.digests import (
    CHUNK_BYTES,
    Identity,
    digest,
    drop_cached,
    exists,
    identity,
    identity_of,
    source_errors,
    target_errors,
)
from kraken_dagster.fs.dir_handles import NO_SUCH_FLAG, renameat2
from kraken_dagster.fs.private import make_folders, share
from kraken_dagster.fs.stores.read_only import protect
from kraken_dagster.model.errors import BackupConflict, DigestMismatch, SourceChanged
from kraken_dagster.model.files.vendors import MAX_NAME_BYTES
from kraken_dagster.model.raw_file import FileFact

# So that no single flush takes so long that the copy seems to stand still.
_FLUSH_EVERY_BYTES = 256 * 1024 * 1024
PART_PREFIX = ".kraken-part-"
REPLACED_ENDING = "alphakraken.bkp"
_AT_FDCWD = -100  # the folder that a relative path is taken from


@dataclass
class Progress:
    """Bytes moved so far, counted by the copying threads; `moved_at` is of the monotonic clock."""

    total_bytes: int
    done_bytes: int = 0
    started_at: float = field(default_factory=time.monotonic)
    moved_at: float = field(default_factory=time.monotonic)
    refusals: Refusals = field(default_factory=Refusals)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, count: int) -> None:
        with self._lock:
            self.done_bytes += count
            self.moved_at = time.monotonic()

    def touch(self, _count: int = 0) -> None:
        """Bytes moved that are not the source's own, those of a read-back, say."""
        self.moved_at = time.monotonic()

    @property
    def megabytes_per_s(self) -> float:
        elapsed = time.monotonic() - self.started_at
        return self.done_bytes / 1e6 / elapsed if elapsed > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        rate = self.megabytes_per_s * 1e6
        return (self.total_bytes - self.done_bytes) / rate if rate > 0 else None


class Stopped(Exception):
    """The copy was told to stop; its temporary file is gone."""


def copy_file(
    source: Path,
    target: Path,
    *,
    progress: Progress,
    may_go_on: Callable[[], bool] = lambda: True,
    read_only: bool = False,
    group: int | None = None,
) -> FileFact:
    """Copies one file to a place where nothing stands, and proves it.

    Args:
        read_only: nobody has the right to write to the copy once it has its name.
        group: who may read it then, and nobody else.
        may_go_on: asked before every chunk is read, from the source or back from the target, and
            before the final rename; False stops the copy.

    Raises:
        SourceMissing, SourceUnreadable, SourceChanged, BackupFull, BackupUnwritable,
        BackupConflict (something came to stand at the target), DigestMismatch, Stopped
    """
    before = identity(source)
    with target_errors(target):
        make_folders(target.parent, group)
    part = part_path(target)
    try:
        written = _write_part(source, part, before, progress, may_go_on)
        if read_only:
            protect([part], group)
        with target_errors(part):
            read = digest(part, on_bytes=go_on_or_stop(progress.touch, may_go_on))
        if read != written:
            raise DigestMismatch(
                "The backup gives back other bytes than were written to it",
                file=target,
                expected=f"{written.size} bytes, MD5 {written.md5}",
                found=f"{read.size} bytes, MD5 {read.md5}",
                next_step="check the backup store's disk; the copy is tried again by itself.",
            )
        refuse_changed(source, before, identity(source))
        if not may_go_on():
            raise Stopped
        with target_errors(target):
            rename_into_place(part, target)
    finally:
        with suppress(OSError):  # its store is gone: the next copy removes it
            remove_part(part)
    return written


def go_on_or_stop(
    count: Callable[[int], None], may_go_on: Callable[[], bool]
) -> Callable[[int], None]:
    """`count`, but Stopped is raised in its place once `may_go_on` says no."""

    def counting(size: int) -> None:
        if not may_go_on():
            raise Stopped
        count(size)

    return counting


def part_path(target: Path) -> Path:
    """The temporary file of a copy to `target`, in a folder beside it that is for it alone.

    So what dead copies left is found without a look at the thousands of files beside it. Short,
    so that a name of 255 bytes has one too.
    """
    folder = _part_folder(target)
    return folder / f"{folder.name}-{os.getpid()}-{threading.get_ident()}"


def open_part(part: Path) -> int:
    """A descriptor to write to, in a folder that is no link.

    Once more if a copy that was given up has removed that folder meanwhile.
    """
    try:
        return _open_part(part)
    except FileNotFoundError:
        return _open_part(part)


def _open_part(part: Path) -> int:
    part.parent.mkdir(mode=0o700, exist_ok=True)
    folder = os.open(part.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        handle = os.open(part.name, flags, 0o644, dir_fd=folder)
        share(handle, is_folder=False)
        return handle
    finally:
        os.close(folder)


def remove_part(part: Path) -> None:
    part.unlink(missing_ok=True)
    with suppress(OSError):  # it is gone already, or another copy's part is in it
        part.parent.rmdir()


def remove_leftovers(target: Path) -> None:
    """Removes what dead copies to `target` left; only for who holds the file's lease."""
    folder = _part_folder(target)
    with suppress(FileNotFoundError):
        if folder.is_symlink():  # nobody's way to files elsewhere
            folder.unlink()
        for path in folder.glob(f"{folder.name}-*"):
            path.unlink(missing_ok=True)
        with suppress(OSError):  # a copy that was given up has not ended yet
            folder.rmdir()


def _part_folder(target: Path) -> Path:
    mark = hashlib.sha256(target.name.encode()).hexdigest()[:16]
    return target.with_name(f"{PART_PREFIX}{mark}")


def _write_part(
    source: Path,
    part: Path,
    before: Identity,
    progress: Progress,
    may_go_on: Callable[[], bool],
) -> FileFact:
    md5, size = hashlib.md5(usedforsecurity=False), 0
    with source_errors(source):
        reader = os.open(source, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        with source_errors(source):
            refuse_changed(source, before, identity_of(os.fstat(reader)))
        with target_errors(part):
            writer = open_part(part)
        try:
            while True:
                if not may_go_on():
                    raise Stopped
                with source_errors(source):
                    chunk = os.read(reader, CHUNK_BYTES)
                if not chunk:
                    break
                md5.update(chunk)
                size += len(chunk)
                with target_errors(part):
                    write_all(writer, chunk)
                    if size // _FLUSH_EVERY_BYTES > (size - len(chunk)) // _FLUSH_EVERY_BYTES:
                        flush(writer, progress.refusals)
                progress.add(len(chunk))
            with target_errors(part):
                set_times(writer, before.mtime_ns, progress.refusals)
                flush(writer, progress.refusals)
        finally:
            with target_errors(part):
                os.close(writer)
        with source_errors(source):
            refuse_changed(source, before, identity_of(os.fstat(reader)))
        drop_cached(reader)
    finally:
        with suppress(OSError):  # a share that is gone fails here too, and what counts was said
            os.close(reader)
    if size != before.size:
        raise _changed(source, f"{before.size} bytes", f"{size} bytes were read")
    return FileFact(size=size, md5=md5.hexdigest())


def write_all(writer: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(writer, view) :]


def rename_into_place(part: Path, target: Path) -> None:
    """Gives the part its final name if nothing has that name; never replaces anything."""
    try:
        os.link(part, target, follow_symlinks=False)
    except FileExistsError:
        raise conflict(target, "nothing", "something that came to stand there") from None
    except OSError:  # no hard links on this store, whatever it says to that
        _rename_if_free(part, target)
    else:
        part.unlink()
    flush_folder(target.parent)


def _rename_if_free(part: Path, target: Path) -> None:
    """Looks first, then renames by the kernel's rename that replaces nothing, if there is one.

    Where there is none, the file's lease keeps other Krakens away; a stranger could still slip
    into this gap.
    """
    number = errno.EEXIST
    if not exists(target):
        here, there = os.fsencode(part), os.fsencode(target)
        number = renameat2(_AT_FDCWD, here, _AT_FDCWD, there)
    if number in NO_SUCH_FLAG:
        part.rename(target)
    elif number == errno.EEXIST:
        raise conflict(target, "nothing", "something that came to stand there")
    elif number != 0:
        raise OSError(number, os.strerror(number), str(target))


def set_aside(path: Path) -> Path:
    """Renames what stands at `path` to `<name>.<n>.alphakraken.bkp`, the first `n` that is free."""
    number = 1
    with target_errors(path):
        while exists(aside := path.with_name(_aside_name(path.name, number))):
            number += 1
        path.rename(aside)
        flush_folder(path.parent)
    return aside


def _aside_name(name: str, number: int) -> str:
    ending = f".{number}.{REPLACED_ENDING}"
    room = MAX_NAME_BYTES - len(ending)
    return name.encode()[:room].decode(errors="ignore") + ending


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


def conflict(target: Path, expected: str, found: str) -> BackupConflict:
    return BackupConflict(
        "The backup holds something else under this name, and it is never overwritten",
        file=target,
        expected=expected,
        found=found,
        next_step="compare both; then move the one in the backup away, or set "
        "backup_overwrite_file_id to this raw file id. Tried again by itself.",
    )
