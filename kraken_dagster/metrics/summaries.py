"""What is made of the numbers of a column: their sum, or mean, deviation and median."""

import math
from typing import TYPE_CHECKING

from kraken_dagster.metrics.median import MOST_KEPT, MedianSearch
from kraken_dagster.metrics.tables import finite

if TYPE_CHECKING:
    import pyarrow as pa


class Total:
    """The sum, 0 of no rows."""

    def __init__(self) -> None:
        self._parts: list[float] = []

    def begin_pass(self) -> None:
        self._parts = []

    def add(self, numbers: "pa.Array") -> None:
        import pyarrow.compute as pc  # noqa: PLC0415

        self._parts.append(pc.sum(numbers, min_count=0).as_py())

    def end_pass(self) -> bool:
        return True

    @property
    def sum(self) -> float | None:
        return finite(sum(self._parts))


class Spread:
    """Mean, sample standard deviation (n - 1) and median; None where there are too few rows."""

    def __init__(self, *, most_kept: int = MOST_KEPT) -> None:
        self._search = MedianSearch(most_kept=most_kept)
        self._has_moments = False
        self.begin_pass()

    def begin_pass(self) -> None:
        self._search.begin_pass()
        if not self._has_moments:
            self._rows, self._mean, self._squares = 0, 0.0, 0.0

    def add(self, numbers: "pa.Array") -> None:
        self._search.add(numbers)
        if not self._has_moments and len(numbers):
            self._add_moments(numbers)

    def end_pass(self) -> bool:
        self._has_moments = True
        return self._search.end_pass()

    @property
    def mean(self) -> float | None:
        return finite(self._mean) if self._rows else None

    @property
    def std(self) -> float | None:
        if self._rows < 2 or not math.isfinite(self._squares):
            return None
        return math.sqrt(self._squares / (self._rows - 1))

    @property
    def median(self) -> float | None:
        return finite(self._search.median)

    def _add_moments(self, numbers: "pa.Array") -> None:
        """Joins the batch's mean and sum of squared deviations to those of the rows before (Chan,
        Golub and LeVeque, 1983), which loses no digits as sums of squares would.
        """
        import pyarrow.compute as pc  # noqa: PLC0415

        rows = len(numbers)
        mean, squares = pc.mean(numbers).as_py(), pc.variance(numbers).as_py() * rows
        apart, together = mean - self._mean, self._rows + rows
        self._mean += apart * rows / together
        self._squares += squares + apart * apart * self._rows * rows / together
        self._rows = together
