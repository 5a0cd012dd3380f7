"""Opens somebody else's SQLite database, and says what is wrong with it.

Such a file may hold what SQLite runs as soon as its tables are asked: a view that bears a table's
name and never ends, columns that are computed, values of a gigabyte from a few bytes. So only
tables with rows of their own are read, no function is called but ours, and length and work of each
query have their limits.
"""

import errno
import os
import sqlite3
from pathlib import Path

from kraken_dagster.fs.plain_files import NoPlainFile, open_plain, require_plain
from kraken_dagster.fs.result_files import is_share_failure
from kraken_dagster.model.errors import FileFormatError

MOST_ROWS = 5_000_000
MOST_BYTES = 256 * 1024 * 1024  # of all texts and blobs of a query
_MOST_CELL_BYTES = 16 * 1024 * 1024
_ANY_CELL_BYTES = 1_000_000_000  # SQLite's own limit
_STEPS = 1_000_000  # of SQLite's virtual machine, between two looks
_MOST_LOOKS = 2_000
# Of the schema, whose reading is quadratic in its entries: some 1,000 of them. Real ones have 20.
_SCHEMA_STEPS = 10_000
_MOST_SQL_BYTES, _MOST_COLUMNS = 10_000, 200  # of one statement, also one of the schema
_TOO_MANY_TABLES = "a schema of more than a thousand tables, views or triggers"
_INTERRUPTED = "interrupted"  # SQLite's word for what a progress handler ends
_FUNCTIONS = frozenset({"count", "max", "lag", "typeof"})
_PRAGMAS = frozenset({"schema_version", "table_info", "trusted_schema"})


def open_immutable(path: Path) -> sqlite3.Connection:
    """Connects read only, without locks, and without a look at files beside it.

    Raises:
        FileFormatError: it is no SQLite database, or no plain file.
    """
    # as_uri() percent-quotes what would end or split the URI: `?`, `#`, `%`, spaces
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    try:
        with open_plain(path):
            before = require_plain(path)
            connection = sqlite3.connect(uri, uri=True)
            after = require_plain(path)
    except (sqlite3.DatabaseError, OSError) as error:
        raise damaged(path, error) from error
    if (before.st_dev, before.st_ino) != (after.st_dev, after.st_ino):  # SQLite follows links
        connection.close()
        raise damaged(path, "another file by now")
    # an operator's name in another encoding must not cost the metrics
    connection.text_factory = _decode
    limit(connection)
    connection.set_authorizer(_allow)
    try:
        connection.execute("PRAGMA schema_version").fetchone()  # nothing is read before that
        read_schema(connection)
    except sqlite3.DatabaseError as error:
        connection.close()
        raise damaged(path, error) from error
    return connection


def limit(connection: sqlite3.Connection) -> None:
    """Bounds what a query on somebody else's database may take."""
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_CELL_BYTES)
    connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, _MOST_SQL_BYTES)
    connection.setlimit(sqlite3.SQLITE_LIMIT_COLUMN, _MOST_COLUMNS)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.setlimit(sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 1)
    connection.set_progress_handler(_Work(most=_MOST_LOOKS).is_too_much, _STEPS)
    connection.execute("PRAGMA trusted_schema=OFF")


def read_schema(connection: sqlite3.Connection) -> None:
    """Has SQLite read what tables there are, in bounds of its own: it does so in one go, before
    the first query.

    Raises:
        sqlite3.DatabaseError: there are too many, or it can't be read.
    """
    connection.set_progress_handler(_Work(most=1).is_too_much, _SCHEMA_STEPS)
    try:
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
    except sqlite3.OperationalError as error:
        if str(error) != _INTERRUPTED:
            raise
        raise sqlite3.DatabaseError(_TOO_MANY_TABLES) from error
    finally:
        connection.set_progress_handler(_Work(most=_MOST_LOOKS).is_too_much, _STEPS)


class _Work:
    def __init__(self, most: int) -> None:
        self._most = most
        self._looks = 0

    def is_too_much(self) -> bool:
        self._looks += 1
        return self._looks >= self._most


def is_intact(connection: sqlite3.Connection) -> bool:
    """Whether SQLite finds nothing wrong, in the rules of the database's tables too."""
    connection.set_authorizer(None)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _ANY_CELL_BYTES)  # it looks at all tables
    try:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        return bool(found == "ok")
    except sqlite3.DatabaseError:
        return False
    finally:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_CELL_BYTES)
        connection.set_authorizer(_allow)


def kind_of(connection: sqlite3.Connection, name: str) -> str | None:
    """`table` only for one with rows of its own; another word, or None if there is nothing."""
    rows = connection.execute(
        "SELECT type, rootpage, sql FROM sqlite_master WHERE name = ? COLLATE NOCASE"
        " AND type <> 'index' LIMIT 2",
        (name,),
    ).fetchall()
    if len(rows) != 1:
        return "several things" if rows else None
    kind, page, statement = rows[0]
    words = str(statement).split(maxsplit=2)[:2]
    if kind != "table" or ([word.upper() for word in words] == ["CREATE", "TABLE"] and page):
        return str(kind)
    return "virtual table"


def columns_of(connection: sqlite3.Connection, table: str) -> frozenset[str]:
    """Names in lower case; none if there is no such table."""
    if kind_of(connection, table) != "table":
        return frozenset()
    rows = connection.execute(f'PRAGMA table_info("{table}")')
    return frozenset(str(row[1]).lower() for row in rows)


def fetched(
    path: Path, connection: sqlite3.Connection, query: str, *, most_rows: int = MOST_ROWS
) -> list[tuple[object, ...]]:
    """The rows of a query.

    Raises:
        sqlite3.DatabaseError
        FileFormatError: there are too many, or too much is in them.
    """
    found: list[tuple[object, ...]] = []
    size = 0
    for row in connection.execute(query):
        size += sum(len(cell) for cell in row if isinstance(cell, str | bytes))
        if len(found) == most_rows or size > MOST_BYTES:
            raise FileFormatError(
                f"A table of {path.name} is too big",
                file=path,
                expected=f"at most {most_rows} rows, and {MOST_BYTES} bytes of text",
                next_step="compare the file with the instrument's.",
            )
        found.append(row)
    return found


def damaged(path: Path, found: object) -> FileFormatError | OSError:
    """What is wrong with the database; of what its disk or share refuses to give, that error."""
    if isinstance(found, OSError) and is_share_failure(found):
        return found
    if str(getattr(found, "sqlite_errorname", "")).startswith("SQLITE_IOERR"):
        return OSError(errno.EIO, os.strerror(errno.EIO), str(path))
    if isinstance(found, sqlite3.OperationalError) and str(found) == _INTERRUPTED:
        found = f"more than {_STEPS * _MOST_LOOKS} steps of SQLite in a query that takes few"
    is_plain = not isinstance(found, NoPlainFile)
    return FileFormatError(
        f"{path.name} can't be read",
        file=path,
        expected="an SQLite database" if is_plain else "a plain file, and no link",
        found=found,
        next_step="compare the file with the instrument's or the backup's.",
    )


def _allow(
    action: int, first: str | None, second: str | None, _database: str | None, within: str | None
) -> int:
    """Of all that a statement does, before it is done; `within` is the view that does it."""
    allowed = within is None and (
        action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ)
        or (action == sqlite3.SQLITE_FUNCTION and str(second).lower() in _FUNCTIONS)
        or (action == sqlite3.SQLITE_PRAGMA and str(first).lower() in _PRAGMAS)
    )
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def _decode(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
