"""A trace with as many points as a reader can take in."""

from itertools import pairwise
from typing import Any

from kraken_dagster.runtime.services import Services
from kraken_dagster.web.queries.one_file import traces_of

MOST_POINTS = 200


def thinned(services: Services, file_id: str, name: str, points: int) -> dict[str, Any]:
    """Of each of `points` stretches the highest value, at its retention time in minutes.

    Raises:
        UnknownRawFile, StoreError
        MissingOutputError: the file has no such trace.
        StoreAway, OutputUnreadable, CopyStalled, FileFormatError: it can't be read.
    """
    (trace,) = traces_of(services, file_id, [name])["traces"]
    measured = [
        (value, at)
        for value, at in zip(trace["values"], trace["rt_min"], strict=True)
        if value is not None and at is not None
    ]
    count = min(points, len(measured))
    edges = [len(measured) * number // count for number in range(count + 1)] if count else [0]
    highest = [max(measured[a:b]) for a, b in pairwise(edges)]
    return {
        "file": file_id,
        "name": name,
        "measured_unit": trace["unit"],
        "points_measured": len(measured),
        "highest": max(measured)[0] if measured else None,
        "highest_at_rt_min": max(measured)[1] if measured else None,
        "rt_min": [round(at, 3) for _, at in highest],
        "values": [float(f"{value:.5g}") for value, _ in highest],
    }
