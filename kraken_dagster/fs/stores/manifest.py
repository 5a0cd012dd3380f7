"""The manifests beside a backup, in the form that `md5sum -c` reads, and `sha256sum -c` or
`xxhsum -c` where second digests are recorded: proof without Kraken.
"""

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from kraken_dagster.fs.attributes import Refusals, flush
from kraken_dagster.fs.copying.part_files import (
    open_part,
    part_path,
    remove_leftovers,
    remove_part,
    rename_into_place,
    set_aside,
    write_all,
)
from kraken_dagster.fs.digests import exists, target_errors
from kraken_dagster.fs.stores.read_only import protect, take_writing
from kraken_dagster.model.files.second_digest import DigestKind
from kraken_dagster.model.files.vendors import MAX_NAME_BYTES
from kraken_dagster.model.raw_file import FileFact

_ENDINGS = {None: ".md5", DigestKind.SHA256: ".sha256", DigestKind.XXH3: ".xxh128"}
MANIFEST_ENDINGS = tuple(_ENDINGS.values())


def write_manifests(
    folder: Path,
    raw_file_id: str,
    facts: Mapping[str, FileFact],
    group: int | None = None,
    before: Mapping[str, FileFact] | None = None,
) -> Path:
    """Leaves `<raw file id>.md5` beside the backup, and `.sha256` or `.xxh128` of second digests.

    `facts` are by path relative to `folder`. `group`: who may read them, and nobody else.
    `before`: what was recorded until now; a manifest of second digests that was true of those, and
    of which there are none now, is set aside.

    Each is written whole or not at all. Something else that stands under its name is set aside, and
    a member of that name keeps it: the manifest then is `<raw file id>.kraken.md5`.

    Returns:
        the path of the `.md5`
    """
    kinds = manifest_kinds(facts)
    for kind in kinds:
        _write_manifest(folder, raw_file_id, facts, kind, group)
    before = before or {}
    for kind in manifest_kinds(before):
        if kind not in kinds:
            _set_aside_stale(manifest_path(folder, raw_file_id, before, kind), before, kind)
    return manifest_path(folder, raw_file_id, facts)


def _set_aside_stale(path: Path, before: Mapping[str, FileFact], kind: DigestKind | None) -> None:
    with target_errors(path):
        if path.is_file() and path.read_bytes() == manifest_text(before, kind).encode():
            set_aside(path)


def manifest_kinds(facts: Mapping[str, FileFact]) -> list[DigestKind | None]:
    """The digests of which there is a manifest; None stands for MD5."""
    kinds = {fact.kind for fact in facts.values()}
    return [None, *(kind for kind in DigestKind if kind in kinds)]


def _write_manifest(
    folder: Path,
    raw_file_id: str,
    facts: Mapping[str, FileFact],
    kind: DigestKind | None,
    group: int | None,
) -> None:
    path = manifest_path(folder, raw_file_id, facts, kind)
    text = manifest_text(facts, kind)
    part = part_path(path)
    try:
        with target_errors(path):
            remove_leftovers(path)
            if exists(path):
                if path.is_file() and path.read_bytes() == text.encode():
                    protect([path], group)
                    return
                set_aside(path)
            handle = open_part(part)
            try:
                write_all(handle, text.encode())
                flush(handle, Refusals())
                take_writing(handle, group)
            finally:
                os.close(handle)
            rename_into_place(part, path)
    finally:
        with suppress(OSError):  # its store is gone: the next manifest removes it
            remove_part(part)


def manifest_path(
    folder: Path,
    raw_file_id: str,
    facts: Mapping[str, FileFact],
    kind: DigestKind | None = None,
) -> Path:
    name = manifest_name(raw_file_id, kind)
    return folder / (manifest_name(f"{raw_file_id}.kraken", kind) if name in facts else name)


def manifest_text(facts: Mapping[str, FileFact], kind: DigestKind | None = None) -> str:
    """Of the members that have a digest of this kind; None: all, with their MD5."""
    lines = []
    for name, fact in sorted(facts.items()):
        if kind is None:
            lines.append(_manifest_line(name, fact.md5))
        elif fact.second is not None and fact.second.kind is kind:
            lines.append(_manifest_line(name, fact.second.hex))
    return "".join(lines)


def manifest_name(raw_file_id: str, kind: DigestKind | None = None) -> str:
    """`<raw file id>.md5`, cut and marked with a digest where no file system would take that."""
    ending = _ENDINGS[kind]
    name = raw_file_id + ending
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    mark = "~" + hashlib.md5(raw_file_id.encode(), usedforsecurity=False).hexdigest()[:8]
    room = MAX_NAME_BYTES - len(mark + ending)
    return raw_file_id.encode()[:room].decode(errors="ignore") + mark + ending


def manifest_names(raw_file_id: str) -> set[str]:
    """Of all that there may be."""
    return {manifest_name(raw_file_id, kind) for kind in _ENDINGS}


def _manifest_line(name: str, digest: str | None) -> str:
    """A line as `md5sum` writes it: a name with a backslash or newline is escaped and marked."""
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    mark = "\\" if escaped != name else ""
    return f"{mark}{digest}  {escaped}\n"
