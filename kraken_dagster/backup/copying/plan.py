"""What is copied, and what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kraken_dagster.fs.copying.part_files import PART_PREFIX
from kraken_dagster.fs.io_priority import Ionice
from kraken_dagster.fs.rate_limit import RateLimit
from kraken_dagster.model.errors import UnsafePath
from kraken_dagster.model.files.marks import FolderScan
from kraken_dagster.model.files.second_digest import DigestKind
from kraken_dagster.model.raw_file import FileFact


@dataclass(frozen=True)
class CopyPlan:
    """What is copied: `members` maps paths below `source_folder` to paths below `target_folder`.

    `target_top` is the raw file's own name in the backup; for a folder all targets are below it.
    `overwrite` sets aside what else stands there. `read_only`: nobody has the right to write to
    what is proven, nor to its folder where the raw file is one. `group`: who may then read it, and
    nobody else. `attempt`: what tells this backup from any other, so that a copy that died is gone
    on with; None: it is made anew. `digests`: of which targets a second digest is taken.
    `rate_limit`: of what is read from the source. `ionice`: the I/O priority of copying threads.
    """

    source_folder: Path
    target_folder: Path
    members: Mapping[str, str]
    target_top: str
    is_folder: bool
    overwrite: bool = False
    threads: int = 4
    stall_s: float = 600.0
    read_only: bool = False
    group: int | None = None
    attempt: str | None = None
    digests: Mapping[str, DigestKind] = field(default_factory=dict)
    rate_limit: RateLimit = field(default_factory=RateLimit)
    ionice: Ionice | None = None


@dataclass(frozen=True)
class CopyResult:
    """`facts` by path below the target folder; how many members were copied, how many proven.

    `looks` are those of the source's members. `refused` is what the target's file system refused
    and the proof doesn't need, in words.
    """

    facts: Mapping[str, FileFact]
    copied: int
    proven: int
    copied_bytes: int
    seconds: float
    set_aside: tuple[Path, ...] = ()
    refused: tuple[str, ...] = ()
    scans: Mapping[str, FolderScan] = field(default_factory=dict)


def refuse_our_own_names(plan: CopyPlan) -> None:
    """A member that is named like a temporary file of ours would be removed as a dead copy's."""
    for member in plan.members:
        if any(part.startswith(PART_PREFIX) for part in Path(member).parts):
            raise UnsafePath(
                "A file in the raw file is named like Kraken's own unfinished copies",
                file=plan.source_folder / member,
                next_step="if a `kraken restore` died there, let it run again; else rename the "
                "file on the instrument.",
            )
