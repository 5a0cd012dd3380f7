"""Which module reads which type of metrics.

The type is `metrics_type` of the settings; a new one is a module with a `read` and a line here.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from kraken_dagster.domain.errors import MetricsError
from kraken_dagster.metrics import alphadia, msqc

Value = float | int | str | None
Reader = Callable[[Path], Mapping[str, Value]]


def _read_custom(folder: Path) -> dict[str, Value]:  # noqa: ARG001
    """A program of the laboratory's own, of whose results nothing is known."""
    return {}


READERS: Mapping[str, Reader] = {
    "alphadia": alphadia.read,
    "custom": _read_custom,
    "msqc": msqc.read,
}


def read_metrics(metrics_type: str, folder: Path) -> dict[str, Value]:
    """The metrics in a result folder; None where a program could not tell a figure.

    A `.` in a name, which MongoDB would take for a path, is written `:`.

    Args:
        metrics_type: a key of `READERS`.

    Raises:
        MetricsError: a type that nobody reads.
        MissingOutputError, FileFormatError: as the type's module says.
    """
    reader = READERS.get(metrics_type)
    if reader is None:
        raise MetricsError(
            "Nothing reads metrics of this type",
            file=folder,
            expected=f"one of {', '.join(sorted(READERS))}",
            found=repr(metrics_type),
            next_step="correct `metrics_type` of the settings.",
        )
    return {name.replace(".", ":"): value for name, value in reader(folder).items()}
