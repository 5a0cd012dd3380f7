"""The manifest beside a backup, in the form that `md5sum -c` reads: proof without Kraken."""

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
from kraken_dagster.model.files.vendors import MAX_NAME_BYTES
from kraken_dagster.model.raw_file import FileFact

MANIFEST_ENDING = ".md5"


def write_manifest(
    folder: Path, raw_file_id: str, facts: Mapping[str, FileFact], group: int | None = None
) -> Path:
    """Leaves `<raw file id>.md5` beside the backup, in the form that `md5sum -c` reads.

    `facts` are by path relative to `folder`. `group`: who may read it, and nobody else.

    Written whole or not at all. Something else that
    stands under its name is set aside, and a member of that name keeps it: the manifest then
    is `<raw file id>.kraken.md5`.
    """
    path = manifest_path(folder, raw_file_id, facts)
    text = manifest_text(facts)
    part = part_path(path)
    try:
        with target_errors(path):
            remove_leftovers(path)
            if exists(path):
                if path.is_file() and path.read_bytes() == text.encode():
                    protect([path], group)
                    return path
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
    return path


def manifest_path(folder: Path, raw_file_id: str, facts: Mapping[str, FileFact]) -> Path:
    name = manifest_name(raw_file_id)
    return folder / (manifest_name(f"{raw_file_id}.kraken") if name in facts else name)


def manifest_text(facts: Mapping[str, FileFact]) -> str:
    return "".join(_manifest_line(name, fact) for name, fact in sorted(facts.items()))


def manifest_name(raw_file_id: str) -> str:
    """`<raw file id>.md5`, cut and marked with a digest where no file system would take that."""
    name = raw_file_id + MANIFEST_ENDING
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    mark = "~" + hashlib.md5(raw_file_id.encode(), usedforsecurity=False).hexdigest()[:8]
    room = MAX_NAME_BYTES - len(mark + MANIFEST_ENDING)
    return raw_file_id.encode()[:room].decode(errors="ignore") + mark + MANIFEST_ENDING


def _manifest_line(name: str, fact: FileFact) -> str:
    """A line as `md5sum` writes it: a name with a backslash or newline is escaped and marked."""
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    mark = "\\" if escaped != name else ""
    return f"{mark}{fact.md5}  {escaped}\n"
