"""Looks at a backup without reading it."""

import stat
from collections.abc import Mapping
from pathlib import Path

from kraken_dagster.fs.copying.part_files import PART_PREFIX, REPLACED_ENDING
from kraken_dagster.fs.digests import target_errors
from kraken_dagster.fs.dir_handles import Folder, Seen, walk
from kraken_dagster.fs.stores.manifest import MANIFEST_ENDINGS
from kraken_dagster.model.files.appearance import Appearance, FolderScan
from kraken_dagster.model.files.debris import is_debris
from kraken_dagster.model.files.folder import Kind
from kraken_dagster.model.files.vendors import VendorRules, safe_relative
from kraken_dagster.model.raw_file import FileFact

_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


def appearance(
    folder: Path, raw_file_id: str, recorded: Mapping[str, FileFact], rules: VendorRules
) -> Appearance:
    """How the backup of a raw file in `folder` looks now.

    Raises:
        BackupUnwritable: it can't be looked at.
        UnsafePath: a folder in it leads to another disk.
    """
    with target_errors(folder), Folder.open(folder) as opened:
        if rules.is_folder:
            tree = walk(opened, raw_file_id)
            found, odd = tree.files, list(tree.odd)
            writable = sum(1 for seen in tree.folders.values() if seen.mode & _WRITE)
        else:
            found = {name: seen for name in recorded if (seen := _file(opened, name)) is not None}
            odd, writable = _beside(opened, raw_file_id, rules), 0
        others = {*found, *odd} - recorded.keys()
        extra = [name for name in others if PART_PREFIX not in name and not is_debris(name)]
        members = {name: _scan(found.get(name)) for name in recorded}
        writable += sum(1 for name in recorded if (s := found.get(name)) and s.mode & _WRITE)
    shown = [name.encode("utf-8", "backslashreplace").decode() for name in extra]
    return Appearance.of(members, extra=shown, writable=writable)


def _file(folder: Folder, name: str) -> Seen | None:
    seen = folder.scan_below(str(safe_relative(name)))
    return seen if seen is not None and seen.kind is Kind.FILE else None


def _scan(seen: Seen | None) -> FolderScan | None:
    return None if seen is None else FolderScan(seen.size, seen.mtime_ns, seen.ctime_ns)


def _beside(folder: Folder, raw_file_id: str, rules: VendorRules) -> list[str]:
    """What has come to lie beside a raw file that is no folder, and is named after it."""
    return [
        name
        for name in folder.names()
        if name.startswith(raw_file_id)
        and not rules.matches(name)
        and not name.endswith((*MANIFEST_ENDINGS, REPLACED_ENDING))
    ]
