"""Chromatograms and pressures of a file, with those of the files before it behind them."""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from kraken_dagster.model.errors import KrakenError
from kraken_dagster.model.raw_file import RawFile
from kraken_dagster.raw_metrics.trace_files import read_traces
from kraken_dagster.raw_readers.contents import Trace
from kraken_dagster.raw_readers.traces import decimated
from kraken_dagster.runtime.services import Services

_BEHIND = 5  # files
_LOOKED_AT = 20  # of those before, as not all have traces
_POINTS, _POINTS_BEHIND = 600, 200
_KEPT = 64  # files of traces in memory, of some 40 kB each
_LEFT_OUT = ("base_peak", "tic_ms2")  # the first says what `tic` says
_DIGITS = 4
_TITLES = {"tic": "Total ion current of MS1 spectra"}

Read = Mapping[str, Trace]


class Traces:
    """Reads files of traces, and keeps the last ones."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, datetime], Read] = OrderedDict()

    def drawn(self, file_id: str, before: Sequence[str]) -> dict[str, Any]:
        """What is drawn of a file.

        Args:
            before: files to compare it with, the newest first.

        Raises:
            UnknownRawFile, FileFormatError
            StoreError: MongoDB can't be asked.
            StoreAway, OutputUnreadable, CopyStalled: the output can't.
        """
        own = self._read(self._services.store.raw_files.current(file_id))
        others = self._behind(before[:_LOOKED_AT]) if own else []
        return {
            "problem": None,
            "traces": [
                {
                    "name": name,
                    "title": _title(name),
                    "own": _points(trace, _POINTS),
                    "before": [
                        {"id": other_id, **_points(found[name], _POINTS_BEHIND)}
                        for other_id, found in others
                        if name in found
                    ],
                }
                for name, trace in own.items()
                if name not in _LEFT_OUT and len(trace.values)
            ],
        }

    def _behind(self, ids: Sequence[str]) -> list[tuple[str, Read]]:
        """The newest of these that have traces; one whose file can't be read is left out."""
        known = self._services.store.raw_files.many(ids)
        found: list[tuple[str, Read]] = []
        for file_id in ids:
            if len(found) == _BEHIND:
                break
            raw_file = known.get(file_id)
            try:
                read = {} if raw_file is None else self._read(raw_file)
            except KrakenError:  # what is asked for is another file
                continue
            if read:
                found.append((file_id, read))
        return found

    def _read(self, raw_file: RawFile) -> Read:
        """Nothing where it was not read, or has no scans."""
        state = raw_file.raw_metrics
        if state is None or state.traces is None:
            return {}
        key = (state.traces, state.at)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        read = read_traces(self._services, state.traces)
        with self._lock:
            self._kept[key] = read
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return read


def _title(name: str) -> str:
    return _TITLES.get(name, name.replace("_", " ").capitalize())


def _points(trace: Trace, most: int) -> dict[str, list[float]]:
    fewer = decimated(trace, most)
    return {
        "x": [round(value, 4) for value in fewer.rt_min],
        "y": [float(f"{value:.{_DIGITS}g}") for value in fewer.values],
    }
