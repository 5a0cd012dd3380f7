"""What Bruker's acquisition software says of a raw file, from `analysis.tdf` or
`analysis.tsf`.

The quality metrics of the frames are `metrics.rawqc`'s.
"""

from pathlib import Path

from kraken_dagster.fs.tdf.index import index_path, read_table

_MOST_KEYS = 100_000


def read_bruker_metadata(raw_folder: Path) -> dict[str, str]:
    """Table `GlobalMetadata` of the raw folder's database: key to value, `{}` if it has no rows.

    Keys are Bruker's: `AcquisitionDateTime` (ISO 8601 with offset), `InstrumentName`,
    `ClosedProperly` (`1` once the acquisition software has finished the file), and so on. NULL
    is read as an empty text. Nothing is written beside the raw data, and what a journal beside it
    holds is read too.

    Raises:
        FileFormatError: the database or its table is missing or damaged, or its journal is.
    """
    rows = read_table(
        index_path(raw_folder), "GlobalMetadata", ("Key", "Value"), most_rows=_MOST_KEYS
    )
    return {str(key): "" if value is None else str(value) for key, value in rows}
