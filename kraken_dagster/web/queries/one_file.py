"""Everything that is known of one file."""

from collections.abc import Sequence
from typing import Any

from kraken_dagster.model.errors import MissingOutputError
from kraken_dagster.operations.file_report import show
from kraken_dagster.raw_metrics.trace_files import read_traces
from kraken_dagster.raw_readers.contents import Trace
from kraken_dagster.runtime.services import Services
from kraken_dagster.web.queries.plain import plain


def one_file(services: Services, file_id: str) -> dict[str, Any]:
    """What `kraken show` tells: state, members, jobs, results with provenance, verdicts, history.

    Raises:
        UnknownRawFile, StoreError
    """
    found = show(services, file_id)
    for result in found["metrics"]:
        result["id"] = result.pop("_id", None)
    for job in found["jobs"]:
        job["id"] = job.pop("_id", None)
    answer: dict[str, Any] = plain(found)
    return answer


def traces_of(services: Services, file_id: str, names: Sequence[str] = ()) -> dict[str, Any]:
    """The traces of a raw file, such as its total ion current: values over retention time.

    `unit` is that of `values`, empty where the file of traces was made before units were kept;
    `rt_unit` is that of `rt_min`.

    Args:
        names: only these, which are its names; none: all.

    Raises:
        UnknownRawFile, StoreError
        MissingOutputError: the file has none, or none of these names.
        StoreAway, OutputUnreadable, CopyStalled, FileFormatError: they can't be read.
    """
    state = services.store.raw_files.current(file_id).raw_metrics
    if state is None or state.traces is None:
        raise MissingOutputError(
            "This raw file has no traces",
            file=file_id,
            found=None if state is None else state.in_words,
            next_step="materialise `raw_metrics` of the raw file in Dagit.",
        )
    traces = read_traces(services, state.traces)
    unknown = [name for name in names if name not in traces]
    if unknown:
        raise MissingOutputError(
            "This raw file has no such trace",
            file=file_id,
            expected=", ".join(traces),
            found=unknown[0],
            next_step="name one that it has.",
        )
    wanted = [trace for name, trace in traces.items() if not names or name in names]
    return {"file": file_id, "traces": [_trace_row(trace) for trace in wanted]}


def _trace_row(trace: Trace) -> dict[str, Any]:
    return {
        "name": trace.name,
        "title": trace.title,
        "unit": trace.unit,
        "rt_unit": "min",
        "rt_min": plain(trace.rt_min.tolist()),
        "values": plain(trace.values.tolist()),
    }
