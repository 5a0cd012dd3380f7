"""Reads the small tables (TSV, CSV) that programs leave as results.

Tables with a row per precursor, which may have millions, are `columns`'s.
"""

import csv
import io
import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from kraken_dagster.clients.reading import exists, output_errors
from kraken_dagster.clients.result_files import is_share_trouble, opened_below, unreadable
from kraken_dagster.domain.errors import FileFormatError, MissingOutputError, OutputUnreadable

LARGEST_BYTES = 64 * 1024 * 1024  # a table of this module is held in memory as a whole
# what pandas, R and Skyline write for a missing number
_NO_VALUE = {"", "nan", "-nan", "na", "n/a", "#n/a", "<na>", "null", "none"}


@dataclass(frozen=True)
class Table:
    """A result table: column name to its cells, all columns of the same length."""

    path: Path
    columns: Mapping[str, tuple[str, ...]]
    delimiter: str = "\t"

    def __contains__(self, column: str) -> bool:
        return column in self.columns

    def mean(self, column: str) -> float | None:
        """The mean over the rows that have a number; of the usual one row, that number.

        None if no row has one, or if the mean is not finite.

        Raises:
            FileFormatError: there is no such column, or a cell holds something else.
        """
        present = [number for number in self.numbers(column) if number is not None]
        return finite(sum(present) / len(present)) if present else None

    def numbers(self, column: str) -> list[float | None]:
        """The cells as numbers, None for a missing one; FileFormatError as in `mean`."""
        require_columns(self.path, self.columns, (column,))
        try:
            return [self._number(cell) for cell in self.columns[column]]
        except ValueError as error:
            raise FileFormatError(
                f"Column {column} has a cell that is no number",
                file=self.path,
                expected="numbers",
                found=error,
            ) from error

    def _number(self, cell: str) -> float | None:
        # Where `;` separates columns, the comma is what others write as a point.
        decimal_comma = self.delimiter == ";" and "." not in cell
        return parse_number(cell.replace(",", ".") if decimal_comma else cell)

    def is_numeric(self, column: str) -> bool:
        """Whether every cell of the column is a number or missing."""
        try:
            self.mean(column)
        except FileFormatError:
            return False
        return True


def read_table(path: Path, *, required: Collection[str] = (), delimiters: str = "") -> Table:
    """The table at `path`: tab-separated, or comma-separated if its name ends in `.csv`.

    An unnamed column, such as pandas' index, is left out.

    Args:
        delimiters: other characters that may separate the columns; the one that does so in the row
            of names is taken.

    Raises:
        MissingOutputError: there is no such file.
        FileFormatError: it can't be read, or lacks a required column.
    """
    text = _text(path)
    first, *others = delimiters or ("," if path.suffix.lower() == ".csv" else "\t")
    names = text[: text.find("\n")]
    delimiter = next((one for one in others if one in names and first not in names), first)
    try:
        rows = [
            row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row
        ]
    except csv.Error as error:
        raise FileFormatError("A result table can't be read", file=path, found=error) from error
    if not rows:
        raise FileFormatError("A result table is empty", file=path, expected="a row of names")
    header, *lines = rows
    _check_shape(path, header, lines)
    cells = zip(*lines, strict=True) if lines else ((),) * len(header)
    columns = {name: column for name, column in zip(header, cells, strict=True) if name}
    require_columns(path, columns, required)
    return Table(path, columns, delimiter)


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
    if is_share_trouble(error):
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
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileFormatError("A result table can't be read", file=path, found=error) from error


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


def parse_number(cell: str) -> float | None:
    """The number in a cell, None for a missing one; ValueError, with the cell, for other text."""
    text = cell.strip()
    if text.lower() in _NO_VALUE:
        return None
    if "_" in text:  # Python's digit separator, nobody else's
        raise ValueError(repr(cell))
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise ValueError(repr(cell)) from None


def finite(number: float | None) -> float | None:
    """`number`, or None for NaN and infinity, which neither JSON nor a plot can hold."""
    return number if number is not None and math.isfinite(number) else None


def _check_shape(path: Path, header: list[str], lines: list[list[str]]) -> None:
    named = [name for name in header if name]
    if len(set(named)) < len(named):
        raise FileFormatError("Two columns of a result table have one name", file=path)
    for number, line in enumerate(lines, start=1):
        if len(line) != len(header):
            raise FileFormatError(
                f"Row {number} of a result table is torn",
                file=path,
                expected=f"{len(header)} cells",
                found=len(line),
            )
