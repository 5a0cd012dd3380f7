"""A folder that shows another one, and answers chosen questions with chosen errors.

    python -m kraken_dagster_tests.file_systems.erring_folder SOURCE MOUNTPOINT RULES_FILE

RULES_FILE is JSON, read at every question, and may be missing: a list of [operation, part of path,
error number]. Operations are those of FUSE: getattr, readdir, open, read. No cache of the kernel
hides an answer.
"""

import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

import mfusepy

_STAT = ("st_mode", "st_nlink", "st_size", "st_uid", "st_gid", "st_ino")
_STATFS = ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_namemax")


class ErringFolder(mfusepy.Operations):
    use_ns = True

    def __init__(self, source: str, rules: Path) -> None:
        self.source = source
        self.rules = rules

    def below(self, path: str, operation: str = "") -> str:
        if self.rules.exists():
            for asked, part, number in json.loads(self.rules.read_text()):
                if asked == operation and part in path:
                    raise mfusepy.FuseOSError(number)
        return self.source + path

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        facts = os.lstat(self.below(path, "getattr"))
        times = {f"st_{kind}time": getattr(facts, f"st_{kind}time_ns") for kind in "amc"}
        return {name: getattr(facts, name) for name in _STAT} | times

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *os.listdir(self.below(path, "readdir"))]

    def readlink(self, path: str) -> str:
        return os.readlink(self.below(path))

    def statfs(self, path: str) -> dict[str, int]:
        facts = os.statvfs(self.below(path))
        return {name: getattr(facts, name) for name in _STATFS}

    def open(self, path: str, flags: int) -> int:
        return os.open(self.below(path, "open"), flags & ~os.O_DIRECT)

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        return os.open(self.below(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        self.below(path, "read")
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        return os.pwrite(fh, data, offset)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        os.truncate(self.below(path), length)
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        os.fsync(fh)
        return 0

    def release(self, path: str, fh: int) -> int:
        os.close(fh)
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        os.mkdir(self.below(path), mode)
        return 0

    def rmdir(self, path: str) -> int:
        os.rmdir(self.below(path))
        return 0

    def unlink(self, path: str) -> int:
        os.unlink(self.below(path))
        return 0

    def rename(self, old: str, new: str) -> int:
        os.rename(self.below(old), self.below(new))
        return 0

    def link(self, target: str, source: str) -> int:
        if os.path.lexists(self.below(target)):
            raise mfusepy.FuseOSError(errno.EEXIST)
        os.link(self.below(source), self.below(target))
        return 0

    def chmod(self, path: str, mode: int) -> int:
        os.chmod(self.below(path), mode)
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        os.utime(self.below(path), ns=times)
        return 0


def main() -> None:
    source, mountpoint, rules = sys.argv[1:]
    folder = ErringFolder(os.path.abspath(source), Path(rules).absolute())
    mfusepy.FUSE(
        folder,
        mountpoint,
        foreground=True,
        nothreads=True,
        direct_io=True,
        attr_timeout=0,
        entry_timeout=0,
    )


if __name__ == "__main__":
    main()
