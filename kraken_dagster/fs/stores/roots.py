"""Open roots: a store is known by its marker, and worked through under the handle that was asked.

A mount can go at any moment, also between a look at it and the next use of its path, which then
leads to the disk below the mount point. So a root is opened once, its marker is read through that
handle, and everything else is reached through it too: paths begin with `/proc/self/fd/<number>`,
which the kernel takes for that very folder, wherever the mount point leads by then.

A thread that hangs in the file system is left behind, and may come back when the root has long been
closed. Its number then must not lead to another folder: it stays taken, and leads nowhere, as long
as any such thread lives.
"""

import os
import re
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PosixPath

from kraken_dagster.fs.stores.marker import MARKER_NAME, Role
from kraken_dagster.fs.stores.marker_file import marker_of, read_marker
from kraken_dagster.fs.timeouts import anybody_left, bounded
from kraken_dagster.model.errors import CopyStalled, StoreAway

_HANDLES = "/proc/self/fd"
_OCTAL = re.compile(r"\\([0-7]{3})")  # how the kernel writes a space in a mount point
_lock = threading.Lock()
_shown: dict[str, Path] = {}  # by number, as text
_stuck: dict[tuple[Path, str], int] = {}  # how many openings hang, by path and mount
_taken: list[int] = []  # numbers that lead nowhere, and are kept for threads that were left behind


class RootPath(PosixPath):
    """A path through an open root; `shown` is the same for people, and for other processes."""

    @property
    def shown(self) -> Path:
        parts = self.parts
        if len(parts) < 5 or not str(self).startswith(f"{_HANDLES}/"):
            return Path(self)
        return _shown.get(parts[4], Path(*parts[:5])).joinpath(*parts[5:])


def shown(path: Path) -> Path:
    """A path as it means something outside of this block, and this process."""
    return path.shown if isinstance(path, RootPath) else path


@contextmanager
def adopted(handle: int, path: Path) -> Iterator[RootPath]:
    """A root that another process has opened and handed over; closed when the block ends."""
    with _lock:
        _shown[str(handle)] = path
    try:
        yield RootPath(f"{_HANDLES}/{handle}")
    finally:
        with _lock:
            _shown.pop(str(handle), None)
        os.close(handle)


@dataclass(frozen=True)
class OpenRoot:
    """A root that was found to be the store `store_id`."""

    path: RootPath
    role: Role
    store_id: str
    handle: int
    # File systems of folders in it, which may be mounts of their own: device numbers by name.
    parts: dict[str, int] = field(default_factory=dict)

    def has_anything_in(self, name: str) -> bool:
        """Whether a folder in it is there and not empty. Its file system is remembered.

        Raises:
            OSError: it can't be known.
        """
        try:
            part = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.handle)
        except (FileNotFoundError, NotADirectoryError):
            self.parts[name] = os.fstat(self.handle).st_dev
            return False
        try:
            self.parts[name] = os.fstat(part).st_dev
            with os.scandir(part) as entries:
                return next(entries, None) is not None
        finally:
            os.close(part)

    def require_same(self) -> None:
        """Whether it still has its marker, its path leads to it, and its parts are the same.

        Raises:
            StoreAway
        """
        nominal = shown(self.path)
        try:
            marker = marker_of(self.handle).get(self.role)
            now, held = os.stat(nominal), os.fstat(self.handle)
        except OSError as error:
            raise away(nominal, self.role, error.strerror or str(error)) from error
        if marker != self.store_id:
            raise away(nominal, self.role, "its marker is gone")
        if not (now.st_dev == held.st_dev and (now.st_ino == held.st_ino or self._is_there())):
            raise away(nominal, self.role, "another disk, or an empty mount point, by now")
        for name, device in self.parts.items():
            if self._device_of(name) not in (device, None):
                raise away(nominal / name, self.role, "another disk, or a mount point, by now")

    def _device_of(self, name: str) -> int | None:
        try:
            return os.stat(f"{name}/.", dir_fd=self.handle).st_dev
        except FileNotFoundError:
            return None
        except OSError as error:
            raise away(shown(self.path) / name, self.role, str(error)) from error

    def _is_there(self) -> bool:
        """Some mounts give a folder another inode number at every look: the marker tells then."""
        return read_marker(shown(self.path)).get(self.role) == self.store_id


