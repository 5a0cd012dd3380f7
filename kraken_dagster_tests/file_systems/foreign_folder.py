"""A folder that shows another one with the ways of a foreign file system: SMB, FAT, HFS+.

    python -m kraken_dagster_tests.file_systems.foreign_folder SOURCE MOUNTPOINT WAY[,WAY...]

The ways: `nocase` (capital and small letters are one), `nfd` (kept decomposed, found by either
form), `strip` (dots and spaces at a name's end are not kept), `noutime`, `nochmod`, `nolink`,
`nofsync` (refused), `newino` (another inode number at every look), `fat` (times of two seconds).
No cache of the kernel hides anything.
"""

import errno
import itertools
import os
import sys
import unicodedata

import mfusepy

_STAT = ("st_mode", "st_nlink", "st_size", "st_uid", "st_gid", "st_ino")
# No free inodes are told, and files can be made all the same.
_STATFS = ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_namemax")
_FAT_NS = 2_000_000_000


class ForeignFolder(mfusepy.Operations):
    use_ns = True

    def __init__(self, source: str, ways: set[str]) -> None:
        self.source = source
        self.ways = ways
        self.inodes = itertools.count(1000)

    def kept(self, name: str) -> str:
        """How the file system keeps a name."""
        if "nfd" in self.ways:
            name = unicodedata.normalize("NFD", name)
        return name.rstrip(". ") or name if "strip" in self.ways else name

    def key(self, name: str) -> str:
        """Names with one key are one name."""
        name = self.kept(name)
        return name.casefold() if "nocase" in self.ways else name

    def below(self, path: str) -> str:
        found = self.source
        for part in path.strip("/").split("/") if path != "/" else ():
            wanted = self.key(part)
            names = os.listdir(found) if os.path.isdir(found) else []
            there = next((name for name in names if self.key(name) == wanted), self.kept(part))
            found = os.path.join(found, there)
        return found

    def refuse(self, way: str, number: int = errno.EPERM) -> None:
        if way in self.ways:
            raise mfusepy.FuseOSError(number)

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        facts = os.lstat(self.below(path))
        found = {name: getattr(facts, name) for name in _STAT}
        for kind in "amc":
            time_ns = getattr(facts, f"st_{kind}time_ns")
            found[f"st_{kind}time"] = time_ns - time_ns % _FAT_NS if "fat" in self.ways else time_ns
        return found | ({"st_ino": next(self.inodes)} if "newino" in self.ways else {})

    def readdir(self, path: str, fh: int) -> list[tuple[str, dict[str, int], int]]:
        names = [".", "..", *os.listdir(self.below(path))]
        return [(name, {"st_ino": 1}, 0) for name in names]  # 0 hides an entry

    def statfs(self, path: str) -> dict[str, int]:
        facts = os.statvfs(self.below(path))
        return {name: getattr(facts, name) for name in _STATFS}

    def open(self, path: str, flags: int) -> int:
        return os.open(self.below(path), flags & ~os.O_DIRECT)

    def create(self, path: str, mode: int, fi: object = None) -> int:
        return os.open(self.below(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        return os.pwrite(fh, data, offset)

    def truncate(self, path: str, length: int, fh: int | None = None) -> None:
        os.truncate(self.below(path), length)

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        self.refuse("nofsync", errno.EINVAL)
        os.fsync(fh)
        return 0

    def release(self, path: str, fh: int) -> int:
        os.close(fh)
        return 0

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(self.below(path), mode)

    def rmdir(self, path: str) -> None:
        os.rmdir(self.below(path))

    def unlink(self, path: str) -> None:
        os.unlink(self.below(path))

    def rename(self, old: str, new: str) -> None:
        old_path, new_path = self.below(old), self.below(new)
        if self.key(os.path.basename(old)) == self.key(os.path.basename(new)):
            new_path = os.path.join(os.path.dirname(new_path), self.kept(os.path.basename(new)))
        os.rename(old_path, new_path)

    def link(self, target: str, source: str) -> None:
        self.refuse("nolink")
        os.link(self.below(source), self.below(target))

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> None:
        self.refuse("noutime")
        os.utime(self.below(path), ns=times)

    def chmod(self, path: str, mode: int) -> None:
        self.refuse("nochmod")
        os.chmod(self.below(path), mode)


def main() -> None:
    source, mountpoint, ways = sys.argv[1:]
    folder = ForeignFolder(os.path.abspath(source), set(ways.split(",")))
    mfusepy.FUSE(
        folder,
        mountpoint,
        foreground=True,
        nothreads=True,
        direct_io=True,
        use_ino=True,
        attr_timeout=0,
        entry_timeout=0,
    )


if __name__ == "__main__":
    main()
