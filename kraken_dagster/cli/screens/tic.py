"""`kraken show ID --tic`: the chromatogram of a raw file in the terminal."""

from kraken_dagster.cli.common import print_json, say
from kraken_dagster.model.errors import FileFormatError
from kraken_dagster.raw_metrics.trace_files import read_traces
from kraken_dagster.raw_readers.plot import in_a_terminal
from kraken_dagster.runtime.services import Services


def show_tic(services: Services, raw_file_id: str, *, as_json: bool) -> None:
    """
    Raises:
        UnknownRawFile
        FileFormatError: there are no traces of it.
        StoreAway, OutputUnreadable, CopyStalled
    """
    state = services.store.raw_files.get(raw_file_id).raw_metrics
    if state is None or state.traces is None:
        raise FileFormatError(
            "There is no chromatogram of this raw file",
            file=raw_file_id,
            found="it was not read yet" if state is None else state.in_words,
            next_step="materialise `raw_metrics` of it in Dagit.",
        )
    traces = read_traces(services, state.traces)
    if as_json:
        points = {
            name: {"rt_min": trace.rt_min.tolist(), "values": trace.values.tolist()}
            for name, trace in traces.items()
        }
        print_json(points)
        return
    for name in ("tic", "pressure_1"):
        if name in traces and len(traces[name].values):
            say(f"{name} of {raw_file_id}")
            for line in in_a_terminal(traces[name]):
                say(line)
