"""Temporary files beside what they are to become, and how they get that name: never in another's
place.
"""

import errno
import hashlib
import os
import threading
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from kraken_dagster.fs.attributes import flush_folder
from kraken_dagster.fs.digests import exists, target_errors
from kraken_dagster.fs.dir_handles import NO_SUCH_FLAG, renameat2
from kraken_dagster.fs.private import share
from kraken_dagster.model.errors import BackupConflict
from kraken_dagster.model.files.vendors import MAX_NAME_BYTES

PART_PREFIX = ".kraken-part-"
JOURNAL_ENDING = ".journal"
REPLACED_ENDING = "alphakraken.bkp"
_AT_FDCWD = -100  # the folder that a relative path is taken from


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


def journal_path(part: Path) -> Path:
    return part.with_name(part.name + JOURNAL_ENDING)


def remove_part(part: Path) -> None:
    part.unlink(missing_ok=True)
    journal_path(part).unlink(missing_ok=True)
    with suppress(OSError):  # it is gone already, or another copy's part is in it
        part.parent.rmdir()


def remove_leftovers(target: Path, but: Collection[Path] = ()) -> None:
    """Removes what dead copies to `target` left; only for who holds the file's lease."""
    folder = _part_folder(target)
    with suppress(FileNotFoundError):
        if folder.is_symlink():  # nobody's way to files elsewhere
            folder.unlink()
        for path in folder.glob(f"{folder.name}-*"):
            if path not in but:
                path.unlink(missing_ok=True)
        with suppress(OSError):  # a copy that was given up has not ended yet
            folder.rmdir()


def _part_folder(target: Path) -> Path:
    mark = hashlib.sha256(target.name.encode()).hexdigest()[:16]
    return target.with_name(f"{PART_PREFIX}{mark}")


def write_all(writer: int, chunk: bytes | memoryview) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(writer, view) :]


def rename_into_place(part: Path, target: Path, *, flush_name: bool = True) -> None:
    """Gives the part its final name if nothing has that name; never replaces anything."""
    try:
        os.link(part, target, follow_symlinks=False)
    except FileExistsError:
        raise conflict(target, "nothing", "something that came to stand there") from None
    except OSError:  # no hard links on this store, whatever it says to that
        _rename_if_free(part, target)
    else:
        part.unlink()
    if flush_name:
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


def conflict(target: Path, expected: str, found: str) -> BackupConflict:
    return BackupConflict(
        "The backup holds something else under this name, and it is never overwritten",
        file=target,
        expected=expected,
        found=found,
        next_step="compare both; then move the one in the backup away, or set "
        "backup_overwrite_file_id to this raw file id. Tried again by itself.",
    )
