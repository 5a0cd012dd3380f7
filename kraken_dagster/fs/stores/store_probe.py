"""Tries on a store all that a copy, archiving and a result need; leaves nothing behind.

What is tried is done in a folder of its own, which the next probe removes if this one was killed.
"""

import errno
import hashlib
import os
import secrets
import stat
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kraken_dagster.fs.digests import digest, exists
from kraken_dagster.fs.dir_handles import Folder, rename, renameat2
from kraken_dagster.model.files.vendors import MAX_NAME_BYTES

PREFIX = ".kraken-doctor-"
_LEFT_AFTER_S = 3600.0
_CONTENT = b"kraken\n" * 1000
_NANOSECONDS = 1_700_000_000_000_000_000
_ONE_NAME = "a raw file whose backup another one's name is in the way of gets a folder of its own"
_NO_BACKUP = "a raw file with such a name, or with such a file in it, can't be backed up"


@dataclass(frozen=True)
class Shortcoming:
    """What a store can't do, what it said, and what follows; `fatal`: Kraken can't live with it."""

    operation: str
    said: str
    follows: str
    fatal: bool

    def in_words(self) -> str:
        return f"{self.operation}: {self.said}; {self.follows}"


def probe(root: Path) -> list[Shortcoming]:
    """What the store at `root` can't do; empty where it can do all.

    Raises:
        OSError: not even a folder can be made there.
    """
    folder = root / f"{PREFIX}{secrets.token_hex(8)}"
    folder.mkdir()
    try:
        _remove_left(root, folder)
        return [*_operations(folder), *_names(folder)]
    finally:
        with suppress(OSError):  # it was told already why
            _remove(folder)


def has_room(root: Path, size_bytes: int) -> bool:
    """Whether a file of this size can be written there.

    It is written: quotas are no part of what a file system tells of its room, and some tell of
    free inodes what is not so.

    Raises:
        OSError: the folder can't be written to, for another reason.
    """
    folder = root / f"{PREFIX}{secrets.token_hex(8)}"
    try:
        folder.mkdir()
        with (folder / "file").open("xb") as file:
            file.write(bytes(size_bytes))
            file.flush()
            os.fsync(file.fileno())  # some tell only then
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return False
        raise
    finally:
        with suppress(OSError):
            _remove(folder)
    return True


def _operations(folder: Path) -> Iterator[Shortcoming]:
    file = folder / "file"
    fatal: tuple[tuple[str, Callable[[], object], str], ...] = (
        ("writing a file", lambda: file.write_bytes(_CONTENT), "nothing can be copied there"),
        ("reading it back from the disk", lambda: _read_back(file), "no copy can be proven"),
        ("renaming a file", lambda: _rename(folder, file), "no copy gets its final name"),
        ("renaming a folder", lambda: _rename_folder(folder), "no folder gets its final name"),
        ("deleting", lambda: _delete(folder), "what dead copies leave stays there for ever"),
    )
    for operation, function, follows in fatal[:2]:
        yield from _tried(operation, function, follows, fatal=True)
    tolerable: tuple[tuple[str, Callable[[], object], str], ...] = (
        ("flushing a file", lambda: _on(file, os.fsync), "a power cut may cost the newest copies"),
        ("setting times", lambda: _set_times(file), "backups have the time of their copy"),
        ("taking the right to write", lambda: _take_writing(file), "jobs could alter backups"),
        ("renaming without replacing", lambda: _keeps(folder, file), "other programs have no "
         "business in the backup: what they put under a name at the last moment is replaced"),
    )  # fmt: skip
    for operation, function, follows in tolerable:
        yield from _tried(operation, function, follows, fatal=False)
    for operation, function, follows in fatal[2:]:
        yield from _tried(operation, function, follows, fatal=True)


def _tried(
    operation: str, function: Callable[[], object], follows: str, *, fatal: bool
) -> Iterator[Shortcoming]:
    try:
        function()
    except OSError as error:
        yield Shortcoming(operation, error.strerror or str(error), follows, fatal)


