"""Opens somebody else's SQLite database, and says what is wrong with it."""

import sqlite3
from pathlib import Path

from kraken_dagster.domain.errors import FileFormatError


def open_immutable(path: Path) -> sqlite3.Connection:
    """Connects read only, without locks, and without a look at files beside it.

    Raises:
        FileFormatError: it is no SQLite database.
    """
    # as_uri() percent-quotes what would end or split the URI: `?`, `#`, `%`, spaces
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    try:
        connection = sqlite3.connect(uri, uri=True)
    except sqlite3.DatabaseError as error:
        raise damaged(path, error) from error
    # an operator's name in another encoding must not cost the figures
    connection.text_factory = _decode
    try:
        connection.execute("PRAGMA schema_version").fetchone()  # nothing is read before that
    except sqlite3.DatabaseError as error:
        connection.close()
        raise damaged(path, error) from error
    return connection


def columns_of(connection: sqlite3.Connection, table: str) -> frozenset[str]:
    """Names in lower case; none if there is no such table."""
    rows = connection.execute(f'PRAGMA table_info("{table}")')
    return frozenset(str(row[1]).lower() for row in rows)


def damaged(path: Path, found: object) -> FileFormatError:
    return FileFormatError(
        f"{path.name} can't be read",
        file=path,
        expected="an SQLite database",
        found=found,
        next_step="compare the file with the instrument's or the backup's.",
    )


def _decode(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
