"""Which module reads which type of metrics.

The type is `metrics_type` of the settings. A new one is a module with a `read` and a line here, or
a function of the site's own, named in instruments.yaml (`own`).
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from kraken_dagster.fs.stores.roots import shown
from kraken_dagster.metrics import alphadia, diann, msqc, skyline
from kraken_dagster.metrics import custom_function as own_function
from kraken_dagster.metrics.mzqc import reader as mzqc
from kraken_dagster.metrics.partial import Reading
from kraken_dagster.model.errors import MetricsError
from kraken_dagster.model.metric_values import TYPE_CUSTOM, faults_in_words, storable

Reader = Callable[[Path], Reading]


def _read_custom(folder: Path) -> Reading:  # noqa: ARG001
    """A program of the laboratory's own, of whose results nothing is known."""
    return Reading({})


READERS: Mapping[str, Reader] = {
    "alphadia": alphadia.read,
    TYPE_CUSTOM: _read_custom,
    "diann": diann.read,
    "msqc": msqc.read,
    "mzqc": mzqc.read,
    "skyline": skyline.read,
}
_NO_FUNCTIONS: Mapping[str, str] = {}


def read_metrics(
    metrics_type: str, folder: Path, *, own: Mapping[str, str] = _NO_FUNCTIONS
) -> Reading:
    """What the result folder has of metrics, and everything that is wrong with it.

    A `.` in a name, which MongoDB would take for a path, is written `:`. Of metrics that MongoDB
    could not hold there is a problem in their place.

    Args:
        metrics_type: a key of `READERS` or of `own`.
        own: the site's own functions by type, as `package.module:function`.
    """
    if metrics_type in own:
        return own_function.read(metrics_type, own[metrics_type], shown(folder))
    reader = READERS.get(metrics_type)
    if reader is None:
        return Reading({}, (_unknown(metrics_type, folder, own),))
    reading = reader(folder)
    metrics, faults = storable(reading.metrics)
    if not faults:
        return Reading(metrics, reading.problems, reading.notes)
    problem = MetricsError(
        "Metrics can't be stored under their names",
        file=folder,
        found=faults_in_words(faults),
        next_step="look into the result files for invalid names of columns or peptides.",
    )
    return Reading(metrics, (*reading.problems, problem), reading.notes)


def _unknown(metrics_type: str, folder: Path, own: Mapping[str, str]) -> MetricsError:
    return MetricsError(
        "Nothing reads metrics of this type",
        file=folder,
        expected=f"one of {', '.join(sorted({*READERS, *own}))}",
        found=repr(metrics_type),
        next_step="correct `metrics_type` of the settings, or name a function for it under "
        "`metrics` in instruments.yaml.",
    )
