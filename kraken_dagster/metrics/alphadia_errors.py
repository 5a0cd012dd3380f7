"""Why an AlphaDIA search failed: the codes of its events, or else the last error of its log.

Both files are whatever a failed program left behind: cut off, huge, or not there.
"""

import json
import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from kraken_dagster.fs.result_files import (
    is_away,
    is_below,
    opened_below,
    unreadable,
)

NO_LOG_FILE = "__NO_LOG_FILE"
UNKNOWN_ERROR = "__UNKNOWN_ERROR"
COULD_NOT_DETERMINE_ERROR = "__COULD_NOT_DETERMINE_ERROR"

LOG_NAME = "log.txt"
EVENTS_NAME = "events.jsonl"
STEMS_NAME = "quant"

LOG_BYTES = 4 * 1024 * 1024  # of a longer log only the end is read
EVENTS_BYTES = 16 * 1024 * 1024  # of longer events too
LINE_BYTES = 1024 * 1024  # a longer line is a metric, no exception
MAX_CODE_LENGTH = 64
MAX_CODES = 100
MAX_STEMS = 100

# What AlphaDIA 1 and 2 call their own errors. With a name the text is not asked.
_NAMES = (
    "CONFIG_ERROR",
    "NO_LIBRARY_AVAILABLE",
    "NO_OPTIMIZATION_LOCK_TARGET",
    "NO_PSM_FOUND",
    "NO_RECALIBRATION_TARGET",
    "NOT_DIA_DATA",
    "NOT_VALID_DIA_DATA",
    "TOO_FEW_PROTEINS",
    "TOO_FEW_PSM",
    "USER_ERROR",
)
_NAME = re.compile(rf"\b(?:{'|'.join(_NAMES)})\b", re.ASCII)
# Errors of its libraries, which have no name, by their text. What hints at a damaged or missing
# raw file is not here: it stays unknown, so that someone looks.
_TEXTS = (
    ("_CANNOT_FIND_ITEM", "Cannot find item [Idx] within the current storage"),
    ("_FAILED_TO_DETERMINE_DIA_CYCLE", "Failed to determine start of DIA cycle"),
    ("_RUN_HEADER_EX", "RunHeaderEx"),
    ("_ARRAY_ERROR", "array must not contain infs or NaNs"),
    ("_FRAGMENT_MZ_TOLERANCE_MUST_BE_LESS_THAN", "fragment_mz_tolerance must be less than"),
    ("_PRECURSOR_MZ_TOLERANCE_MUST_BE_LESS_THAN", "precursor_mz_tolerance must be less than"),
    ("_NEED_AT_LEAST_ONE_ARRAY", "need at least one array to concatenate"),
    ("_NO_OBJECTS_TO_CONCATENATE", "No objects to concatenate"),
    (
        "_DATA_IN_LOW_DIM_SUBSPACE",
        "The data appears to lie in a lower-dimensional subspace of the space in which it is "
        "expressed",
    ),
    ("_NO_CONSISTENT_SUBCYCLE_LENGTH", "No consistent subcycle length"),
    ("_TRAIN_SET_WILL_BE_EMPTY", "the resulting train set will be empty"),
    ("_CYCLE_NOT_CONSISTENT", "but does not consistent"),
    ("_NO_PSM_FILES", "No psm files accumulated"),
    ("_COMBINED_PSM_FILE_EMPTY", "combined psm file is empty, can't continue"),
    ("_NOT_DIA_DATA", "'TimsTOFTranspose' object has no attribute '_cycle'"),
    ("_KEY_MISSING_RT_CALIBRATED", "ERROR: 'rt_calibrated'"),
    ("_KEY_MISSING_MZ_CALIBRATED", "ERROR: 'mz_calibrated'"),
    ("_KEY_MISSING_MOBILITY_CALIBRATED", "ERROR: 'mobility_calibrated'"),
    ("_FIRST_ARRAY_ELEMENT_EMPTY", "first array argument cannot be empty"),
    ("_ARGMAX_OF_EMPTY_SEQUENCE", "attempt to get argmax of an empty sequence"),
    (
        "_INTERNAL_ERROR_CANDIDATE_CONFIG",
        "'CandidateConfig' object has no attribute 'reporter'",
    ),
    ("_SINGULAR_MATRIX", "Matrix is singular to machine precision"),
)


def error_codes(folder: Path) -> list[str]:
    """The codes of the `exception` events in a result folder, in their order; several raw files
    by name. If there are none, the one code of the log.
    """
    codes = islice(_event_codes(folder), MAX_CODES)
    return list(codes) or [_code_of_log(folder)]


def log_error(text: str) -> str:
    """The code of the last line with `ERROR` in a log's text."""
    for line in reversed(re.split(r"[\r\n]+", text)):
        if "ERROR" in line:
            return _code_of_line(line)
    return COULD_NOT_DETERMINE_ERROR


def _code_of_line(line: str) -> str:
    if (name := _NAME.search(line)) is not None:
        return name[0]
    return next((code for code, text in _TEXTS if text in line), UNKNOWN_ERROR)


def _code_of_log(folder: Path) -> str:
    try:
        with opened_below(folder, folder / LOG_NAME) as log:
            _seek_last(log, LOG_BYTES)
            return log_error(log.read(LOG_BYTES).decode(errors="replace"))
    except (FileNotFoundError, NotADirectoryError):
        return NO_LOG_FILE
    except OSError as error:
        _refuse_trouble(folder, error)
        return COULD_NOT_DETERMINE_ERROR


def _refuse_trouble(path: Path, error: OSError) -> None:
    """A share that gives an error says nothing of why a search failed: it is looked for again."""
    if is_away(error):
        raise unreadable(path, error) from error


def _event_codes(folder: Path) -> Iterator[str]:
    for stem in _stems(folder):
        try:
            with opened_below(folder, stem / EVENTS_NAME) as events:
                for line in _last_lines(events):
                    if (code := _code_of_event(line)) is not None:
                        yield code
        except OSError as error:
            _refuse_trouble(stem, error)
            continue


def _stems(folder: Path) -> list[Path]:
    parent = folder / STEMS_NAME
    if not is_below(folder, parent):
        return []
    try:
        return sorted(parent.iterdir())[:MAX_STEMS]
    except OSError as error:
        _refuse_trouble(parent, error)
        return []


def _code_of_event(line: bytes) -> str | None:
    if b"exception" not in line:  # most lines: not worth parsing
        return None
    try:
        event = json.loads(line.decode(errors="replace"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or event.get("name") != "exception":
        return None
    code = event.get("error_code")
    if not isinstance(code, str):
        return None
    printable = "".join(filter(str.isprintable, code.strip()[:MAX_CODE_LENGTH]))
    return printable.strip() or None


def _last_lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines in the last `EVENTS_BYTES`, without those of more than `LINE_BYTES`."""
    left = EVENTS_BYTES
    whole = not _seek_last(file, left)
    while left > 0 and (piece := file.readline(min(left, LINE_BYTES))):
        left -= len(piece)
        ended = piece.endswith(b"\n")
        if whole and (ended or len(piece) < LINE_BYTES):
            yield piece
        whole = ended


def _seek_last(file: BinaryIO, size: int) -> bool:
    """Goes to where the last `size` bytes begin; whether that is within the file."""
    start = os.fstat(file.fileno()).st_size - size
    if start <= 0:
        return False
    file.seek(start)
    return True
