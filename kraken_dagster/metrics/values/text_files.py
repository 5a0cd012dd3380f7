"""Whether a text table is whole, and in which encoding it is.

Every program whose tables are read here ends each line, the last one too. A table that doesn't was
cut off, perhaps within a number, which then looks like another one.
"""

import codecs
import os
from pathlib import Path
from typing import BinaryIO

from kraken_dagster.model.errors import FileFormatError

_LINE_ENDS = (b"\n", b"\r")
_BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_ZEROS = "\0" * 8
_LOOKED_AT = 64 * 1024  # bytes at a big table's end


def decoded(path: Path, content: bytes) -> str:
    """The text of a table: UTF-8, UTF-16 with its mark, or else as Windows writes in Western
    Europe; FileFormatError if it was cut off or damaged.
    """
    encoding = encoding_of(content)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise FileFormatError(
                "A result table can't be read", file=path, expected=encoding, found=error
            ) from error
        text = content.decode("cp1252", "replace")
    if not text:
        raise FileFormatError("A result table is empty", file=path, expected="a row of names")
    if _ZEROS in text or text.endswith("\0"):
        raise _damaged(path)
    if text[-1] not in "\n\r":
        raise cut_off(path, f"the end {text[-20:]!r}")
    return text


def encoding_of(start: bytes) -> str:
    return next((name for mark, name in _BOMS.items() if start.startswith(mark)), "utf-8")


def require_whole(path: Path, file: BinaryIO) -> str:
    """The encoding of a table that is too big to be held; FileFormatError as in `decoded`."""
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    encoding = encoding_of(file.read(3))
    file.seek(max(0, size - _LOOKED_AT))
    end = file.read(_LOOKED_AT)
    file.seek(0)
    if not end:
        raise FileFormatError("A result table is empty", file=path, expected="a row of names")
    if encoding == "utf-16":
        if end[-2:] not in (b"\n\0", b"\0\n", b"\r\0", b"\0\r"):
            raise cut_off(path, f"the end {end[-20:]!r}")
        return encoding
    if _ZEROS.encode() in end or end.endswith(b"\0"):
        raise _damaged(path)
    if not end.endswith(_LINE_ENDS):
        raise cut_off(path, f"the end {end[-20:]!r}")
    return "utf-8"


def cut_off(path: Path, found: str) -> FileFormatError:
    return FileFormatError(
        "A result table ends within a line: it was cut off",
        file=path,
        expected="a line end after the last row",
        found=found,
        next_step="look into the job's log, and for a full disk; then process the file again.",
    )


def _damaged(path: Path) -> FileFormatError:
    return FileFormatError(
        "A result table has zero bytes, as a crash leaves them",
        file=path,
        expected="text",
        next_step="process the file again.",
    )
