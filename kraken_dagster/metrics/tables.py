"""Reads the small tables (TSV, CSV) that programs leave as results.

Tables with a row per precursor, which may have millions, are `columns`'s.
"""

import csv
import io
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from kraken_dagster.fs.digests import exists, output_errors
from kraken_dagster.fs.result_files import is_share_failure, opened_below, unreadable
from kraken_dagster.metrics.values.numbers import (
    Ambiguous,
    Decimal,
    decimal_signs,
    finite,
    is_missing,
    parse_number,
    parse_numbers,
)
from kraken_dagster.metrics.values.rows import Qualifier, Rows
from kraken_dagster.metrics.values.sentinels import Least
from kraken_dagster.metrics.values.text_files import cut_off, decoded
from kraken_dagster.model.errors import FileFormatError, MissingOutputError, OutputUnreadable

LARGEST_BYTES = 64 * 1024 * 1024  # a table of this module is held in memory as a whole
_FLAGS = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True)
class Table:
    """A result table: column name to its cells, all columns of the same length.

    Args:
        twice: names that several columns have, which none of them is then asked by.
        any_culture: whether numbers may have a decimal comma and separated thousands.
    """

    path: Path
    columns: Mapping[str, tuple[str, ...]]
    delimiter: str = "\t"
    twice: frozenset[str] = frozenset()
    any_culture: bool = False

    def __contains__(self, column: str) -> bool:
        return column in self.columns or column in self.twice

    def mean(self, column: str, rows: Rows, *, least: Least = Least.ANY) -> float | None:
        """The mean over those of the rows that have a number; of the usual one row, that number.

        None if no row has one, or if the mean is not finite.

        Args:
            least: what a number must be to be none that stands for a missing one.

        Raises:
            FileFormatError: there is no such column, or a cell holds something else.
        """
        counting = zip(self.counting(rows), self.numbers(column), strict=True)
        present = [n for counts, n in counting if counts and n is not None and least.allows(n)]
        return finite(sum(present) / len(present)) if present else None

    def counting(self, rows: Rows) -> list[bool]:
        """Whether each row counts; FileFormatError as in `mean`."""
        counting = [True] * self._length
        for column, most in rows.limits:
            qualifier = Qualifier((column,), most)
            allowed = map(qualifier.allows, self._flags(column))
            counting = [one and other for one, other in zip(counting, allowed, strict=True)]
        return counting

    def numbers(self, column: str) -> list[float | None]:
        """The cells as numbers, None for a missing one; FileFormatError as in `mean`."""
        cells = self.cells(column)
        try:
            if self.any_culture:
                habit = Decimal.COMMA if self.delimiter == ";" else Decimal.POINT
                return parse_numbers(cells, decimal=self._decimal, habit=habit)
            return [parse_number(cell) for cell in cells]
        except Ambiguous as error:
            raise FileFormatError(
                f"Column {column} can be read with a decimal point or a comma",
                file=self.path,
                expected="numbers that tell which of the two it is",
                found=error,
            ) from error
        except ValueError as error:
            raise FileFormatError(
                f"Column {column} has a cell that is no number",
                file=self.path,
                expected="numbers",
                found=error,
            ) from error

    def is_numeric(self, column: str) -> bool:
        """Whether every cell of the column is a number or missing."""
        try:
            self.numbers(column)
        except FileFormatError:
            return False
        return True

    def cells(self, column: str) -> tuple[str, ...]:
        """The texts; FileFormatError if there is no such column, or more than one."""
        if column in self.twice:
            raise FileFormatError(f"Two columns of a result table are {column}", file=self.path)
        require_columns(self.path, self.columns, (column,))
        return self.columns[column]

    def _flags(self, column: str) -> list[float | None]:
        cells = [cell.strip().lower() for cell in self.cells(column)]
        if all(cell in _FLAGS or is_missing(cell) for cell in cells):
            return [_FLAGS.get(cell) for cell in cells]
        return self.numbers(column)

    @property
    def _length(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    @cached_property
    def _decimal(self) -> Decimal | None:
        """The decimal sign that the other cells and columns tell of."""
        signs = [decimal_signs(cells) for cells in self.columns.values()]
        reported = {one[0] for one in signs if len(one) == 1}
        if len(reported) == 1:
            return reported.pop()
        return None


def read_table(
    path: Path,
    *,
    required: Collection[str] = (),
    delimiters: str = "",
    quotes: bool = True,
    any_culture: bool = False,
) -> Table:
    """The table at `path`: tab-separated, or comma-separated if its name ends in `.csv`.

    An unnamed column, such as pandas' index, is left out.

    Args:
        delimiters: other characters that may separate the columns; the one that does so in the row
            of names is taken.
        quotes: whether the program puts cells into quotes that hold a separator.
        any_culture: as in `Table`.

    Raises:
        MissingOutputError: there is no such file.
        FileFormatError: it can't be read, was cut off, has no rows, or lacks a required column.
    """
    text = _text(path)
    rows = _rows(path, text, delimiter := _delimiter(path, text, delimiters), quotes=quotes)
    if not rows:
        raise FileFormatError("A result table is empty", file=path, expected="a row of names")
    header, *lines = rows
    _check_shape(path, header, lines)
    if not lines:
        raise no_rows(path)
    twice = frozenset(name for name, count in Counter(header).items() if name and count > 1)
    columns = {
        name: column
        for name, column in zip(header, zip(*lines, strict=True), strict=True)
        if name and name not in twice
    }
    table = Table(path, columns, delimiter, twice, any_culture)
    for name in required:
        table.cells(name)
    return table


def _delimiter(path: Path, text: str, delimiters: str) -> str:
    first, *others = list(delimiters) or ["," if path.suffix.lower() == ".csv" else "\t"]
    names = text[: text.find("\n")]
    return next((one for one in others if one in names and first not in names), first)


def no_rows(path: Path) -> FileFormatError:
    return FileFormatError(
        "A result table has names of columns and no rows",
        file=path,
        expected="at least one row",
        next_step="look into the job's log for whether the program was done with it.",
    )


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A result file, which is a plain file in its folder: a link may not lead out of it.

    Raises:
        MissingOutputError: nothing is there.
        FileFormatError: what is there is no plain file.
        OutputUnreadable: nothing is known of it, as its share gives an error.
    """
    with ExitStack() as stack:
        try:
            file = stack.enter_context(opened_below(path.parent, path))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise _missing(path) from error
        except OSError as error:
            raise cant_read("A result file can't be read", path, error) from error
        yield file


def stands(path: Path) -> bool:
    """Whether anything has this name in a result folder.

    Raises:
        OutputUnreadable: nothing is known of it.
    """
    with output_errors(path):
        return exists(path)


def cant_read(what: str, path: Path, error: OSError) -> FileFormatError | OutputUnreadable:
    """What is wrong with the file, or that its share gives an error, which says nothing of it."""
    if is_share_failure(error):
        return unreadable(path, error)
    return FileFormatError(what, file=path, found=error)


def _missing(path: Path) -> MissingOutputError | FileFormatError:
    if stands(path):
        return FileFormatError(
            f"This is no result file: {path.name}",
            file=path,
            expected="a plain file, or a link to one in the result folder",
            found="a folder, a pipe, or a link that leads elsewhere",
        )
    return MissingOutputError(
        f"A result file is missing: {path.name}",
        file=path,
        next_step="look into the job's log for why the program did not write it.",
    )


def _text(path: Path) -> str:
    with opened(path) as file:
        try:
            content = file.read(LARGEST_BYTES + 1)
        except OSError as error:
            raise cant_read("A result table can't be read", path, error) from error
    if len(content) > LARGEST_BYTES:
        raise FileFormatError(
            "A result table is too big", file=path, expected=f"at most {LARGEST_BYTES} bytes"
        )
    return decoded(path, content)


def _rows(path: Path, text: str, delimiter: str, *, quotes: bool) -> list[list[str]]:
    """Without blank lines. Text that a program which knows of no quotes begins with one is read
    too.
    """
    if quotes:
        try:
            return _split(text, delimiter, quoting=csv.QUOTE_MINIMAL)
        except csv.Error as error:
            rows = _split(text, delimiter, quoting=csv.QUOTE_NONE)
            if len({len(row) for row in rows}) != 1:
                raise cut_off(path, f"within quotes: {error}") from error
            return rows
    return _split(text, delimiter, quoting=csv.QUOTE_NONE)


def _split(text: str, delimiter: str, *, quoting: int) -> list[list[str]]:
    csv.field_size_limit(LARGEST_BYTES)  # a long text that nobody asked for costs no number
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)  # type: ignore[arg-type]
    return [row for row in reader if row]


def require_columns(path: Path, found: Collection[str], required: Collection[str]) -> None:
    """Raises FileFormatError, which names the file at `path`, for columns that aren't there."""
    missing = [column for column in required if column not in found]
    if missing:
        raise FileFormatError(
            f"A result table lacks a column: {', '.join(missing)}",
            file=path,
            expected=", ".join(required),
            found=", ".join(sorted(found)) or "no named column",
        )


def _check_shape(path: Path, header: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    for number, line in enumerate(lines, start=1):
        if len(line) != len(header):
            raise FileFormatError(
                f"Row {number} of a result table is incomplete",
                file=path,
                expected=f"{len(header)} cells",
                found=len(line),
            )
