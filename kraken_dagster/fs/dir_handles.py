"""Open folders: what is in one is reached through its handle and never through a path again.

So no symbolic link leads anywhere else, not even one that is put into a path meanwhile. Operating
system errors pass; who uses this knows which side they mean.
"""

import ctypes
import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from kraken_dagster.fs.copying.uncached import open_uncached
from kraken_dagster.fs.digests import digest_of
from kraken_dagster.model.errors import UnsafePath
from kraken_dagster.model.files.folder import Kind
from kraken_dagster.model.files.second_digest import DigestKind
from kraken_dagster.model.raw_file import FileFact

# Deeper than any instrument's software nests its folders, and few enough handles to hold.
_DEEPEST = 64
_RENAME_NOREPLACE = 1
NO_SUCH_FLAG = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})
_KINDS = {stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.FOLDER, stat.S_IFLNK: Kind.LINK}


# Renames from a folder's handle and a name to another's; 0, or the error number.
KernelRename = Callable[[int, bytes, int, bytes], int]


@dataclass(frozen=True)
class Seen:
    """One entry as it stands: sizes in bytes, times in ns."""

    kind: Kind
    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    links: int
    mode: int

    @classmethod
    def of(cls, facts: os.stat_result) -> "Seen":
        return cls(
            kind=_KINDS.get(stat.S_IFMT(facts.st_mode), Kind.OTHER),
            device=facts.st_dev,
            inode=facts.st_ino,
            size=facts.st_size,
            mtime_ns=facts.st_mtime_ns,
            ctime_ns=facts.st_ctime_ns,
            links=facts.st_nlink,
            mode=stat.S_IMODE(facts.st_mode),
        )

    def is_unchanged(self, now: "Seen | None", *, inodes: bool = True) -> bool:
        """Whether it is the same file, and nobody has written to it.

        Without `inodes` where a mount invents them. A change time can't be set back as
        `mtime_ns` can. For files only: a folder's changes with every deletion in it.
        """
        return now is not None and (
            (self.kind, self.device, self.size, self.mtime_ns, self.ctime_ns)
            == (now.kind, now.device, now.size, now.mtime_ns, now.ctime_ns)
            and (self.inode == now.inode or not inodes)
        )

    def is_same_folder(self, now: "Seen | None") -> bool:
        return now is not None and (
            (self.kind, self.device, self.inode) == (now.kind, now.device, now.inode)
        )

    def is_one_file_with(self, other: "Seen") -> bool:
        """Whether both are, or may be, one file, also where two mounts lead to it.

        The devices differ then, and the inodes too where a mount numbers them by itself. Two files
        that were made apart and are as large don't share the nanosecond of their last change.
        """
        if (self.device, self.inode) == (other.device, other.inode):
            return True
        return (self.size, self.ctime_ns) == (other.size, other.ctime_ns)


@dataclass(frozen=True)
class Folder:
    """An open folder; `path` is for messages only."""

    handle: int
    path: Path

    @classmethod
    def open(cls, path: Path) -> "Folder":
        """Opens a root. Links in its own path are the administrator's, and are followed."""
        return cls(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), path)

    def sub(self, name: str) -> "Folder":
        """Opens a folder in this one; OSError where a link or anything else stands there."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        return Folder(os.open(one_name(name), flags, dir_fd=self.handle), self.path / name)

    def __enter__(self) -> "Folder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self.handle)

    @contextmanager
    def below(self, relative: str) -> "Iterator[Folder]":
        """The folder at `a/b` below this one, opened step by step; this one for an empty path."""
        with ExitStack() as opened:
            folder = self
            for name in relative.split("/") if relative else ():
                folder = opened.enter_context(folder.sub(name))
            yield folder

    def names(self) -> list[str]:
        return sorted(os.listdir(self.handle))

    def itself(self) -> Seen:
        return Seen.of(os.fstat(self.handle))

    def stat(self, name: str) -> Seen | None:
        """What stands under a name, itself where it is a link; None if nothing does."""
        try:
            facts = os.stat(one_name(name), dir_fd=self.handle, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return Seen.of(facts)

    def scan_below(self, relative: str) -> Seen | None:
        """The same for a path below this folder; None also where one of its folders is missing,
        or is none."""
        parent, _, name = relative.rpartition("/")
        try:
            with self.below(parent) as folder:
                return folder.stat(name)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def invents(self, relative: str) -> tuple[bool, bool]:
        """Whether two looks in a row show other inodes, and other change times, of one file."""
        one, other = self.scan_below(relative), self.scan_below(relative)
        if one is None or other is None:
            return False, False
        return one.inode != other.inode, one.ctime_ns != other.ctime_ns

    def read(
        self,
        relative: str,
        *,
        second: DigestKind | None = None,
        on_bytes: Callable[[int], None] = lambda _: None,
    ) -> tuple[Seen, FileFact]:
        """A file's identity, and the size, MD5 and `second` digest of what its disk holds."""
        parent, _, name = relative.rpartition("/")
        with self.below(parent) as folder:
            handle = open_uncached(one_name(name), dir_fd=folder.handle)
            try:
                seen = Seen.of(os.fstat(handle))
                return seen, digest_of(handle, second=second, on_bytes=on_bytes)
            finally:
                os.close(handle)


