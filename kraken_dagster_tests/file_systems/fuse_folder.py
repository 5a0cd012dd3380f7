"""A folder that shows another one, counts what is read of it, and can be made to hang.

    python -m kraken_dagster_tests.file_systems.fuse_folder SOURCE MOUNTPOINT COUNTER_FILE

COUNTER_FILE is a JSON object: the bytes read of each path below MOUNTPOINT. As soon as as many
bytes in all were read as the file COUNTER_FILE.stop says, the program stops itself in the middle
of whatever it is asked next, as a share does that hangs: who asks can't even be killed. SIGCONT
makes it go on. Read-only; no cache of the kernel hides a read.
"""

import json
import os
import signal
import sys
from pathlib import Path

import mfusepy

_STAT = ("st_mode", "st_nlink", "st_size", "st_uid", "st_gid")
_STATFS = ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_namemax")


class CountingFolder(mfusepy.Operations):
    use_ns = True

    def __init__(self, source: str, counter: Path) -> None:
        self.source = source
        self.counter = counter
        self.stop = counter.with_name(f"{counter.name}.stop")
        self.read_bytes: dict[str, int] = {}

    def below(self, path: str) -> str:
        if self.stop.exists() and sum(self.read_bytes.values()) >= int(self.stop.read_text()):
            self.stop.unlink()
            os.kill(os.getpid(), signal.SIGSTOP)
        return self.source + path

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        facts = os.lstat(self.below(path))
        times = {f"st_{kind}time": getattr(facts, f"st_{kind}time_ns") for kind in "amc"}
        return {name: getattr(facts, name) for name in _STAT} | times

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *os.listdir(self.below(path))]

    def readlink(self, path: str) -> str:
        return os.readlink(self.below(path))

    def statfs(self, path: str) -> dict[str, int]:
        facts = os.statvfs(self.below(path))
        return {name: getattr(facts, name) for name in _STATFS}

    def open(self, path: str, flags: int) -> int:
        return os.open(self.below(path), os.O_RDONLY)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        self.below(path)
        data = os.pread(fh, size, offset)
        if data:
            self.read_bytes[path[1:]] = self.read_bytes.get(path[1:], 0) + len(data)
        part = self.counter.with_name(f"{self.counter.name}.part")
        part.write_text(json.dumps(self.read_bytes))
        part.replace(self.counter)
        return data

    def release(self, path: str, fh: int) -> int:
        os.close(fh)
        return 0


def main() -> None:
    source, mountpoint, counter = sys.argv[1:]
    folder = CountingFolder(os.path.abspath(source), Path(counter).absolute())
    mfusepy.FUSE(folder, mountpoint, foreground=True, nothreads=True, direct_io=True)


if __name__ == "__main__":
    main()