@contextmanager
def opened_root(
    path: Path, role: Role, known: Collection[str], *, timeout_s: float
) -> Iterator[OpenRoot]:
    """The store at `path`, open while the block runs.

    Args:
        known: the ids that are recorded for this role.

    Raises:
        StoreAway: it is not there, is another one, or gives no answer.
    """
    opening = _Opening(path, role, known)
    if opening.is_in_vain:  # no further thread hangs where one does already
        raise away(path, role, "no answer to an earlier look yet")
    try:
        root = bounded(opening.run, timeout_s=timeout_s, what=path)
    except CopyStalled as error:
        opening.give_up()
        raise away(path, role, f"no answer within {timeout_s:.0f} s") from error
    try:
        yield root
    finally:
        close_root(root)


class _Opening:
    """The opening of a root; one that was given up closes what it has opened after all."""

    def __init__(self, path: Path, role: Role, known: Collection[str]) -> None:
        self._path, self._role, self._known = path, role, known
        self._place = path, _mount_of(path)
        self._given_up = self._ended = False
        self._root: OpenRoot | None = None

    @property
    def is_in_vain(self) -> bool:
        """Whether an earlier one hangs in this very mount; another one in its place may answer."""
        return _stuck.get(self._place, 0) > 0

    def run(self) -> OpenRoot:
        try:
            self._root = open_root(self._path, self._role, self._known)
            return self._root
        finally:
            with _lock:
                self._ended, late = True, self._given_up
                if late:
                    _stuck[self._place] -= 1
            if late and self._root is not None:
                close_root(self._root)

    def give_up(self) -> None:
        with _lock:
            if not self._ended:
                self._given_up = True
                _stuck[self._place] = _stuck.get(self._place, 0) + 1
        if not self._given_up and self._root is not None:  # it ended this very moment
            close_root(self._root)


def _mount_of(path: Path) -> str:
    """The id of the mount that a path leads to, as far as its names tell; asks no file system.

    A thread that hangs in a mount keeps its id from being given to another one.
    """
    found, longest = "", -1
    with (
        suppress(OSError),
        open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as all_,
    ):
        for line in all_:
            fields = line.split(" ")
            point = _OCTAL.sub(lambda code: chr(int(code[1], 8)), fields[4])
            if path.is_relative_to(point) and len(point) >= longest:
                found, longest = fields[0], len(point)
    return found


def open_root(path: Path, role: Role, known: Collection[str]) -> OpenRoot:
    """Opens a store's root and looks at its marker; `close_root` is for who calls this.

    Raises:
        StoreAway
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise away(path, role, error.strerror or str(error)) from error
    try:
        store_id = _known_id(handle, path, role, known)
    except BaseException:
        os.close(handle)
        raise
    with _lock:
        _shown[str(handle)] = path
    return OpenRoot(RootPath(f"{_HANDLES}/{handle}"), role, store_id, handle)


def _known_id(handle: int, path: Path, role: Role, known: Collection[str]) -> str:
    try:
        found = marker_of(handle).get(role)
    except OSError as error:
        raise away(path, role, error.strerror or str(error)) from error
    if found is None or found not in known:
        raise away(path, role, _whats_there(handle, found, known=bool(known)))
    return found


def close_root(root: OpenRoot) -> None:
    """Lets go of the root's file system at once; its number leads nowhere from now on."""
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.dup2(nothing, root.handle, inheritable=False)
    finally:
        os.close(nothing)
    with _lock:
        _taken.append(root.handle)
        if anybody_left():
            return
        for number in _taken:
            _shown.pop(str(number), None)
            os.close(number)
        _taken.clear()


def _whats_there(folder: int, found: str | None, *, known: bool) -> str:
    if found is not None:
        return f"the store {found}, which is not recorded in this MongoDB"
    if not known:
        return "no store was initialised yet"
    with suppress(OSError), os.scandir(folder) as entries:
        if next(entries, None) is None:
            return "an empty folder: it is not mounted"
    return f"no {MARKER_NAME}: another disk, or a mount point without its file system"


def part_away(path: Path, role: Role, found: str) -> StoreAway:
    return StoreAway(
        f"A part of the {role} store is away",
        file=path,
        expected="what is recorded in it",
        found=found,
        next_step="mount it, and all goes on by itself. If what was in it is lost for good, put "
        "any file into that folder: then `kraken verify --all` says what is missing.",
    )


def away(path: Path, role: Role, found: str) -> StoreAway:
    return StoreAway(
        f"The {role} store is away",
        file=path,
        expected=f"its marker {MARKER_NAME}",
        found=found,
        next_step=f"mount it, and all goes on by itself; a store that is new, or was moved without "
        f"its marker, is made known by `kraken init-store {role}`. Nothing is written there until "
        "then.",
    )
