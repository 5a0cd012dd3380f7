"""Whether Bruker's index (`analysis.tdf`, `analysis.tsf`) and its data (`..._bin`) are complete.

`Frames.TimsId` is the offset of a frame in the data. There stand first, as 32 bits, the frame's
length, and, in a tdf_bin, the number of its scans.
"""

import os
import sqlite3
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kraken_dagster.fs.plain_files import NoPlainFile, open_plain
from kraken_dagster.fs.tdf.sqlite_files import columns_of
from kraken_dagster.model.errors import FileFormatError

_LENGTH = struct.Struct("<I")
_LOOKED_AT = 8  # frames before the last, which show whether lengths stand in the data
# Data behind the last frame that the index knows. Files end with some slack.
_SLACK_FRAMES = 100  # times the longest frame
_SLACK_PART = 0.5  # of the file


@dataclass(frozen=True)
class _Frame:
    number: int
    offset: int


def require_all_data(connection: sqlite3.Connection, path: Path) -> None:
    """Raises FileFormatError if frames of the index have no data, or much data has no frames.

    An index without offsets says nothing, nor does one without frames.
    """
    if not {"id", "timsid"} <= columns_of(connection, "Frames"):
        return
    last = _last_frames(connection)
    if not last:
        return
    data = path.with_name(f"{path.name}_bin")
    try:
        with open_plain(data) as file:
            size = os.fstat(file.fileno()).st_size
            lengths = [_length(file.fileno(), frame.offset) for frame in last]
    except FileNotFoundError as error:
        raise _incomplete(data, last[-1], "a file with its data", "no such file") from error
    except NoPlainFile as error:
        raise _incomplete(data, last[-1], "a plain file with its data", str(error)) from error
    _require_data_of_last(data, last, lengths, size)
    _require_frames_of_data(connection, data, last[-1], size)


def _last_frames(connection: sqlite3.Connection) -> list[_Frame]:
    rows = connection.execute(
        "SELECT Id, TimsId FROM Frames WHERE typeof(TimsId) = 'integer' AND TimsId >= 0"
        " AND typeof(Id) = 'integer' ORDER BY TimsId DESC LIMIT ?",
        (_LOOKED_AT + 1,),
    )
    return [_Frame(*row) for row in rows][::-1]


def _length(handle: int, offset: int) -> int | None:
    """What stands at a frame's offset for its length; None behind the end."""
    if offset > 2**62:
        return None
    found = os.pread(handle, _LENGTH.size, offset)
    return _LENGTH.unpack(found)[0] if len(found) == _LENGTH.size else None


def _require_data_of_last(
    data: Path, last: Sequence[_Frame], lengths: Sequence[int | None], size: int
) -> None:
    frame, length = last[-1], lengths[-1]
    stand_there = _lengths_stand_there(last, lengths)
    if frame.offset >= size or (length is None and stand_there):
        expected = f"more than {frame.offset + _LENGTH.size} bytes"
        raise _incomplete(data, frame, expected, f"{size} bytes")
    if length is None or not stand_there:  # a simulation's data, say
        return
    if length < _LENGTH.size:
        expected = f"its length at byte {frame.offset}"
        raise _incomplete(data, frame, expected, f"{length} there")
    if frame.offset + length > size:
        raise _incomplete(data, frame, f"{frame.offset + length} bytes", f"{size} bytes")


def _lengths_stand_there(last: Sequence[_Frame], lengths: Sequence[int | None]) -> bool:
    """Whether each frame before the last ends, by its length, where the next one begins, or
    before.
    """
    between = zip(last, last[1:], lengths, strict=False)
    return len(last) > 1 and all(
        length is not None and _LENGTH.size <= length <= after.offset - frame.offset
        for frame, after, length in between
    )


def _require_frames_of_data(
    connection: sqlite3.Connection, data: Path, last: _Frame, size: int
) -> None:
    behind = size - last.offset
    if behind <= size * _SLACK_PART:  # as a rule; what follows sorts all frames
        return
    longest, frames = connection.execute(
        "SELECT max(gap), count(*) FROM (SELECT TimsId - lag(TimsId) OVER (ORDER BY TimsId) AS gap"
        " FROM Frames WHERE typeof(TimsId) = 'integer' AND TimsId >= 0)"
    ).fetchone()
    if frames < 3 or behind <= longest * _SLACK_FRAMES:
        return
    raise FileFormatError(
        f"{data.name} has data of which its index knows nothing",
        file=data,
        expected=f"about {last.offset + longest} bytes, up to the end of frame {last.number}, the "
        "last one of the index",
        found=f"{size} bytes",
        next_step="check that the index and its -wal were copied as they are on the instrument.",
    )


def _incomplete(data: Path, frame: _Frame, expected: str, found: str) -> FileFormatError:
    return FileFormatError(
        f"The data of frame {frame.number}, the last one of the index, are incomplete",
        file=data,
        expected=expected,
        found=found,
        next_step="compare the file with the instrument's: the acquisition or a copy was cut off.",
    )
