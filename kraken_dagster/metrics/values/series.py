"""Numbers of a result table: columns, sums of them, and lengths of texts."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kraken_dagster.metrics.values.rows import as_numbers, double
from kraken_dagster.metrics.values.sentinels import Least

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Series:
    """Numbers of a table: a column, the sum of several row by row, or the lengths of texts."""

    columns: tuple[str, ...]
    are_lengths: bool = False
    least: Least = Least.ANY

    def __str__(self) -> str:
        return ", ".join(self.columns)

    def of(self, batch: "pa.RecordBatch") -> "pa.Array":
        """As doubles; a row where one of the numbers is missing, or stands for a missing one, is
        left out.
        """
        import pyarrow.compute as pc  # noqa: PLC0415

        arrays = [batch.column(name) for name in self.columns]
        if self.are_lengths:
            arrays = [_lengths(array) for array in arrays]
        # Integers of more than 53 bits are rounded, as everywhere.
        numbers, *others = (as_numbers(array) for array in arrays)
        there = pc.is_finite(numbers)
        for array in others:
            # A part may be 0 without the sum being so, but not less.
            there = pc.and_(there, pc.and_(pc.is_finite(array), pc.greater_equal(array, double(0))))
            there = pc.and_(there, pc.greater_equal(numbers, double(0)))
            numbers = pc.add(numbers, array)
        if self.least is Least.ABOVE_0:
            there = pc.and_(there, pc.greater(numbers, double(0)))
        elif self.least is Least.FROM_0:
            there = pc.and_(there, pc.greater_equal(numbers, double(0)))
        complete = not numbers.null_count and pc.all(there, min_count=0).as_py()
        return numbers if complete else numbers.filter(there)


def _lengths(texts: "pa.Array") -> "pa.Array":
    """In characters; where each is a byte, as in sequences, in a fraction of the time."""
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.compute as pc  # noqa: PLC0415

    texts = texts.cast(pa.large_string())
    if pc.all(pc.string_is_ascii(texts), min_count=0).as_py():
        return pc.binary_length(texts)
    return pc.utf8_length(texts)
