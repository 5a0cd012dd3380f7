"""How long a cell of a big result table may be. A few bytes can become a gigabyte: a text that is
one letter over and over, packed.
"""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from kraken_dagster.model.errors import FileFormatError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_MOST_CELL_BYTES = 1 << 20


def require_short_chunks(path: Path, facts: "pq.FileMetaData", wanted: Collection[str]) -> None:
    """Refuses texts of a Parquet table that are too long, before they are unpacked."""
    for number in range(facts.num_row_groups):
        group = facts.row_group(number)
        for place in range(group.num_columns):
            chunk = group.column(place)
            if chunk.path_in_schema not in wanted:
                continue
            most = _MOST_CELL_BYTES * max(1, chunk.num_values)
            if chunk.total_uncompressed_size > most:
                found = f"{chunk.total_uncompressed_size} bytes in {chunk.num_values} of them"
                raise _too_long(path, found)


def require_short_cells(path: Path, batch: "pa.RecordBatch") -> None:
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.compute as pc  # noqa: PLC0415

    for column in batch.columns:
        texts = column.dictionary if pa.types.is_dictionary(column.type) else column
        if pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type):
            longest = pc.max(pc.binary_length(texts)).as_py() or 0
            if longest > _MOST_CELL_BYTES:
                raise _too_long(path, f"one of {longest} bytes")


def _too_long(path: Path, found: str) -> FileFormatError:
    return FileFormatError(
        "Cells of a result table are too long",
        file=path,
        expected=f"at most {_MOST_CELL_BYTES} bytes in each",
        found=found,
        next_step="look into the job's log, and find out what wrote this table.",
    )
