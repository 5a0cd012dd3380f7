"""Which rows of a table count: those of targets, found with enough confidence.

Every summary over rows is given one of these, so that none can be written without a thought of
it.
"""

import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kraken_dagster.metrics.values.numbers import INFINITE, MISSING, OF_WINDOWS

if TYPE_CHECKING:
    import pyarrow as pa

Q_LIMIT = 0.01


@dataclass(frozen=True)
class Qualifier:
    """Rows count whose number in the column is from 0 to `most`; one without a number doesn't.

    Args:
        names: what the column is called in versions of the program.
    """

    names: tuple[str, ...]
    most: float

    def column_in(self, columns: Collection[str]) -> str | None:
        return next((name for name in self.names if name in columns), None)

    @property
    def words(self) -> str:
        return "= 0" if self.most == 0 else f"<= {self.most:g}"

    def allows(self, number: float | None) -> bool:
        return number is not None and 0 <= number <= self.most


@dataclass(frozen=True)
class Rows:
    """The rows of one table that count, by the columns that it has."""

    limits: tuple[tuple[str, float], ...] = ()
    words: str = "all rows"

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(column for column, _ in self.limits)

    def counting(self, batch: "pa.RecordBatch") -> "pa.RecordBatch":
        """The batch without the rows that don't count."""
        import pyarrow.compute as pc  # noqa: PLC0415

        for column, most in self.limits:
            numbers = as_numbers(batch.column(column))
            from_0 = pc.greater_equal(numbers, double(0))
            # a row whose number is missing is left out too
            counts = pc.and_(from_0, pc.less_equal(numbers, double(most)))
            if numbers.null_count or not pc.all(counts, min_count=0).as_py():
                batch = batch.filter(counts)
        return batch


# For tables of which every row is a run, and that have no column which says more.
EVERY_RUN = Rows(words="all rows, each of which is a run")


def rows_that_count(qualifiers: Sequence[Qualifier], columns: Collection[str]) -> Rows:
    """By those of the qualifying columns that a table has; the words tell of the others too."""
    limits, words, absent = [], [], []
    for qualifier in qualifiers:
        column = qualifier.column_in(columns)
        if column is None:
            absent.append(" or ".join(qualifier.names))
        else:
            limits.append((column, qualifier.most))
            words.append(f"{column} {qualifier.words}")
    reported = f"rows with {' and '.join(words)}" if words else "all rows"
    if absent:
        reported += f" (it has no column {', '.join(absent)})"
    return Rows(tuple(limits), reported)


def as_numbers(array: "pa.Array") -> "pa.Array":
    """As doubles; truth as 1 or 0, also where it is spelt out."""
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.compute as pc  # noqa: PLC0415

    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        array = pc.utf8_lower(pc.utf8_trim_whitespace(array)).cast(pa.large_string())
        for words, number in ((["true"], "1"), (["false"], "0"), ([*MISSING, *INFINITE], None)):
            found = pc.is_in(array, value_set=pa.array(words, pa.large_string()))
            array = pc.if_else(found, pa.scalar(number, pa.large_string()), array)
        of_windows = pc.match_substring_regex(array, f"^{OF_WINDOWS}$")
        array = pc.if_else(of_windows, pa.scalar(None, pa.large_string()), array)
    return array.cast(pa.float64(), safe=False)


def double(value: float) -> "pa.Scalar":
    """Made of its bytes: to look at a number of Python's, pyarrow would import pandas, where there
    is one, which costs more than all the rest.
    """
    import pyarrow as pa  # noqa: PLC0415

    buffer = pa.py_buffer(struct.pack("=d", value))
    return pa.Array.from_buffers(pa.float64(), 1, [None, buffer])[0]
