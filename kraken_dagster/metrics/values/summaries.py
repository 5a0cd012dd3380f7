"""What is made of the numbers of a column: their sum, or mean, deviation and median.

Each is told at once which rows count.
"""

import math
from typing import TYPE_CHECKING

from kraken_dagster.metrics.values.median import MOST_KEPT, MedianSearch
from kraken_dagster.metrics.values.numbers import finite
from kraken_dagster.metrics.values.rows import Rows

if TYPE_CHECKING:
    import pyarrow as pa


class _OfRows:
    """Of which rows, how many there were, and how many of them count."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.counting = self.of = 0

    def begin_pass(self) -> None:
        self.counting = self.of = 0

    def _count(self, counting: int, of: int) -> None:
        self.counting += counting
        self.of += of


class Total(_OfRows):
    """The sum: 0 of a table without rows, None where no row that counts has a number."""

    def __init__(self, rows: Rows) -> None:
        super().__init__(rows)
        self.begin_pass()

    def begin_pass(self) -> None:
        super().begin_pass()
        self._parts: list[float] = []

    def add(self, numbers: "pa.Array", *, counting: int, of: int) -> None:
        import pyarrow.compute as pc  # noqa: PLC0415

        self._count(counting, of)
        if len(numbers):
            self._parts.append(pc.sum(numbers).as_py())

    def end_pass(self) -> bool:
        return True

    @property
    def sum(self) -> float | None:
        return finite(sum(self._parts)) if self._parts or not self.of else None


class Spread(_OfRows):
    """Mean, sample standard deviation (n - 1) and median; None where there are too few rows."""

    def __init__(self, rows: Rows, *, most_kept: int = MOST_KEPT) -> None:
        super().__init__(rows)
        self._search = MedianSearch(most_kept=most_kept)
        self._has_moments = False
        self.begin_pass()

    def begin_pass(self) -> None:
        super().begin_pass()
        self._search.begin_pass()
        if not self._has_moments:
            self._rows, self._mean, self._squares = 0, 0.0, 0.0

    def add(self, numbers: "pa.Array", *, counting: int, of: int) -> None:
        self._count(counting, of)
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
