"""Reads single columns of big result tables (parquet, TSV) in batches, and never a whole one.

pyarrow is imported where it is used, because that takes longer than most commands.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from kraken_dagster.fs.limited.limits import too_much_memory
from kraken_dagster.fs.result_files import is_share_failure, unreadable
from kraken_dagster.metrics.tables import no_rows, opened
from kraken_dagster.metrics.values.cells import require_short_cells, require_short_chunks
from kraken_dagster.metrics.values.numbers import INFINITE, MISSING, spellings
from kraken_dagster.metrics.values.rows import Rows
from kraken_dagster.metrics.values.series import Series
from kraken_dagster.metrics.values.text_files import require_whole
from kraken_dagster.model.errors import FileFormatError, NoRowCounts

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 32_768
_BUFFER_BYTES = 1 << 20  # bytes of a compressed column that are held at a time
_MOST_THREADS = 2


class Summary(Protocol):
    """What is made of a series in one pass over the table or more, never holding all of it."""

    rows: Rows  # which of them count
    counting: int  # how many do, in the last pass
    of: int

    def begin_pass(self) -> None:
        """Forgets what was added in a pass that came to no end."""

    def add(self, numbers: "pa.Array", *, counting: int, of: int) -> None:
        """Takes the numbers of a batch, from those of its rows that count."""

    def end_pass(self) -> bool:
        """Whether it is done; else it needs another pass."""


def column_names(path: Path, *, quotes: bool = True) -> list[str]:
    """The names of the columns, FileFormatError if the table can't be read."""
    with opened(path) as file, _readable(path):
        if _is_text(path):
            with _open_text(path, file, {}, quotes=quotes) as reader:
                return list(reader.schema.names)
        import pyarrow.parquet as pq  # noqa: PLC0415

        with pq.ParquetFile(file) as table:
            return list(table.schema_arrow.names)


def summarise(
    path: Path, summaries: Mapping[Series, Summary], *, quotes: bool = True
) -> dict[Series, FileFormatError]:
    """Adds each series to its summary, until all are done; what can't be read, and why:
    the same error for all series that failed for the same reason.

    Each series is read for itself, so that a damaged column costs no other one. Only of a text
    table, whose rows have to be read as a whole, all are first tried together, and with pyarrow's
    own notion of a number, which is fast and knows few words for a missing one.

    Args:
        quotes: whether the program puts cells of a text table into quotes that hold a tab.
    """
    if _is_text(path):
        with suppress(FileFormatError):
            _read(path, summaries, quotes=quotes, as_texts=False)
            return {}
    with _frugal():
        return _read_side_by_side(path, summaries, quotes=quotes)


def no_row_counts(path: Path, summary: Summary) -> FileFormatError:
    """Of a table without rows: a text table may have been cut off behind its names."""
    if not summary.of and _is_text(path):
        return no_rows(path)
    return NoRowCounts(
        "No row of a result table qualifies",
        file=path,
        expected=summary.rows.words,
        found=f"none among {summary.of} rows",
        next_step="look into the job's log for whether the program was done with it.",
    )


def _read_side_by_side(
    path: Path, summaries: Mapping[Series, Summary], *, quotes: bool
) -> dict[Series, FileFormatError]:
    # What takes longest, texts and several columns, comes first, so that no thread ends long after
    # the others. Whichever is free takes the next series.
    waiting = iter(sorted(summaries, key=lambda one: (not one.are_lengths, -len(one.columns))))
    failed: dict[Series, FileFormatError] = {}

    def work() -> None:
        for series in waiting:
            try:
                _read(path, {series: summaries[series]}, quotes=quotes, as_texts=_is_text(path))
            except FileFormatError as error:
                failed[series] = error

    _run_side_by_side(work, threads=min(_MOST_THREADS, len(summaries)))
    return _told_once(path, {series: failed[series] for series in summaries if series in failed})


def _told_once(
    path: Path, failed: Mapping[Series, FileFormatError]
) -> dict[Series, FileFormatError]:
    """With one error for all series that failed for the same reason, such as a torn row."""
    by_reason: dict[str | None, list[Series]] = {}
    for series, error in failed.items():
        by_reason.setdefault(error.found, []).append(series)
    reported = dict(failed)
    for reason, together in by_reason.items():
        if len(together) > 1:
            reported |= dict.fromkeys(together, _unreadable(path, together, reason))
    return reported


