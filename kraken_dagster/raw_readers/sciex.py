"""Reads what the `.wiff` of a Sciex acquisition tells without Sciex's libraries: a compound file
(OLE2), whose storage `SampleSubtree` has one of its own for each sample.

There are no metrics of scans: nobody has published what is needed for them and can be checked, and
a `.wiff2` is encrypted. The container's tables of sectors tell whether the file was cut off.
"""

import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from kraken_dagster.fs.plain_files import NoPlainFile, open_plain, require_plain
from kraken_dagster.fs.result_files import is_share_failure
from kraken_dagster.model.errors import FileFormatError, UnsupportedRawFile
from kraken_dagster.raw_readers.byte_file import opened
from kraken_dagster.raw_readers.contents import Fact, RawContents

NAME = "sciex"
_MAGIC = bytes.fromhex("D0CF11E0A1B11AE1")
_SCANS = ".scan"
_SAMPLE = re.compile(r"sample\d+", re.IGNORECASE)
_SUBTREE = "samplesubtree"
_FREE, _SPECIAL = 0xFFFFFFFF, 0xFFFFFFFA  # in the table of sectors, which names the next of each
_MOST_ENTRIES = 100_000
_DAMAGED = (OSError, ValueError, IndexError, KeyError, struct.error, RecursionError, OverflowError)


def read(path: Path) -> RawContents:
    """How many samples there are, and when the file was made.

    Raises:
        UnsupportedRawFile: a `.wiff2`.
        FileFormatError: no compound file, a damaged one, or one without its `.wiff.scan`.
    """
    if path.suffix.lower() == ".wiff2":
        raise UnsupportedRawFile("Sciex's .wiff2 is encrypted, and can't be read", file=path)
    with opened(path, "a Sciex .wiff") as file:
        if file.read(0, min(file.size, len(_MAGIC)), "header") != _MAGIC:
            raise _damaged(path, "no such header")
        version = int.from_bytes(file.read(26, 2, "header"), "little")
    with _container(path) as container:
        entries = container.listdir(streams=True, storages=True)
        if len(entries) > _MOST_ENTRIES:
            raise _damaged(path, f"{len(entries)} entries")
        facts = _facts(container, entries)
        problem = _damage(path, container)
    complete, incomplete = _completeness(path, problem)
    return RawContents(
        reader=NAME,
        format_version=f"compound file {version}",
        facts=facts,
        complete=complete,
        incomplete=incomplete,
    )


@contextmanager
def _container(path: Path) -> Iterator[Any]:
    import olefile  # noqa: PLC0415 - only a Sciex file needs it

    try:
        with open_plain(path) as file, olefile.OleFileIO(file) as container:
            yield container
    except FileFormatError:
        raise
    except _DAMAGED as error:
        if isinstance(error, OSError) and is_share_failure(error):
            raise
        raise _damaged(path, error) from error


def _facts(container: Any, entries: list[list[str]]) -> dict[str, Fact]:
    samples = {
        name.lower()
        for top, name, *_ in (entry for entry in entries if len(entry) > 1)
        if top.lower() == _SUBTREE and _SAMPLE.fullmatch(name)
    }
    made = container.root.getctime() or container.root.getmtime()
    return {"samples": len(samples), "file_made": _written(made)}


def _written(time: datetime | None) -> str | None:
    return time.isoformat(timespec="seconds") if time and 1980 <= time.year < 2100 else None


def _damage(path: Path, container: Any) -> str:
    """What is wrong with the container itself: its table names more sectors than there are, say."""
    for _, message in container.parsing_issues:
        return f"The compound file is damaged: {message}."
    size = require_plain(path).st_size
    used = [number for number, following in enumerate(container.fat) if following != _FREE]
    named = [following for following in container.fat if following < _SPECIAL]
    last = max((*used, *named), default=0)
    expected = (last + 2) * container.sector_size  # the header takes one
    return f"Expected {expected} bytes, found {size}." if size < expected else ""


def _completeness(path: Path, problem: str) -> tuple[bool | None, str]:
    """Nothing says of a container without fault that all scans are in the file beside it."""
    if problem:
        return False, problem
    scans = path.with_name(path.name + _SCANS)
    try:
        size = require_plain(scans).st_size
    except (FileNotFoundError, NotADirectoryError, NoPlainFile):
        return False, f"There is no {scans.name}."
    return (None, "The format does not tell.") if size else (False, f"{scans.name} is empty.")


def _damaged(path: Path, found: object) -> FileFormatError:
    return FileFormatError(
        f"{path.name} can't be read",
        file=path,
        expected="a compound file (OLE2)",
        found=str(found) or type(found).__name__,
        next_step="compare it with the instrument's.",
    )
