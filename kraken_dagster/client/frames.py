"""Rows of JSON as data frames: which type a column has."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from warnings import warn

import numpy as np
import pandas as pd

from kraken_dagster.client.errors import RestWarning

TIME, CATEGORY, INTEGER = "datetime64[ns, UTC]", "category", "Int64"
FLOAT, TEXT = "float64", "string"
# Columns that are always there, in the order of REST's answers.
_OF_A_FILE = ("original_name", "instrument_id", "project_id", "status", "status_details", "size")
_OF_A_COPY = ("backup_status", "backup_base_path", "instrument_file_status", "collision_flag")
_DATES_OF_A_FILE = ("created_at", "created_at_", "updated_at_", "verified_at")
OF_FILES = ("id", *_OF_A_FILE, *_OF_A_COPY, *_DATES_OF_A_FILE)
_SETTINGS = ("type", "settings_name", "settings_version")
OF_RESULTS = ("raw_file", "instrument_id", "project_id", "created_at", *_SETTINGS, "measured_at")
_TEXTS = ("id", "raw_file", "original_name", "status_details", "backup_base_path")
_CATEGORIES = ("instrument_id", "project_id", "status", "backup_status", "instrument_file_status")
_FURTHER_CATEGORIES = ("type", "settings_name", "settings", "quality")
_TYPES = {
    **dict.fromkeys((*_DATES_OF_A_FILE, "measured_at"), TIME),
    **dict.fromkeys((*_CATEGORIES, *_FURTHER_CATEGORIES), CATEGORY),
    **dict.fromkeys((*_TEXTS, "collision_flag"), TEXT),
}
_WHOLE = ("size", "settings_version")  # where there is no value, too
_FIRST, _LAST = pd.Timestamp.min.tz_localize("UTC"), pd.Timestamp.max.tz_localize("UTC")


def frame_of(rows: Sequence[Mapping[str, Any]], names: Iterable[str]) -> pd.DataFrame:
    """A column for each name; what a row lacks is missing in it.

    Dates are `datetime64[ns, UTC]`; names that repeat are categories; whole numbers are `Int64`,
    others `float64`, yes and no is `boolean`, and everything else `string`, also a column with a
    text among numbers.
    """
    columns = {name: _typed(name, [row.get(name) for row in rows]) for name in names}
    return pd.DataFrame(columns, index=pd.RangeIndex(len(rows)))


def _typed(name: str, values: Sequence[Any]) -> Any:
    kind = _TYPES.get(name) or _inferred(values, INTEGER if name in _WHOLE else FLOAT)
    if kind == TIME:
        return _times(name, values)
    if kind == CATEGORY:
        return pd.Categorical([None if value is None else str(value) for value in values])
    if kind == FLOAT:
        return np.array([math.nan if value is None else value for value in values], dtype=float)
    if kind == TEXT:
        values = [None if value is None else str(value) for value in values]
    return pd.array(values, dtype=kind)


def _inferred(values: Iterable[Any], without_values: str) -> str:
    kinds = {type(value) for value in values if value is not None}
    if not kinds:
        return without_values
    if kinds == {bool}:
        return "boolean"
    if kinds == {int}:
        return INTEGER
    return FLOAT if kinds <= {int, float} else TEXT


def _times(name: str, values: Sequence[Any]) -> pd.DatetimeIndex:
    """Dates that 64 bits of nanoseconds can't hold, which broken clocks write, are missing."""
    moments = [_moment(value) for value in values]
    lost = sum(at is pd.NaT for at in moments) - sum(value is None for value in values)
    if lost:
        warn(
            f"{name}: {lost} dates are missing, as they are not from {_FIRST.year} to {_LAST.year}",
            RestWarning,
            stacklevel=5,
        )
    return pd.DatetimeIndex(moments, dtype=TIME)


def _moment(value: Any) -> Any:
    try:
        at = datetime.fromisoformat(str(value))
        can_be = _FIRST <= at <= _LAST
    except (ValueError, TypeError):  # none, no date, or without a zone
        return pd.NaT
    return at if can_be else pd.NaT


def frame_of_traces(answers: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A row for each value of each trace: `raw_file`, `trace`, `unit`, `rt_min`, `value`.

    Args:
        answers: REST's, one for each file.
    """
    traces = [(answer["file"], trace) for answer in answers for trace in answer["traces"]]
    counts = np.array([len(trace["values"]) for _, trace in traces], dtype=int)

    def repeated(values: list[str]) -> pd.Categorical:
        categories = list(dict.fromkeys(values))
        codes = np.array([categories.index(value) for value in values], dtype=int)
        return pd.Categorical.from_codes(np.repeat(codes, counts), categories=categories)

    def joined(name: str) -> Any:
        return np.concatenate([np.empty(0), *(np.array(it[name], dtype=float) for _, it in traces)])

    columns = {
        "raw_file": repeated([file for file, _ in traces]),
        "trace": repeated([trace["name"] for _, trace in traces]),
        "unit": repeated([trace["unit"] for _, trace in traces]),
        "rt_min": joined("rt_min"),
        "value": joined("values"),
    }
    return pd.DataFrame(columns)