@dataclass
class Tree:
    """Everything below a folder, by path relative to where the walk began."""

    files: dict[str, Seen] = field(default_factory=dict)
    folders: dict[str, Seen] = field(default_factory=dict)
    odd: dict[str, Seen] = field(default_factory=dict)  # links and special files


def walk(folder: Folder, name: str) -> Tree:
    """What stands under `name`, and all below it; paths begin with `name`.

    Raises:
        UnsafePath: folders that are nested too deep, or lead to another disk.
    """
    tree = Tree()
    _walk(folder, name, name, tree)
    return tree


def _walk(folder: Folder, name: str, relative: str, tree: Tree) -> None:
    seen = folder.stat(name)
    if seen is None:
        return
    if seen.kind is Kind.FILE:
        tree.files[relative] = seen
    elif seen.kind is not Kind.FOLDER:
        tree.odd[relative] = seen
    else:
        if relative.count("/") >= _DEEPEST or seen.device != folder.itself().device:
            raise UnsafePath(
                "Folders that are nested too deep, or that lead to another disk",
                file=folder.path / name,
                next_step="see what that folder is, and move it out of the raw file's folder.",
            )
        tree.folders[relative] = seen
        with folder.sub(name) as inner:
            for item in inner.names():
                _walk(inner, item, f"{relative}/{item}", tree)


def one_name(name: str) -> str:
    """`name` if it is that of an entry of one folder; UnsafePath otherwise."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise UnsafePath("Not the name of an entry of a folder", file=name)
    return name


def renameat2(old: int, old_name: bytes, new: int, new_name: bytes) -> int:
    """The kernel's own rename that replaces nothing, which SMB mounts know too."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:  # a C library without it
        return errno.ENOSYS
    arguments = (old, ctypes.c_char_p(old_name), new, ctypes.c_char_p(new_name))
    done = call(*arguments, ctypes.c_uint(_RENAME_NOREPLACE))
    return 0 if done == 0 else ctypes.get_errno()


def rename(
    folder: Folder,
    name: str,
    target: Folder,
    target_name: str,
    *,
    kernel: KernelRename = renameat2,
) -> None:
    """Renames without replacing anything.

    Where the kernel or the file system has no such rename, this looks first and then renames. It
    does not promise then that what comes to stand at the target in that instant is not replaced;
    the file's lease keeps other Krakens away, not the instrument's own software.

    Raises:
        FileExistsError: something has the target's name.
        OSError
    """
    old, new = os.fsencode(one_name(name)), os.fsencode(one_name(target_name))
    number = kernel(folder.handle, old, target.handle, new)
    if number in NO_SUCH_FLAG:
        if target.stat(target_name) is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target_name)
        os.rename(old, new, src_dir_fd=folder.handle, dst_dir_fd=target.handle)
    elif number != 0:
        raise OSError(number, os.strerror(number), target_name)
    fsync(target)
    if target.handle != folder.handle:
        fsync(folder)


def fsync(folder: Folder) -> None:
    with suppress(OSError):  # some network file systems can't, and have nothing to lose by it
        os.fsync(folder.handle)
