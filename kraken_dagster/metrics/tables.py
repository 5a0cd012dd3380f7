"""Reads the small tables (TSV, CSV) that programs leave as results.

Tables with a row per precursor, which may have millions, are `columns`'s.
"""

import csv
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from kraken_dagster.domain.errors import FileFormatError, MissingOutputError

# what pandas and R write for a missing number
_NO_VALUE = {"", "nan", "-nan", "na", "n/a", "#n/a", "<na>", "null", "none"}


@dataclass(frozen=True)
class Table:
    """A result table: column name to its cells, all columns of the same length."""

    path: Path
    columns: Mapping[str, tuple[str, ...]]

    def __contains__(self, column: str) -> bool:
        return column in self.columns

    def mean(self, column: str) -> float | None:
        """The mean over the rows that have a number; of the usual one row, that number.

        None if no row has one, or if the mean is not finite.

        Raises:
            FileFormatError: there is no such column, or a cell holds something else.
        """
        require_columns(self.path, self.columns, (column,))
        try:
            numbers = [parse_number(cell) for cell in self.columns[column]]
        except ValueError as error:
            raise FileFormatError(
                f"Column {column} has a cell that is no number",
                file=self.path,
                expected="numbers",
                found=error,
            ) from error
        present = [number for number in numbers if number is not None]
        return finite(sum(present) / len(present)) if present else None

    def is_numeric(self, column: str) -> bool:
        """Whether every cell of the column is a number or missing."""
        try:
            self.mean(column)
        except FileFormatError:
            return False
        return True


def read_table(path: Path, *, required: Collection[str] = ()) -> Table:
    """The table at `path`: tab-separated, or comma-separated if its name ends in `.csv`.

    An unnamed column, such as pandas' index, is left out.

    Raises:
        MissingOutputError: there is no such file.
        FileFormatError: it can't be read, or lacks a required column.
    """
    require_file(path)
    delimiter = "," if path.suffix.lower() == ".csv" else "\t"
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file, delimiter=delimiter) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FileFormatError("A result table can't be read", file=path, found=error) from error
    if not rows:
        raise FileFormatError("A result table is empty", file=path, expected="a row of names")
    header, *lines = rows
    _check_shape(path, header, lines)
    cells = zip(*lines, strict=True) if lines else ((),) * len(header)
    columns = {name: column for name, column in zip(header, cells, strict=True) if name}
    require_columns(path, columns, required)
    return Table(path, columns)


def require_file(path: Path) -> None:
    """Raises MissingOutputError unless `path` is there, FileFormatError if that can't be seen."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingOutputError(
            f"A result file is missing: {path.name}",
            file=path,
            next_step="look into the job's log for why the program did not write it.",
        ) from error
    except OSError as error:
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
        return float(text)
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
