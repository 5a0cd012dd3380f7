"""A share or a store that can be made to fail: a FUSE mount that passes all on to a folder.

    python -m kraken_dagster_tests.chaos.fuse_through SOURCE MOUNTPOINT CONTROL

While the file CONTROL holds the name of an error (`EIO`, `ESTALE`, `EACCES`, ...), whatever is
asked fails with it; with `EROFS` only what would write. SIGSTOP makes the share hang, SIGCONT lets
it go on. Renames with flags are refused, as many such file systems do.
"""

import errno
import os
import sys
from pathlib import Path
from typing import Any

import mfusepy

_STAT = ("st_mode", "st_nlink", "st_size", "st_uid", "st_gid", "st_ino", "st_blocks")
# No free inodes are told, and files can be made all the same.
_STATFS = ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_namemax")


class Through(mfusepy.Operations):
    use_ns = True

    def __init__(self, source: str, control: Path) -> None:
        self.source = source
        self.control = control

    def init_with_config(self, conn_info: Any, config: Any) -> None:
        if config is not None:
            config.use_ino = 1
            config.attr_timeout = config.entry_timeout = 0.0

    def below(self, path: str, *, writes: bool = False) -> str:
        """The path in the source; the error that is switched on, if there is one."""
        name = self._refusal()
        if name and (writes or name != "EROFS"):
            raise mfusepy.FuseOSError(getattr(errno, name))
        return self.source + path

    def _refusal(self) -> str:
        try:
            return self.control.read_text().strip()
        except FileNotFoundError:
            return ""

    def access(self, path: str, amode: int) -> int:
        if not os.access(self.below(path), amode):
            raise mfusepy.FuseOSError(errno.EACCES)
        return 0

    def chmod(self, path: str, mode: int) -> int:
        os.chmod(self.below(path, writes=True), mode)
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        os.chown(self.below(path, writes=True), uid, gid, follow_symlinks=False)
        return 0

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        flags = os.O_RDWR | os.O_CREAT | (fi & os.O_EXCL if isinstance(fi, int) else 0)
        return os.open(self.below(path, writes=True), flags, mode)

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        self.below(path, writes=True)
        os.fsync(fh)
        return 0

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        facts = os.lstat(self.below(path))
        times = {f"st_{kind}time": getattr(facts, f"st_{kind}time_ns") for kind in "amc"}
        return {name: getattr(facts, name) for name in _STAT} | times

    def link(self, target: str, source: str) -> int:
        os.link(self.below(source), self.below(target, writes=True))
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        os.mkdir(self.below(path, writes=True), mode)
        return 0

    def open(self, path: str, flags: int) -> int:
        writes = bool(flags & (os.O_WRONLY | os.O_RDWR))
        kept = flags & (os.O_ACCMODE | os.O_APPEND | os.O_TRUNC | os.O_NOFOLLOW)
        return os.open(self.below(path, writes=writes), kept)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        self.below(path)
        return os.pread(fh, size, offset)

    def readdir(self, path: str, fh: int) -> list[Any]:
        """With inodes: names without one are not shown where `use_ino` is on."""
        with os.scandir(self.below(path)) as found:
            entries = [(item.name, item.inode()) for item in found]
        shown = [(".", 1), ("..", 1), *entries]
        return [(name, {"st_mode": 0, "st_ino": inode}, 0) for name, inode in shown]

    def readlink(self, path: str) -> str:
        return os.readlink(self.below(path))

    def release(self, path: str, fh: int) -> int:
        os.close(fh)
        return 0

    def rename(self, old: str, new: str) -> int:
        os.rename(self.below(old, writes=True), self.below(new, writes=True))
        return 0

    def rmdir(self, path: str) -> int:
        os.rmdir(self.below(path, writes=True))
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        facts = os.statvfs(self.below(path))
        return {name: getattr(facts, name) for name in _STATFS}

    def symlink(self, target: str, source: str) -> int:
        os.symlink(source, self.below(target, writes=True))
        return 0

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        os.truncate(self.below(path, writes=True), length)
        return 0

    def unlink(self, path: str) -> int:
        os.unlink(self.below(path, writes=True))
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        os.utime(self.below(path, writes=True), ns=times)
        return 0

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        self.below(path, writes=True)
        return os.pwrite(fh, data, offset)


class Mount(mfusepy.FUSE):
    def rename_fuse_3(self, old: bytes, new: bytes, flags: int) -> int:
        if flags:  # without these it would replace what a rename must not replace
            raise mfusepy.FuseOSError(errno.EINVAL)
        return int(super().rename_fuse_3(old, new, flags))


def main() -> None:
    source, mountpoint, control = sys.argv[1:]
    operations = Through(os.path.abspath(source), Path(control).absolute())
    Mount(operations, mountpoint, foreground=True, nothreads=True, direct_io=True)


if __name__ == "__main__":
    main()
