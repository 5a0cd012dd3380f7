"""What reading a result folder gives: the metrics that could be had, and what was wrong."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kraken_dagster.fs.limited.limits import too_much_memory
from kraken_dagster.model.errors import MetricsError
from kraken_dagster.model.metric_values import Value


@dataclass(frozen=True)
class Reading:
    """Metrics by name, None where a program could not tell one; every problem once.

    `notes` say over which rows a metric was made, and what was not there to tell.
    """

    metrics: Mapping[str, Value]
    problems: tuple[MetricsError, ...] = ()
    notes: tuple[str, ...] = ()


class Draft:
    """A reading in the making, which a problem with one metric doesn't end."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.metrics: dict[str, Value] = {}
        self.problems: list[MetricsError] = []
        self.notes: list[str] = []

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """What is wrong within becomes a problem; the metrics so far, and later ones, are kept."""
        try:
            yield
        except MetricsError as problem:
            self.problems.append(problem)
        except MemoryError:
            self.problems.append(too_much_memory(self.folder))

    def reading(self) -> Reading:
        return Reading(self.metrics, tuple(self.problems), tuple(self.notes))
