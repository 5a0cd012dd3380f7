"""Opens Bruker's `analysis.tdf` and `analysis.tsf`, SQLite databases, without ever writing to them
or beside them.

Here because its two readers, `clients.bruker` and `metrics.rawqc`, are sibling layers. What the
tables mean belongs to them.
"""

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from kraken_dagster.fs.plain_files import NoPlainFile, require_plain
from kraken_dagster.fs.tdf.data import require_all_data
from kraken_dagster.fs.tdf.journal import journals_beside, open_with_journals
from kraken_dagster.fs.tdf.sqlite_files import (
    MOST_ROWS,
    columns_of,
    damaged,
    fetched,
    kind_of,
    open_immutable,
)
from kraken_dagster.model.errors import FileFormatError

TDF_NAME = "analysis.tdf"  # with ion mobility
TSF_NAME = "analysis.tsf"  # without
INDEX_NAMES = (TDF_NAME, TSF_NAME)


def index_path(raw_folder: Path) -> Path:
    """The database of a Bruker raw folder; `analysis.tdf` if it has none."""
    paths = [raw_folder / name for name in INDEX_NAMES]
    return next((path for path in paths if stands(path)), paths[0])


def stands(path: Path) -> bool:
    """Whether anything has this name; what can't be known is an error, and not a no.

    Raises:
        OSError
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def open_tdf(path: Path) -> sqlite3.Connection:
    """Connects to the database at `path` strictly read only.

    `immutable` keeps SQLite from locks and from files beside the raw data, and from the journal
    that may lie there. So a database with a journal is read from a private copy of both.

    Raises:
        FileFormatError: there is no such file, it is no SQLite database, or what its journal holds
            can't be read for certain.
    """
    try:
        require_plain(path)
    except (FileNotFoundError, NotADirectoryError, NoPlainFile) as error:
        raise FileFormatError(
            f"There is no {path.name}",
            file=path,
            expected="a plain file",
            found=error if isinstance(error, NoPlainFile) else None,
            next_step="check that this is a Bruker timsTOF raw folder and that it is complete.",
        ) from error
    if journals := journals_beside(path):
        return open_with_journals(path, journals)
    return open_immutable(path)


def read_table(
    path: Path,
    table: str,
    columns: Sequence[str],
    *,
    optional: Sequence[str] = (),
    all_data: bool = False,
    most_rows: int = MOST_ROWS,
) -> list[tuple[object, ...]]:
    """All rows of these columns, in the order in which SQLite gives them.

    Args:
        path: of the database.
        table, columns: names from our own code, never from outside.
        optional: further columns, whose cells are None where the table lacks them.
        all_data: whether the database must know of all data in `analysis.tdf_bin`, and these must
            be there.
        most_rows: a table of more is refused.

    Raises:
        FileFormatError: the file, the table or a column is missing, the file is damaged or too
            big, or it or its data are incomplete.
    """
    with closing(open_tdf(path)) as connection:
        try:
            found = require_columns(connection, path, table, columns)
            if all_data:
                require_all_data(connection, path)
            names = [f'"{column}"' for column in columns]
            names += [f'"{name}"' if name.lower() in found else "NULL" for name in optional]
            # names can't be bound as parameters
            query = f'SELECT {", ".join(names)} FROM "{table}"'  # noqa: S608
            return fetched(path, connection, query, most_rows=most_rows)
        except sqlite3.DatabaseError as error:
            raise damaged(path, error) from error


def require_columns(
    connection: sqlite3.Connection, path: Path, table: str, columns: Sequence[str]
) -> frozenset[str]:
    """Raises FileFormatError unless the columns exist: SQLite takes an unknown "name" for text."""
    found = columns_of(connection, table)
    if not found:
        kind = kind_of(connection, table)
        raise FileFormatError(
            f"{path.name} has no table {table}",
            file=path,
            expected="a table with rows of its own" if kind else None,
            found=f"a {kind} of this name" if kind else None,
        )
    missing = [column for column in columns if column.lower() not in found]
    if missing:
        raise FileFormatError(
            f"Table {table} of {path.name} lacks {', '.join(missing)}",
            file=path,
            expected=f"columns {', '.join(columns)}",
        )
    return found
