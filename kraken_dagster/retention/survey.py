"""Lists what stands on an instrument of a raw file that was archived; reads no file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kraken_dagster.fs.dir_handles import Folder, Seen, Tree, walk
from kraken_dagster.fs.instrument_folder import (
    instrument_errors,
    open_archive_folder,
    open_instrument,
)
from kraken_dagster.model.errors import PurgeRefused
from kraken_dagster.model.files.debris import is_debris
from kraken_dagster.model.files.names import folded
from kraken_dagster.model.files.vendors import RULES, Vendor, members
from kraken_dagster.model.raw_file import FileFact
from kraken_dagster.model.retention.rules import require_record

_LOOK = "see what it is, and move it away if it isn't needed. It is scanned again by itself."


@dataclass(frozen=True)
class Target:
    """A raw file that was archived: `recorded` by path below `Backup/` and `backup_folder`."""

    raw_file_id: str
    vendor: Vendor
    recorded: Mapping[str, FileFact]
    instrument_folder: Path
    backup_folder: Path


@dataclass(frozen=True)
class Survey:
    """What stands on the instrument, all of it in the record; `gone` are recorded and not there.

    `debris` is in the record neither: it stays, with the folders that hold it.
    """

    files: Mapping[str, Seen]
    folders: Mapping[str, Seen]
    gone: tuple[str, ...]
    debris: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        return sum(seen.size for seen in self.files.values())

    @property
    def is_empty(self) -> bool:
        """Whether nothing of it is left but what will stay for ever."""
        return not self.files and all(map(self.stays, self.folders))

    def stays(self, folder: str) -> bool:
        return any(name.startswith(f"{folder}/") for name in self.debris)


def survey(target: Target) -> Survey:
    """Lists what stands there of the raw file.

    Raises:
        PurgeRefused, UnsafePath: something that must be looked at by a person.
        NotRecorded: the record has no size or digest, or is of something else.
        FolderError, InstrumentBusy: the instrument is away, or doesn't answer as it should.
    """
    require_record(target.vendor, target.raw_file_id, target.recorded)
    tree = Tree()
    with (
        open_instrument(target.instrument_folder) as root,
        open_archive_folder(root) as aside,
        instrument_errors(aside.path / target.raw_file_id),
    ):
        for name in _names(target, aside):
            found = walk(aside, name)
            tree.files |= found.files
            tree.folders |= found.folders
            tree.odd |= found.odd
    debris = {name for name in tree.files if is_debris(name)} - target.recorded.keys()
    for name in debris:
        del tree.files[name]
    _refuse_unknown(target, tree)
    gone = tuple(sorted(target.recorded.keys() - tree.files.keys()))
    return Survey(tree.files, tree.folders, gone, tuple(sorted(debris)))


def _names(target: Target, aside: Folder) -> list[str]:
    """The entries of `Backup` that are this raw file's, or may be taken for it.

    An instrument's disk knows no case, so a name that differs in nothing else is looked at too;
    the record doesn't have it then, and that stops the purge.
    """
    names = aside.names()
    plain = {name: folded(name) for name in names}
    wanted = folded(target.raw_file_id)
    if not RULES[target.vendor].has_companions:
        return [name for name in names if plain[name] == wanted]
    ours = set(members(target.vendor, wanted, plain.values()))
    return [name for name in names if plain[name] in ours or name in target.recorded]


def _refuse_unknown(target: Target, tree: Tree) -> None:
    if tree.odd:
        raise refused(target, "A link or a special file stands there", min(tree.odd))
    if unknown := sorted(tree.files.keys() - target.recorded.keys()):
        raise refused(target, "A file that the record doesn't have", unknown[0])
    top = target.raw_file_id if RULES[target.vendor].is_folder else None
    for folder in sorted(tree.folders):
        if top is None or (folder != top and not folder.startswith(f"{top}/")):
            raise refused(target, "A folder that the record doesn't have", folder)
    for name, seen in sorted(tree.files.items()):
        if seen.links > 1:
            raise refused(target, "The file has another name too (a hard link)", name)
        if seen.size != target.recorded[name].size:
            expected = f"{target.recorded[name].size} bytes"
            raise refused(
                target,
                "The file on the instrument is not what was backed up",
                name,
                expected=expected,
                found=f"{seen.size} bytes",
            )


def refused(
    target: Target,
    what: str,
    where: object,
    *,
    expected: str | None = None,
    found: str | None = None,
) -> PurgeRefused:
    return PurgeRefused(
        f"{what}, so nothing of this raw file is deleted",
        file=f"{target.raw_file_id}: {where}",
        expected=expected,
        found=found,
        next_step=_LOOK,
    )
