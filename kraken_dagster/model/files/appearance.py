"""How a backup looks: what tells that somebody was at it, without a byte being read."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

# Change times that differ so often although the bytes are the same mean nothing on this store.
_RESTLESS = 2
_EXTRA_KEPT = 20


@dataclass(frozen=True)
class FolderScan:
    """One member: size in bytes, times in ns."""

    size: int
    mtime_ns: int
    ctime_ns: int


class Appearance(BaseModel):
    """What was seen of a backup when its bytes had just been proven.

    `looks` and `changes` are digests over all members, so that 40,000 take no more room than one:
    of their sizes and times of modification, and of the times of their last change (ctime), which
    a program can't set back. `extra` are files in its folder that are no members, the first of so
    many. `writable`: of how many members or folders somebody has the right to write.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")
    members: int
    looks: str
    changes: str
    extra: list[str] = []
    extra_files: int = 0
    writable: int = 0
    # How often change times differed, and the bytes did not.
    restless: int = 0

    @classmethod
    def of(
        cls,
        members: Mapping[str, FolderScan | None],
        *,
        extra: Sequence[str] = (),
        writable: int = 0,
    ) -> "Appearance":
        """`members` are by path; None for one that is missing."""
        return cls(
            members=len(members),
            looks=_digest(
                (name, None if scan is None else (scan.size, scan.mtime_ns))
                for name, scan in members.items()
            ),
            changes=_digest(
                (name, None if scan is None else scan.ctime_ns) for name, scan in members.items()
            ),
            extra=[*sorted(extra)[:_EXTRA_KEPT]],
            extra_files=len(extra),
            writable=writable,
        )

    def is_as(self, before: "Appearance") -> bool:
        """Whether nothing tells that a byte has changed since."""
        if (self.members, self.looks) != (before.members, before.looks):
            return False
        return self.changes == before.changes or before.restless >= _RESTLESS

    def proven_after(self, before: "Appearance | None") -> "Appearance":
        """The same to be recorded, now that the bytes were found to be what they were."""
        if before is None or (self.members, self.looks) != (before.members, before.looks):
            return self
        differs = self.changes != before.changes
        return self.model_copy(update={"restless": before.restless + differs})

    @property
    def extra_names(self) -> tuple[int, list[str]]:
        return self.extra_files, self.extra


def _digest(facts: Iterable[tuple[str, object]]) -> str:
    digest = hashlib.sha256()
    for name, fact in sorted(facts, key=lambda pair: pair[0]):
        digest.update(f"{name}\0{fact}\0\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
