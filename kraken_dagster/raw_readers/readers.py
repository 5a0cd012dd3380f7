"""Which reader reads a raw file: Kraken's own, or else one that the site has added.

A site adds a reader by an entry point of the group `kraken.raw_readers`. Its name is the file's
extension without the dot, in small letters; what it names is called with the path and returns
`RawContents`. It is asked for what Kraken's own readers can't read.
"""

import math
import re
from array import array
from collections.abc import Callable, Mapping, Set
from dataclasses import fields
from importlib.metadata import entry_points
from itertools import pairwise
from pathlib import Path
from typing import Final

from kraken_dagster.model.errors import FileFormatError, UnsupportedRawFile
from kraken_dagster.raw_readers import bruker, sciex, thermo
from kraken_dagster.raw_readers.contents import RawContents, Scans, Trace
from kraken_dagster.raw_readers.traces import OWN_TRACES

Reader = Callable[[Path], RawContents]
GROUP: Final = "kraken.raw_readers"
_OWN: Final[Mapping[str, Reader]] = {
    ".raw": thermo.read,
    ".d": bruker.read,
    ".wiff": sciex.read,
    ".wiff2": sciex.read,
}
_LEVELS = range(1, 11)
_TRACE_NAME = re.compile(r"(?!.*_(rt_min|unit|title)$)[a-z0-9_]{1,100}")
_NEEDED = ("ms_level", "rt_min", "tic")


def read(raw: Path) -> RawContents:
    """What its reader takes from a raw file or folder, which is only read.

    Raises:
        UnsupportedRawFile: there is no reader for it.
        FileFormatError: it is damaged, or the site's reader returns what can't be.
        Exception: whatever the site's reader raises.
    """
    extension = raw.absolute().suffix.lower()
    unsupported = UnsupportedRawFile(
        "There is no reader for such raw files",
        file=raw,
        expected=f"a name that ends in {', '.join(_OWN)}, or an entry point of {GROUP}",
    )
    if extension in _OWN:
        try:
            return _OWN[extension](raw)
        except UnsupportedRawFile as error:
            unsupported = error
    reader = _of_the_site(extension)
    if reader is None:
        raise unsupported
    return _checked(raw, reader(raw))


def _of_the_site(extension: str) -> Reader | None:
    found = [*entry_points(group=GROUP, name=extension.removeprefix("."))] if extension else []
    return found[0].load() if found else None


def _checked(raw: Path, contents: object) -> RawContents:
    if not isinstance(contents, RawContents):
        raise _odd(raw, "RawContents", type(contents).__name__)
    scans = contents.scans
    for field in fields(Scans):
        column = getattr(scans, field.name)
        may_lack = field.name not in _NEEDED
        if not isinstance(column, array) or not (
            len(column) == len(scans) or (may_lack and not column)
        ):
            raise _odd(raw, f"an array of {len(scans)} numbers in {field.name}", "another")
    if not all(level in _LEVELS for level in scans.ms_level):
        raise _odd(raw, "MS levels of 1 to 10", "others")
    if any(after < before for before, after in pairwise(scans.rt_min)):
        raise _odd(raw, "retention times that never fall", "others")
    for name in ("rt_min", "tic", "base_peak", "low_mz", "high_mz"):
        if not all(math.isfinite(value) and value >= 0 for value in getattr(scans, name)):
            raise _odd(raw, f"numbers of 0 or more in {name}", "others")
    for at, trace in enumerate(contents.traces):
        _check_trace(raw, trace, {*OWN_TRACES, *(one.name for one in contents.traces[:at])})
    return contents


def _check_trace(raw: Path, trace: object, taken: Set[str]) -> None:
    if not isinstance(trace, Trace):
        raise _odd(raw, "a Trace", type(trace).__name__)
    if not _TRACE_NAME.fullmatch(trace.name):
        raise _odd(raw, "a name of a-z, 0-9 and _ of a trace", trace.name)
    if trace.name in taken:
        raise _odd(raw, "a name of its own for each trace", trace.name)
    rt, values = trace.rt_min, trace.values
    is_array = isinstance(rt, array) and isinstance(values, array)
    if not is_array or len(rt) != len(values):
        raise _odd(raw, f"as many times as values in trace {trace.name}", "others")
    if not all(map(math.isfinite, (*rt, *values))):
        raise _odd(raw, f"finite numbers in trace {trace.name}", "others")
    if any(after < before for before, after in pairwise(rt)):
        raise _odd(raw, f"times that never fall in trace {trace.name}", "others")


def _odd(raw: Path, expected: str, found: object) -> FileFormatError:
    return FileFormatError(
        f"The site's reader of {raw.suffix} files returns invalid values",
        file=raw,
        expected=expected,
        found=found,
        next_step=f"correct the reader that the entry point of {GROUP} names.",
    )
