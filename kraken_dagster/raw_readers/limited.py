"""Reads raw files in a child process with limits (`clients.limited_child`): a hostile or torn file
costs neither the run nor any other file.
"""

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kraken_dagster.fs.limited.child import call
from kraken_dagster.fs.limited.limits import ReadingLimits
from kraken_dagster.fs.tdf.journal import MOST_BYTES
from kraken_dagster.model.metric_values import Value, storable
from kraken_dagster.raw_readers.contents import Fact, RawContents
from kraken_dagster.raw_readers.metrics import metrics_of
from kraken_dagster.raw_readers.readers import read
from kraken_dagster.raw_readers.traces import to_npz, traces_of

_MB = 1024 * 1024


@dataclass(frozen=True)
class RawReading:
    """What was read of one raw file, as it is kept.

    Args:
        metrics: docs/metrics.md has their names.
        facts: what the file says of instrument, method, sample and times.
        complete, incomplete: as in `RawContents`.
        traces: an npz file (`traces.read_npz`), with `trace_titles` for its names.
    """

    reader: str
    format_version: str
    metrics: Mapping[str, Value]
    facts: Mapping[str, Fact]
    complete: bool | None
    incomplete: str
    traces: bytes
    trace_titles: Mapping[str, str]


def limits_for_raw(limits: ReadingLimits) -> ReadingLimits:
    """With room for a private copy of Bruker's index, which the bound of that copy keeps."""
    return limits.model_copy(update={"written_mb": max(limits.written_mb, MOST_BYTES // _MB)})


def read_raw(raw: Path, *, limits: ReadingLimits, wall_s: float) -> RawReading:
    """What the raw file's reader takes from it.

    Raises:
        UnsupportedRawFile: there is no reader for it.
        FileFormatError: it is damaged or not understood, or reading it exceeds a limit.
        CopyStalled: nothing answers where it is.
    """
    function = f"{__name__}:read_there"
    found = call(function, raw, limits=limits_for_raw(limits), wall_s=wall_s, what=raw)
    return RawReading(**{**found, "traces": base64.b64decode(found["traces"])})


def read_there(raw: Path) -> dict[str, Any]:
    reading = reading_of(read(raw))
    return {**asdict(reading), "traces": base64.b64encode(reading.traces).decode("ascii")}


def reading_of(contents: RawContents) -> RawReading:
    """Metrics and traces of what a reader took from a raw file."""
    traces = traces_of(contents)
    return RawReading(
        reader=contents.reader,
        format_version=contents.format_version,
        metrics=_storable(metrics_of(contents)),
        facts=_storable(contents.facts),
        complete=contents.complete,
        incomplete=contents.incomplete,
        traces=to_npz(traces),
        trace_titles={trace.name: trace.title or trace.unit for trace in traces},
    )


def _storable(values: Mapping[str, Value]) -> dict[str, Value]:
    wanted: dict[object, object] = dict(values.items())
    return storable(wanted)[0]
