"""Reads single columns of big result tables (parquet, TSV) in bounded memory, and sums them up.

A table is read in batches and never as a whole; what is kept is one column of doubles at a time:
80 MB for ten million rows. pyarrow is imported where it is used, because that takes longer than
most commands.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kraken_dagster.domain.errors import FileFormatError
from kraken_dagster.metrics.tables import finite

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 65_536
_BUFFER_BYTES = 1 << 20  # bytes of a compressed column that are held at a time


@dataclass(frozen=True)
class Spread:
    """Mean, sample standard deviation (n - 1) and median; None where there are too few rows."""

    mean: float | None
    std: float | None
    median: float | None


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns whatever pyarrow raises on a file that it can't read into FileFormatError."""
    import pyarrow as pa  # noqa: PLC0415

    try:
        yield
    except MemoryError:  # one of pyarrow's is an ArrowException too, and no fault of the file
        raise
    except (pa.ArrowException, OSError) as error:
        raise FileFormatError("A result table can't be read", file=path, found=error) from error


def column_names(path: Path) -> list[str]:
    if _is_text(path):
        with _open_text(path, {}) as reader:
            return list(reader.schema.names)
    import pyarrow.parquet as pq  # noqa: PLC0415

    with pq.ParquetFile(path) as table:
        return list(table.schema_arrow.names)


def number_batches(path: Path, columns: Sequence[str]) -> Iterator[list["pa.Array"]]:
    """Batches of these columns as doubles, missing numbers as NaN or null."""
    import pyarrow as pa  # noqa: PLC0415

    for arrays in _batches(path, columns, pa.float64()):
        yield [array.cast(pa.float64()) for array in arrays]


def length_batches(path: Path, column: str) -> Iterator["pa.Array"]:
    """Batches of the texts' lengths in characters, as doubles; null where there is no text."""
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.compute as pc  # noqa: PLC0415

    for (array,) in _batches(path, [column], pa.large_string()):
        yield pc.utf8_length(array.cast(pa.large_string())).cast(pa.float64())


def total(batches: Iterator["pa.Array"]) -> float | None:
    """The sum, 0 of no rows, without what is missing."""
    import pyarrow.compute as pc  # noqa: PLC0415

    return finite(pc.sum(_present(batches), min_count=0).as_py())


def spread(batches: Iterator["pa.Array"]) -> Spread:
    """Mean, deviation and median, without what is missing."""
    import pyarrow.compute as pc  # noqa: PLC0415

    values = _present(batches)
    return Spread(
        mean=finite(pc.mean(values).as_py()),
        std=finite(pc.stddev(values, ddof=1).as_py()),
        median=finite(pc.quantile(values, q=0.5, interpolation="midpoint")[0].as_py()),
    )


def _present(batches: Iterator["pa.Array"]) -> "pa.ChunkedArray":
    """All batches in one array; NaN and null, which pyarrow treats differently, are dropped."""
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.compute as pc  # noqa: PLC0415

    chunks = [batch.filter(pc.invert(pc.is_nan(batch))) for batch in batches]
    return pa.chunked_array(chunks, type=pa.float64())


def _batches(
    path: Path, columns: Sequence[str], text_type: "pa.DataType"
) -> Iterator[list["pa.Array"]]:
    """`text_type` is what a text table's columns are parsed as; parquet knows its own types."""
    if _is_text(path):
        with _open_text(path, dict.fromkeys(columns, text_type)) as reader:
            for batch in reader:
                yield [batch.column(name) for name in columns]
        return
    import pyarrow.parquet as pq  # noqa: PLC0415

    with pq.ParquetFile(path, buffer_size=_BUFFER_BYTES) as table:
        wanted = list(dict.fromkeys(columns))
        for batch in table.iter_batches(BATCH_ROWS, columns=wanted, use_threads=False):
            yield [batch.column(name) for name in columns]


def _is_text(path: Path) -> bool:
    return path.suffix.lower() == ".tsv"


def _open_text(path: Path, types: dict[str, "pa.DataType"]) -> "pa.csv.CSVStreamingReader":
    from pyarrow import csv  # noqa: PLC0415

    return csv.open_csv(
        path,
        parse_options=csv.ParseOptions(delimiter="\t"),
        convert_options=csv.ConvertOptions(column_types=types, include_columns=list(types)),
    )
