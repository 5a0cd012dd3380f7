"""Opens Bruker's `analysis.tdf`, an SQLite database, without ever writing to it or beside it.

Here because its two readers, `clients.bruker` and `metrics.rawqc`, are sibling layers. What the
tables mean belongs to them.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from kraken_dagster.domain.errors import FileFormatError

TDF_NAME = "analysis.tdf"


def open_tdf(path: Path) -> sqlite3.Connection:
    """Connects to the database at `path` strictly read only.

    `immutable` keeps SQLite from locks and from files beside the raw data. The price: a journal
    beside it is not replayed, so a database that is still being written may look damaged.

    Raises:
        FileFormatError: there is no such file, or it is no SQLite database.
    """
    if not path.is_file():
        raise FileFormatError(
            f"There is no {TDF_NAME}",
            file=path,
            next_step="check that this is a Bruker timsTOF raw folder and that it is complete.",
        )
    # as_uri() percent-quotes what would end or split the URI: `?`, `#`, `%`, spaces
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    try:
        connection = sqlite3.connect(uri, uri=True)
    except sqlite3.DatabaseError as error:
        raise _damaged(path, error) from error
    # an operator's name in another encoding must not cost the figures
    connection.text_factory = _decode
    try:
        connection.execute("PRAGMA schema_version").fetchone()  # nothing is read before that
    except sqlite3.DatabaseError as error:
        connection.close()
        raise _damaged(path, error) from error
    return connection


def read_table(path: Path, table: str, columns: Sequence[str]) -> list[tuple[object, ...]]:
    """All rows of these columns, in the order in which SQLite gives them.

    Args:
        path: of the database.
        table, columns: names from our own code, never from outside.

    Raises:
        FileFormatError: the file, the table or a column is missing, or the file is damaged.
    """
    with closing(open_tdf(path)) as connection:
        try:
            _require(connection, path, table, columns)
            names = ", ".join(f'"{column}"' for column in columns)
            # names can't be bound as parameters
            return connection.execute(f'SELECT {names} FROM "{table}"').fetchall()  # noqa: S608
        except sqlite3.DatabaseError as error:
            raise _damaged(path, error) from error


def _require(
    connection: sqlite3.Connection, path: Path, table: str, columns: Sequence[str]
) -> None:
    """Raises FileFormatError unless the columns exist: SQLite takes an unknown "name" for text."""
    found = {str(row[1]).lower() for row in connection.execute(f'PRAGMA table_info("{table}")')}
    if not found:
        raise FileFormatError(f"{TDF_NAME} has no table {table}", file=path)
    missing = [column for column in columns if column.lower() not in found]
    if missing:
        raise FileFormatError(
            f"Table {table} of {TDF_NAME} lacks {', '.join(missing)}",
            file=path,
            expected=f"columns {', '.join(columns)}",
        )


def _decode(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _damaged(path: Path, error: sqlite3.DatabaseError) -> FileFormatError:
    return FileFormatError(
        f"{TDF_NAME} can't be read",
        file=path,
        expected="an SQLite database",
        found=error,
        next_step="compare the file with the instrument's or the backup's.",
    )
