"""What the judge is told: what was written, what stands on the disks, and what MongoDB says.

The names of the vendors' files and the layout of the backup stand here once more, so that a
mistake in the product's own rules shows.
"""

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from kraken_dagster_tests.chaos.notes import Note

EXTENSIONS = (".raw", ".d", ".wiff")
PART_PREFIX = ".kraken-part-"
MARKER_PREFIX = ".kraken"
ASIDE_ENDING = "alphakraken.bkp"
MANIFEST_ENDINGS = (".md5", ".sha256", ".xxh128")


class Content(NamedTuple):
    """Of one file: size in bytes, MD5 as hex."""

    size: int
    md5: str


Members = Mapping[str, Content]  # by what follows the stem of the raw file: `.raw`, `.d/a.tdf`
Tree = Mapping[str, Content]  # by path relative to a root


@dataclass(frozen=True)
class Acquired:
    """An acquisition as its instrument wrote it.

    Args:
        names: all that it has had; the last is the one that it stands under.
        contents: oldest first; the last is what it ended with, and those before it are what it
            was while it stood still for so long that it seemed over.
        fate: `ok`, `dda`, `corrupted`, `no_main_file` or `fails` (its job does).
        removed: somebody other than Kraken took it from the instrument.
        removed_whole: by then its backup held all of it.
    """

    id: int
    instrument: str
    names: tuple[str, ...]
    contents: tuple[Members, ...]
    fate: str = "ok"
    removed: bool = False
    removed_whole: bool = False

    @property
    def final(self) -> Members:
        return self.contents[-1]


@dataclass(frozen=True)
class Facts:
    """Paths in `instruments` and `backup` begin with the instrument's id.

    Args:
        flipped: backup paths in which a bit was flipped, with what they held from then on.
        foreign: planted files on instruments, which nobody may touch.
        vanished: what the witness saw go from an instrument, and whether the backup was whole.
        jobs_hurt: raw file ids whose job's processes were killed.
        strays: files found below mount points, on the system's own disk.
    """

    acquired: tuple[Acquired, ...] = ()
    instruments: Tree = field(default_factory=dict)
    backup: Tree = field(default_factory=dict)
    output: Tree = field(default_factory=dict)
    raw_files: tuple[dict[str, Any], ...] = ()
    quant_jobs: tuple[dict[str, Any], ...] = ()
    metrics: tuple[dict[str, Any], ...] = ()
    ledger: tuple[Note, ...] = ()
    flipped: Mapping[str, str] = field(default_factory=dict)
    foreign: Tree = field(default_factory=dict)
    vanished: tuple[Note, ...] = ()
    jobs_hurt: frozenset[str] = frozenset()
    strays: tuple[str, ...] = ()


def stem_of(name: str) -> str:
    ending = next((item for item in EXTENSIONS if name.endswith(item)), "")
    return name[: len(name) - len(ending)]


def content_of(path: Path) -> Content:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "md5").hexdigest()
        return Content(file.tell(), digest)


def tree_of(root: Path) -> dict[str, Content]:
    """All regular files below `root`; what goes while one looks is left out."""
    found: dict[str, Content] = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            try:
                if stat.S_ISREG(path.lstat().st_mode):
                    found[str(path.relative_to(root))] = content_of(path)
            except FileNotFoundError:
                continue
    return found


DEBRIS_ENDING = ".partial"  # of what is planted under an acquisition's own name


def members_of(folder: Path, name: str) -> dict[str, Content]:
    """The members of the acquisition `name` as they stand in an instrument's folder."""
    stem, raw = stem_of(name), folder / name
    if raw.is_dir():
        return {f".d/{path}": content for path, content in tree_of(raw).items()}
    beside = [path for path in folder.iterdir() if path.name.startswith(f"{stem}.")]
    paths = [path for path in beside if not path.name.endswith(DEBRIS_ENDING)]
    if name.endswith(".raw"):
        paths = [path for path in paths if path.name == name]
    return {path.name[len(stem) :]: content_of(path) for path in paths if path.is_file()}


def is_ours(path: str) -> bool:
    """Whether a path in the backup is none of a raw file: a manifest, a part, a marker, an old."""
    parts = path.split("/")
    return (
        any(part.startswith(MARKER_PREFIX) for part in parts)
        or path.endswith(MANIFEST_ENDINGS)
        or any(ASIDE_ENDING in part for part in parts)
        or parts[0] == "lost+found"
    )


def acquired_of(notes: Iterable[Note]) -> tuple[Acquired, ...]:
    """What the instruments' notes and those of the faults say, put together by acquisition."""
    found: dict[int, Acquired] = {}
    for note in notes:
        number = note.get("acquisition")
        if note["event"] == "written":
            members = {tail: Content(*item) for tail, item in note["members"].items()}
            before = found.get(number)
            found[number] = Acquired(
                id=number,
                instrument=note["instrument"],
                names=(*(before.names if before else ()), note["name"]),
                contents=(*(before.contents if before else ()), members),
                fate=note["fate"],
            )
        elif note["event"] in ("removed", "renamed") and number in found:
            found[number] = _changed(found[number], note)
    return tuple(found.values())


def _changed(before: Acquired, note: Note) -> Acquired:
    kept = {name: getattr(before, name) for name in before.__dataclass_fields__}
    if note["event"] == "renamed":
        return Acquired(**{**kept, "names": (*before.names, note["to"])})
    return Acquired(**{**kept, "removed": True, "removed_whole": note["whole"]})
