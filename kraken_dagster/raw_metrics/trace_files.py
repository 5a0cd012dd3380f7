"""The files of traces: `raw_metrics/<YYYY_MM>/<raw file id>.npz` below the output."""

import hashlib
import io
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Final

from kraken_dagster.fs.attributes import Refusals, flush
from kraken_dagster.fs.copying.part_files import open_part, part_path, remove_part, write_all
from kraken_dagster.fs.digests import exists, output_errors
from kraken_dagster.fs.private import make_folders
from kraken_dagster.fs.result_files import opened_below
from kraken_dagster.fs.stores.marker import Role
from kraken_dagster.fs.timeouts import bounded
from kraken_dagster.model.errors import FileFormatError
from kraken_dagster.model.files.vendors import MAX_NAME_BYTES, safe_relative
from kraken_dagster.model.raw_file import RawFile
from kraken_dagster.raw_readers.contents import Trace
from kraken_dagster.raw_readers.traces import read_npz
from kraken_dagster.runtime.services import Services
from kraken_dagster.runtime.stores import gone_meanwhile, opened

FOLDER: Final = "raw_metrics"  # no project's, whose ids are in capitals
ENDING: Final = ".npz"
_PATIENCE_S = 30.0
_MOST_BYTES = 16 * 1024 * 1024


def place_of(raw_file: RawFile, *, marked: bool = False) -> str:
    """Relative to the output. `marked`: a place that no other raw file has, on any store."""
    name = raw_file.id + ENDING
    if marked or len(name.encode()) > MAX_NAME_BYTES:
        mark = "~" + hashlib.md5(raw_file.id.encode(), usedforsecurity=False).hexdigest()[:8]
        room = MAX_NAME_BYTES - len(mark + ENDING)
        name = raw_file.id.encode()[:room].decode(errors="ignore") + mark + ENDING
    return str(PurePosixPath(FOLDER, raw_file.year_month, name))


def keep_traces(services: Services, raw_file: RawFile, content: bytes) -> str:
    """Writes the file of traces, whole or not at all, in place of an older one; its place.

    Raises:
        StoreAway, OutputUnreadable, FileSystemLimit, CopyStalled
    """
    stall_s = services.instrument(raw_file.instrument_id).copy_stall_s
    with opened(services, Role.OUTPUT, timeout_s=stall_s) as root, gone_meanwhile(root):
        path = root.path

        def write() -> str:
            place = place_of(raw_file)
            if _is_anothers(path / safe_relative(place)):
                place = place_of(raw_file, marked=True)
            _write(path / safe_relative(place), content)
            return place

        return bounded(write, timeout_s=stall_s, what=path / FOLDER)


def read_traces(services: Services, place: str) -> Mapping[str, Trace]:
    """The traces in a file that `keep_traces` has written, by name.

    Raises:
        FileFormatError: it isn't there, or is no such file.
        StoreAway, OutputUnreadable, CopyStalled
    """
    relative = safe_relative(place)
    with opened(services, Role.OUTPUT) as root, gone_meanwhile(root):
        path = root.path / relative

        def content() -> bytes | None:
            with output_errors(path):
                try:
                    with opened_below(root.path, path) as file:
                        return file.read(_MOST_BYTES)
                except FileNotFoundError:
                    return None

        found = bounded(content, timeout_s=_PATIENCE_S, what=path)
    if found is None:
        raise FileFormatError(
            "There is no such file of traces",
            file=path,
            next_step="materialise `raw_metrics` of the raw file in Dagit.",
        )
    return read_npz(io.BytesIO(found))


def _is_anothers(path: Path) -> bool:
    """Whether what stands there has a name that is spelt otherwise: on a store that takes `A.raw`
    and `a.raw` for one it is the other file's."""
    with output_errors(path):
        return exists(path) and path.name not in os.listdir(path.parent)


def _write(path: Path, content: bytes) -> None:
    part = part_path(path)
    try:
        with output_errors(path):
            make_folders(path.parent)
            handle = open_part(part)
            try:
                write_all(handle, content)
                flush(handle, Refusals())
            finally:
                os.close(handle)
            os.replace(part, path)
    finally:
        with suppress(OSError):  # its store is gone
            remove_part(part)
