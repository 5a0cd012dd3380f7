"""A file that is read by addresses which stand in it, none of which is believed."""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kraken_dagster.fs.plain_files import NoPlainFile, open_plain
from kraken_dagster.model.errors import FileFormatError

BLOCK_BYTES = 1024 * 1024
_LONGEST_TEXT = 16_384  # characters
_COUNT = struct.Struct("<I")


class ByteFile:
    """Reads by position, never beyond the end, at most what is asked for."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path = path
        self._handle = handle
        self.size = os.fstat(handle).st_size

    def read(self, offset: int, count: int, what: str) -> bytes:
        """Exactly `count` bytes.

        Raises:
            FileFormatError: they are not all in the file.
        """
        if offset < 0 or count < 0 or offset + count > self.size:
            raise self.torn(what, f"{count} bytes at byte {offset}")
        found = os.pread(self._handle, count, offset)
        while len(found) < count:
            more = os.pread(self._handle, count - len(found), offset + len(found))
            if not more:
                raise self.torn(what, f"{count} bytes at byte {offset}")
            found += more
        return found

    def entries(self, offset: int, entry_bytes: int, count: int, what: str) -> Iterator[bytes]:
        """All of `count` entries of one size, in blocks of whole ones."""
        if offset < 0 or offset + entry_bytes * count > self.size:
            raise self.torn(what, f"{count} of {entry_bytes} bytes at byte {offset}")
        at_once = max(1, BLOCK_BYTES // entry_bytes)
        for first in range(0, count, at_once):
            length = entry_bytes * min(at_once, count - first)
            yield self.read(offset + first * entry_bytes, length, what)

    def cursor(self, offset: int, what: str) -> "Cursor":
        """Over the block that begins there."""
        count = min(BLOCK_BYTES, self.size - offset)
        if count <= 0:
            raise self.torn(what, f"more than {offset} bytes")
        return Cursor(self, self.read(offset, count, what), offset, what)

    def torn(self, what: str, expected: str) -> FileFormatError:
        return FileFormatError(
            f"The file ends before the end of its {what}",
            file=self.path,
            expected=expected,
            found=f"a file of {self.size} bytes",
            next_step="compare it with the instrument's: the acquisition or a copy was cut off.",
        )

    def not_understood(self, what: str, *, expected: str, found: object) -> FileFormatError:
        return FileFormatError(
            f"The format is not understood: {what}",
            file=self.path,
            expected=expected,
            found=found,
            next_step="open a copy with the vendor's software. If it is fine, report its version.",
        )


class Cursor:
    """Takes one field after the other from a block of a file."""

    def __init__(self, file: ByteFile, data: bytes, offset: int, what: str) -> None:
        self._file, self._data, self._what = file, data, what
        self._offset = offset
        self._at = 0

    @property
    def position(self) -> int:
        return self._offset + self._at

    def skip(self, count: int) -> None:
        self._at += count

    def take(self, form: str) -> tuple[Any, ...]:
        try:
            found = struct.unpack_from(f"<{form}", self._data, self._at)
        except struct.error as error:
            expected = f"{struct.calcsize(form)} bytes at byte {self.position}"
            raise self._file.torn(self._what, expected) from error
        self._at += struct.calcsize(f"<{form}")
        return found

    def number(self) -> int:
        return int(self.take("I")[0])

    def text(self) -> str:
        """A count of characters, and so many of UTF-16."""
        count = self.number()
        if count > _LONGEST_TEXT:
            raise self._file.not_understood(
                f"a text of its {self._what}",
                expected=f"at most {_LONGEST_TEXT} characters at byte {self.position}",
                found=count,
            )
        (found,) = self.take(f"{2 * count}s")
        return bytes(found).decode("utf-16-le", "replace").rstrip("\0")


@contextmanager
def opened(path: Path, expected: str) -> Iterator[ByteFile]:
    """The file at `path`, which is plain and has content.

    Raises:
        FileFormatError
    """
    try:
        file = open_plain(path)
    except (FileNotFoundError, NotADirectoryError, NoPlainFile) as error:
        raise FileFormatError(
            f"There is no plain file {path.name}",
            file=path,
            expected=expected,
            found=error if isinstance(error, NoPlainFile) else None,
        ) from error
    with file:
        found = ByteFile(path, file.fileno())
        if not found.size:
            raise FileFormatError("The file is empty", file=path, expected=expected)
        yield found