def _run_side_by_side(function: Callable[[], None], *, threads: int) -> None:
    """Runs the function in several threads, and raises what the first of them raised, if any.

    They are daemons: a share that hangs must not keep the process from ending.
    """
    errors: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - raised again by who waits
            errors.append(error)

    workers = [threading.Thread(target=run, daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if errors:
        raise errors[0]


def _read(path: Path, summaries: Mapping[Series, Summary], *, quotes: bool, as_texts: bool) -> None:
    left = dict(summaries)
    with opened(path) as file, _readable(path, list(left)):
        while left:
            for summary in left.values():
                summary.begin_pass()
            file.seek(0)
            for batch in _batches(path, file, left, quotes=quotes, as_texts=as_texts):
                require_short_cells(path, batch)
                chosen: dict[Rows, pa.RecordBatch] = {}
                for series, summary in left.items():
                    rows = summary.rows
                    if rows not in chosen:
                        chosen[rows] = rows.counting(batch)
                    within = chosen[rows]
                    summary.add(series.of(within), counting=within.num_rows, of=batch.num_rows)
            left = {series: one for series, one in left.items() if not one.end_pass()}


def _batches(
    path: Path,
    file: BinaryIO,
    wanted: Mapping[Series, Summary],
    *,
    quotes: bool,
    as_texts: bool,
) -> Iterator["pa.RecordBatch"]:
    import pyarrow as pa  # noqa: PLC0415

    types = {
        name: pa.large_string() if series.are_lengths or as_texts else pa.float64()
        for series in wanted
        for name in series.columns
    }
    for summary in wanted.values():  # truth may be spelt out
        types |= {name: pa.large_string() for name in summary.rows.columns if name not in types}
    if _is_text(path):
        with _open_text(path, file, types, quotes=quotes) as reader:
            yield from reader
        return
    import pyarrow.parquet as pq  # noqa: PLC0415

    # pre_buffer would hold all of a column's compressed bytes.
    with pq.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False) as table:
        require_short_chunks(path, table.metadata, types)
        yield from table.iter_batches(BATCH_ROWS, columns=list(types), use_threads=False)


@contextmanager
def _readable(path: Path, wanted: Sequence[Series] = ()) -> Iterator[None]:
    """Turns whatever pyarrow raises on a table that it can't read into FileFormatError."""
    import pyarrow as pa  # noqa: PLC0415

    try:
        yield
    except MemoryError as error:  # one of pyarrow's is an ArrowException too
        raise too_much_memory(path) from error
    except (pa.ArrowException, OSError, UnicodeDecodeError, KeyError) as error:
        if isinstance(error, OSError) and is_share_failure(error):
            raise unreadable(path, error) from error
        raise _unreadable(path, wanted, error) from error


def _unreadable(path: Path, wanted: Sequence[Series], found: object) -> FileFormatError:
    columns = ", ".join(map(str, wanted))
    what = f"Column {columns} of a result table" if columns else "A result table"
    return FileFormatError(f"{what} can't be read", file=path, found=found)


@contextmanager
def _frugal() -> Iterator[None]:
    """Within, Arrow takes memory from the C library: its own allocators keep several times of what
    they were given back. Where two overlap, it may stay so afterwards, which does no harm.
    """
    import pyarrow as pa  # noqa: PLC0415

    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)


def _is_text(path: Path) -> bool:
    return path.suffix.lower() == ".tsv"


def _open_text(
    path: Path, file: BinaryIO, types: Mapping[str, "pa.DataType"], *, quotes: bool
) -> "pa.csv.CSVStreamingReader":
    from pyarrow import csv  # noqa: PLC0415

    encoding = require_whole(path, file)
    return csv.open_csv(
        file,
        read_options=csv.ReadOptions(use_threads=False, encoding=encoding),
        parse_options=csv.ParseOptions(
            delimiter="\t", quote_char='"' if quotes else False, newlines_in_values=quotes
        ),
        convert_options=csv.ConvertOptions(
            column_types=dict(types),
            include_columns=list(types),
            null_values=spellings({*MISSING, *INFINITE}),
        ),
    )