def _read_back(file: Path) -> None:
    found = digest(file)
    if found.md5 != hashlib.md5(_CONTENT, usedforsecurity=False).hexdigest():
        raise OSError(f"{found.size} other bytes than the {len(_CONTENT)} that were written")


def _on(file: Path, function: Callable[[int], object]) -> None:
    handle = os.open(file, os.O_RDWR)
    try:
        function(handle)
    finally:
        os.close(handle)


def _set_times(file: Path) -> None:
    _on(file, lambda handle: os.utime(handle, ns=(_NANOSECONDS, _NANOSECONDS)))
    if abs(file.stat().st_mtime_ns - _NANOSECONDS) > 2_000_000_000:  # FAT keeps every other second
        raise OSError("it reports success, and keeps another time")


def _take_writing(file: Path) -> None:
    copy = file.with_name("closed")
    copy.write_bytes(b"")
    copy.chmod(0o444)
    kept = copy.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)
    copy.chmod(0o644)
    if kept:
        raise OSError("it reports success, and keeps the mode")


def _keeps(folder: Path, file: Path) -> None:
    """By a hard link, or by the kernel's rename that replaces nothing."""
    try:
        os.link(file, folder / "linked")
    except OSError:
        (folder / "other").write_bytes(b"")
        with Folder.open(folder) as opened:
            number = renameat2(opened.handle, b"other", opened.handle, b"free")
        if number:
            raise OSError(f"no hard links, and no such rename ({os.strerror(number)})") from None


def _rename(folder: Path, file: Path) -> None:
    with Folder.open(folder) as opened:
        rename(opened, file.name, opened, "renamed")


def _rename_folder(folder: Path) -> None:
    before = folder / "folder"
    before.mkdir()
    (before / "member").write_bytes(_CONTENT)
    before.rename(folder / "renamed folder")
    if not exists(folder / "renamed folder" / "member"):
        raise OSError("what was in it is not there any more")


def _delete(folder: Path) -> None:
    _remove(folder / "renamed folder")
    (folder / "renamed").unlink()


def _names(folder: Path) -> Iterator[Shortcoming]:
    """Which names the store takes for one, and which it doesn't take."""
    accented = unicodedata.normalize("NFC", "e\u0301")
    pairs = (
        ("capital and small letters", "Case", "cASE"),
        ("ways to write an accent", accented, unicodedata.normalize("NFD", accented)),
    )
    for what, one, other in pairs:
        with suppress(OSError):
            (folder / one).write_bytes(b"")
            if exists(folder / other):
                yield Shortcoming(what, "it takes two names for one", _ONE_NAME, False)
    odd = (
        ("a name with a dot at its end", "dot."),
        ("a name with a space at its end", "space "),
        ("a name of 255 bytes", "x" * MAX_NAME_BYTES),
        ("a name with an accent", accented),
        ("a name with a colon", "a:b"),
        ("a name with a line break", "a\nb"),
    )
    for what, name in odd:
        try:
            (folder / name).write_bytes(b"")
            listed = name in os.listdir(folder)
        except OSError as error:
            yield Shortcoming(what, error.strerror or str(error), _NO_BACKUP, False)
        else:
            if not listed:
                yield Shortcoming(what, "it is kept under another one", _ONE_NAME, False)


def _remove_left(root: Path, ours: Path) -> None:
    """Removes what probes have left that were killed; one that goes on right now is younger."""
    now = ours.stat().st_mtime
    for path in root.glob(f"{PREFIX}*"):
        with suppress(OSError):
            if path != ours and now - path.lstat().st_mtime > _LEFT_AFTER_S:
                _remove(path)


def _remove(path: Path) -> None:
    """Removes a probe's file or folder, and what is in it; never by way of a link."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    for item in path.iterdir():
        _remove(item)
    path.rmdir()
