"""The table as a file: CSV, Parquet or XLSX, with exact values."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from kraken_dagster.web.table.columns import Rows, Table

_EXCEL_ROWS = 1_048_575  # below the heading
_EXCEL_COLUMNS = 16_384
_EXCEL_CHARACTERS = 32_767

Value = str | float | datetime | None


def values(table: Table, rows: Rows, name: str) -> list[Value]:
    """A column's cells; those of one that has texts are all text, as a file's column has a type."""
    column = table.columns[name]
    if column.codes is not None:
        return [column.text(int(row)) or None for row in rows]
    numbers = table.numbers(name)[rows]
    if column.is_time:
        return [None if np.isnan(item) else datetime.fromtimestamp(item, UTC) for item in numbers]
    return [None if np.isnan(item) else float(item) for item in numbers]


def as_csv(table: Table, rows: Rows, names: Sequence[str]) -> bytes:
    """UTF-8, a comma between, CR LF; nothing where there is none."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["raw_file", *names])
    for line in _lines(table, rows, names):
        writer.writerow([item.isoformat() if isinstance(item, datetime) else item for item in line])
    return text.getvalue().encode("utf-8", "surrogatepass")


def as_parquet(table: Table, rows: Rows, names: Sequence[str]) -> bytes:
    """Numbers as float64, dates in UTC."""
    import pyarrow as pa  # noqa: PLC0415 - takes a while
    import pyarrow.parquet as pq  # noqa: PLC0415

    columns = {"raw_file": [table.ids[row] for row in rows]}
    columns |= {name: values(table, rows, name) for name in names}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def as_xlsx(table: Table, rows: Rows, names: Sequence[str]) -> bytes:
    """One sheet. A text is a text, also one that begins like a formula; what a sheet can't hold
    (infinity, columns beyond 16,384, rows beyond a million) is left out."""
    import xlsxwriter  # noqa: PLC0415 - only here

    names = list(names)[: _EXCEL_COLUMNS - 1]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "files.xlsx"
        options = {"constant_memory": True, "tmpdir": folder, "remove_timezone": True}
        with xlsxwriter.Workbook(str(path), options) as book:
            sheet = book.add_worksheet("files")
            date = book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
            for place, name in enumerate(["raw_file", *names]):
                sheet.write_string(0, place, name)
            for number, line in enumerate(_lines(table, rows[:_EXCEL_ROWS], names), start=1):
                for place, item in enumerate(line):
                    _write(sheet, (number, place), item, date)
        return path.read_bytes()


def _write(sheet: Any, place: tuple[int, int], item: Value, date: Any) -> None:
    if isinstance(item, str):
        sheet.write_string(*place, item[:_EXCEL_CHARACTERS])
    elif isinstance(item, datetime):
        sheet.write_datetime(*place, item, date)
    elif item is not None and np.isfinite(item):
        sheet.write_number(*place, item)


def _lines(table: Table, rows: Rows, names: Sequence[str]) -> Iterator[tuple[Value, ...]]:
    columns: list[list[Value]] = [[table.ids[row] for row in rows]]
    columns += [values(table, rows, name) for name in names]
    return zip(*columns, strict=True)


FORMS: Mapping[str, tuple[str, Callable[[Table, Rows, Sequence[str]], bytes]]] = {
    "csv": ("text/csv; charset=utf-8", as_csv),
    "parquet": ("application/vnd.apache.parquet", as_parquet),
    "xlsx": ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", as_xlsx),
}
