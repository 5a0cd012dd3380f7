"""What a cell may hold, and how it is written as text."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

Cell = str | float | int | bool | datetime | None
Cells = Mapping[str, Cell]

_EXACT = 1e15  # up to here a float that is whole is written as a whole number


def number_text(value: float) -> str:
    """A number as the filter sees it: `100`, `0.25`; nothing where there is none."""
    if math.isnan(value):
        return ""
    if abs(value) < _EXACT and value == math.floor(value):
        return str(int(value))
    return repr(float(value))


def time_text(seconds: float) -> str:
    """UTC epoch seconds as `2026-11-27 09:41:00`."""
    if math.isnan(seconds):
        return ""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def times_text(seconds: npt.NDArray[np.float64]) -> list[str]:
    """The same for many."""
    dates = (seconds * 1000).astype("datetime64[ms]").astype("datetime64[s]")
    return [str(item).replace("T", " ") for item in np.datetime_as_string(dates)]


def one_line(text: str) -> str:
    """Cells of a row are told apart by line ends when they are searched."""
    return text.replace("\n", " ")
