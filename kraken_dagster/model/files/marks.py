"""What a look at a raw file's members shows of their content without reading it."""

import hashlib
from collections.abc import Iterable, Mapping

from pydantic import BaseModel, ConfigDict

FolderScan = tuple[int, int, int]  # size in bytes, and the times of the last write and change in ns

# FAT keeps the time of the last write to two seconds.
_FAT_S = 2.0
# Change times that differ so often although the bytes are the same mean nothing on this mount.
RESTLESS = 2


class Marks(BaseModel):
    """Digests over members: of their sizes and times of the last write, and of those of the last
    change (ctime), which a program can't set back, and which a rename sets."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    written: str
    changed: str


class SourceLook(BaseModel):
    """How a raw file on its instrument looked when its bytes were known to be the backup's.

    `tops` are by what is renamed as one: a folder with all in it, or a file. `mtime` is the main
    file's, in epoch seconds.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")
    tops: dict[str, Marks] = {}
    mtime: float | None = None

    @classmethod
    def of(cls, scans: Mapping[str, FolderScan], *, main: str | None) -> "SourceLook":
        """`looks` are by the members' paths as they are recorded, `main` among them or not."""
        tops = sorted({name.partition("/")[0] for name in scans})
        return cls(
            tops={top: _marks(scans, top) for top in tops},
            mtime=scans[main][1] / 1e9 if main is not None and main in scans else None,
        )

    def is_written_as(self, now: "SourceLook") -> bool:
        return all(self._of(top).written == marks.written for top, marks in now.tops.items())

    def is_changed_as(self, now: "SourceLook") -> bool:
        return all(self._of(top).changed == marks.changed for top, marks in now.tops.items())

    def after(self, now: "SourceLook") -> "SourceLook":
        """The same once what stands there now was proven; what doesn't stays as it was."""
        mtime = self.mtime if now.mtime is None else now.mtime
        return SourceLook(tops={**self.tops, **now.tops}, mtime=mtime)

    def _of(self, top: str) -> Marks:
        return self.tops.get(top, Marks(written="", changed=""))


def is_written_later(recorded: float | None, now: float | None) -> bool:
    """Whether a main file's time of the last write differs by more than file systems round it."""
    return recorded is not None and now is not None and abs(now - recorded) > _FAT_S


def _marks(scans: Mapping[str, FolderScan], top: str) -> Marks:
    within = {name: scan for name, scan in scans.items() if name.partition("/")[0] == top}
    return Marks(
        written=_digest((name, scan[:2]) for name, scan in within.items()),
        changed=_digest((name, scan[2]) for name, scan in within.items()),
    )


def _digest(facts: Iterable[tuple[str, object]]) -> str:
    found = hashlib.sha256()
    for name, fact in sorted(facts):
        found.update(f"{name}\0{fact}\0".encode())
    return found.hexdigest()
