"""Reads results in a child process with limits (`clients.limited_child`).

Each function here has a counterpart, whose name ends with `_there`, that the child runs.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kraken_dagster.fs.limited.child import call
from kraken_dagster.fs.limited.error_records import error_from_record, error_to_record
from kraken_dagster.fs.limited.limits import ReadingLimits
from kraken_dagster.fs.result_files import read_text
from kraken_dagster.metrics import alphadia_errors, registry
from kraken_dagster.metrics import custom_function as own_function
from kraken_dagster.metrics.partial import Reading
from kraken_dagster.model.errors import MetricsError, OwnFunctionError, ReadingEnded
from kraken_dagster.model.jobs.software_version import software_version

UNREADABLE_LOG = "__UNREADABLE_LOG"
_LOAD_WITHIN_S = 120.0
_NO_FUNCTIONS: Mapping[str, str] = {}


def read_metrics(
    metrics_type: str,
    folder: Path,
    *,
    own: Mapping[str, str] = _NO_FUNCTIONS,
    limits: ReadingLimits,
    wall_s: float,
) -> Reading:
    """As `registry.read_metrics`; that its process was ended is a problem like any other.

    Raises:
        CopyStalled: the output gives no answer within `wall_s` seconds.
        OutputUnreadable
    """
    function = f"{__name__}:metrics_there"
    try:
        record = call(
            function, metrics_type, folder, dict(own), limits=limits, wall_s=wall_s, what=folder
        )
    except ReadingEnded as problem:
        if metrics_type in own:
            return Reading({}, (_of_own(metrics_type, own[metrics_type], problem),))
        return Reading({}, (problem,))
    problems = [error_from_record(item) for item in record["problems"]]
    return Reading(
        record["metrics"],
        tuple(one for one in problems if isinstance(one, MetricsError)),
        tuple(record["notes"]),
    )


def metrics_there(metrics_type: str, folder: Path, own: Mapping[str, str]) -> dict[str, Any]:
    reading = registry.read_metrics(metrics_type, folder, own=own)
    return {
        "metrics": dict(reading.metrics),
        "problems": [error_to_record(problem) for problem in reading.problems],
        "notes": list(reading.notes),
    }


def error_codes(folder: Path, *, limits: ReadingLimits, wall_s: float) -> list[str]:
    """As `alphadia_errors.error_codes`.

    Raises:
        CopyStalled, OutputUnreadable
    """
    function = f"{alphadia_errors.__name__}:error_codes"
    try:
        codes = call(function, folder, limits=limits, wall_s=wall_s, what=folder)
    except ReadingEnded:
        return [UNREADABLE_LOG]
    return list(codes)


def version_in_logs(
    software_type: str,
    folder: Path,
    names: tuple[str, ...],
    size: int,
    *,
    limits: ReadingLimits,
    wall_s: float,
) -> str | None:
    """The version that the first `size` bytes of one of these files tell.

    Raises:
        CopyStalled, OutputUnreadable
    """
    function, names_ = f"{__name__}:version_there", list(names)
    try:
        found = call(
            function, software_type, folder, names_, size, limits=limits, wall_s=wall_s, what=folder
        )
    except ReadingEnded:
        return None
    return None if found is None else str(found)


def version_there(software_type: str, folder: Path, names: list[str], size: int) -> str | None:
    texts = (read_text(folder, name, limit=size) for name in names)
    return next(filter(None, (software_version(software_type, text) for text in texts)), None)


def require_loadable(metrics_type: str, name: str, *, limits: ReadingLimits) -> None:
    """Raises OwnFunctionError for a function of the site's own that can't be loaded."""
    function = f"{__name__}:loaded_there"
    try:
        call(function, metrics_type, name, limits=limits, wall_s=_LOAD_WITHIN_S, what=name)
    except ReadingEnded as problem:
        raise _of_own(metrics_type, name, problem) from problem


def loaded_there(metrics_type: str, name: str) -> None:
    own_function.load(metrics_type, name)


def _of_own(metrics_type: str, name: str, problem: ReadingEnded) -> OwnFunctionError:
    what = problem.what.replace("Reading it", "it").replace(
        "The process that reads it comes", "its process comes"
    )
    return OwnFunctionError(
        f"The function {name!r} for metrics of type {metrics_type!r} has failed: {what}",
        file=problem.file,
        expected=problem.expected,
        found=problem.found,
        next_step="correct the function, or the results that it reads; what it may take is under "
        "`reading_limits` in instruments.yaml.",
    )
