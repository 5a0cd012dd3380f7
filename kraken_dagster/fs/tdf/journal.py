"""Reads an SQLite database with the journal beside it, as its writer would find it, and changes
neither: both are copied to a private folder, where SQLite replays the one into the other.

A journal may also be older than its database, if a copy of the folder was made meanwhile. SQLite
can't know that, and would take frames out of a complete index. So the database is also read
without the journal, and of the two the one counts that knows more frames: an acquisition only adds
to them.
"""

import os
import shutil
import sqlite3
import stat
import struct
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from kraken_dagster.fs.plain_files import open_plain
from kraken_dagster.fs.result_files import is_away
from kraken_dagster.fs.tdf.sqlite_files import (
    columns_of,
    damaged,
    is_intact,
    limit,
    open_immutable,
    read_schema,
)
from kraken_dagster.model.errors import FileFormatError

WAL, ROLLBACK = "-wal", "-journal"
MOST_BYTES = 8 * 1024**3  # of a private copy
_PIECE_BYTES = 8 * 1024**2
_WAL_HEADER = struct.Struct(">IIIIIIII")  # magic, version, page size, checkpoint, salts, checksums
_WAL_FRAME = struct.Struct(">IIIIII")  # page, size of the database after a commit, salts, checksums
_WAL_MAGIC = (0x377F0682, 0x377F0683)
_PAGE_SIZES = frozenset(1 << bits for bits in range(9, 17))
_NEXT = "open a copy of the folder, made on the instrument, with Bruker's software, or compare it."


def journals_beside(path: Path) -> list[Path]:
    """The journals of a database that hold something.

    Raises:
        FileFormatError: there is one that can't be looked at.
        OSError: their disk or share is in trouble.
    """
    found = []
    for suffix in (WAL, ROLLBACK):
        journal = path.with_name(path.name + suffix)
        try:
            status = journal.lstat()
        except FileNotFoundError:
            continue
        except OSError as error:
            if is_away(error):
                raise
            raise _unreadable(journal, error) from error
        if not stat.S_ISREG(status.st_mode):
            raise _unreadable(journal, "no plain file")
        if status.st_size:
            found.append(journal)
    return found


def open_with_journals(path: Path, journals: Sequence[Path]) -> sqlite3.Connection:
    """A connection to the database as it is with what its journals hold, or without, if they are
    older.

    Raises:
        FileFormatError: it is no database, a journal is damaged, or there is no room for a copy.
    """
    with _private_copy(path, journals) as copy:
        _replay(path, copy, journals)
        # What is open stays readable when the folder is gone.
        replayed = open_immutable(copy)
    try:
        plain = open_immutable(path)
    except FileFormatError:  # a database without its journal is damaged more often than not
        plain = None
    ranks = [(_rank(one), one) for one in (replayed, plain) if one is not None]
    _, best = max(ranks, key=lambda pair: pair[0])  # of equals the first
    for _, other in ranks:
        if other is not best:
            other.close()
    if not is_intact(best):
        best.close()
        raise _unreadable(journals[0], f"a database that is damaged with it: {path.name}")
    return best


@contextmanager
def _private_copy(path: Path, journals: Sequence[Path]) -> Iterator[Path]:
    try:
        with TemporaryDirectory(prefix="kraken-index-") as folder:
            size = sum(one.lstat().st_size for one in (path, *journals))
            room = min(MOST_BYTES, shutil.disk_usage(folder).free)
            if size > room:
                raise FileFormatError(
                    f"There is no room for a private copy of {path.name} and its journal",
                    file=journals[0],
                    expected=f"at most {room} bytes in {folder!r}",
                    found=f"{size} bytes",
                    next_step="have TMPDIR name a folder with more room.",
                )
            for one in (path, *journals):
                with open_plain(one) as file, (Path(folder) / one.name).open("xb") as copy:
                    shutil.copyfileobj(file, copy, _PIECE_BYTES)
            yield Path(folder) / path.name
    except OSError as error:
        if is_away(error):
            raise
        raise _unreadable(journals[0], error) from error


def _replay(path: Path, copy: Path, journals: Sequence[Path]) -> None:
    """Has SQLite put the journals into the copy, which then needs none."""
    wal = next((one for one in journals if one.name.endswith(WAL)), None)
    committed = _committed_frames(wal) if wal is not None else 0
    try:
        with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
            limit(connection)
            connection.execute("PRAGMA locking_mode=EXCLUSIVE").fetchall()  # needs no -shm
            read_schema(connection)
            _, taken, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            connection.execute("PRAGMA journal_mode=DELETE").fetchall()
    except sqlite3.DatabaseError as error:
        raise damaged(path, f"{error}, together with {journals[0].name}") from error
    if wal is not None and taken < committed:
        raise FileFormatError(
            f"{wal.name} is damaged: SQLite takes only a part of it",
            file=wal,
            expected=f"{committed} pages, up to its last commit",
            found=f"{max(taken, 0)} that are whole",
            next_step=_NEXT,
        )


def _committed_frames(wal: Path) -> int:
    """How many pages a write-ahead log has, by its own word, up to its last commit."""
    last = 0
    with open_plain(wal) as file:
        head = file.read(_WAL_HEADER.size)
        if len(head) < _WAL_HEADER.size:
            raise _unreadable(wal, f"{len(head)} bytes")
        magic, _, page_size, _, *salts = _WAL_HEADER.unpack(head)[:6]
        if magic not in _WAL_MAGIC or page_size not in _PAGE_SIZES:
            raise _unreadable(wal, "no such log")
        number = 0
        while len(frame := file.read(_WAL_FRAME.size)) == _WAL_FRAME.size:
            _, database_size, *frame_salts, _, _ = _WAL_FRAME.unpack(frame)
            if frame_salts != salts:  # what an earlier round has left behind
                break
            number += 1
            last = number if database_size else last
            file.seek(page_size, os.SEEK_CUR)
    return last


def _rank(connection: sqlite3.Connection) -> tuple[bool, int, bool]:
    """The more, the better. Whether the data are there is not asked: a reading that knows of
    fewer frames would always agree better with data that were cut off.
    """
    try:
        columns = columns_of(connection, "Frames")
        frames = connection.execute("SELECT count(*) FROM Frames").fetchone()[0] if columns else -1
        return is_intact(connection), frames, _is_closed(connection)
    except sqlite3.DatabaseError:
        return False, -1, False


def _is_closed(connection: sqlite3.Connection) -> bool:
    if not {"key", "value"} <= columns_of(connection, "GlobalMetadata"):
        return False
    rows = connection.execute("SELECT Value FROM GlobalMetadata WHERE Key = 'ClosedProperly'")
    return any(str(value) == "1" for (value,) in rows)


def _unreadable(journal: Path, found: object) -> FileFormatError:
    return FileFormatError(
        f"{journal.name} can't be read, and without it frames may be missing",
        file=journal,
        expected="a journal of SQLite",
        found=found,
        next_step=_NEXT,
    )
