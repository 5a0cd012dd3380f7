"""What a metric may be and how it may be called, so that MongoDB holds it and a plot shows it."""

import math
import re
from collections.abc import Mapping
from typing import Any

from kraken_dagster.model.programs import CUSTOM, PROGRAMS

Value = float | int | str | None

TYPE_CUSTOM = CUSTOM.name
BUILT_IN_TYPES = frozenset(PROGRAMS) | {"mzqc"}
TYPE_RAW = "raw"  # of the raw file itself, by no settings

# Fields of the document in which the metrics stand beside each other.
RESERVED_NAMES = frozenset(
    {
        "_id",
        "raw_file",
        "settings_name",
        "settings_version",
        "type",
        "output_path",
        "created_at_",
        "provenance",
    }
)
MOST_METRICS = 5_000
LONGEST_NAME = 255  # characters
LONGEST_TEXT = 1_000  # characters
MOST_BYTES = 4_000_000  # of all names and texts together, which must fit into one document
_TOLD, _TOLD_CHARACTERS = 10, 60
_INTEGERS = range(-(2**63), 2**63)  # MongoDB's


def field_name(name: str) -> str:
    """The name in MongoDB, where a `.` would make a path."""
    return name.replace(".", ":")


def name_fault(name: object) -> str | None:
    """Why nothing can be stored under this name, None if it can."""
    if not isinstance(name, str):
        return f"a name must be a text, found {type(name).__name__}"
    if not name:
        return "a name must not be empty"
    if len(name) > LONGEST_NAME:
        return f"a name must not have more than {LONGEST_NAME} characters, found {len(name)}"
    if name.startswith("$"):
        return "a name must not start with `$`"
    if field_name(name) in RESERVED_NAMES:
        return "this name is reserved"
    if not name.isprintable():  # NUL, line ends, halves of characters
        return "a name must have printable characters only"
    return None


def value_fault(value: object) -> str | None:
    """Why this can't be stored as a metric, None if it can."""
    if isinstance(value, str):
        if len(value) > LONGEST_TEXT:
            return f"a text must not have more than {LONGEST_TEXT} characters, found {len(value)}"
        return "not a text in Unicode" if re.search("[\ud800-\udfff]", value) else None
    if isinstance(value, int):
        return None if value in _INTEGERS else "an integer must fit into 64 bits"
    if value is None or isinstance(value, float):
        return None
    return f"a metric must be a number, a text or None, found {type(value).__name__}"


def storable(metrics: Mapping[Any, object]) -> tuple[dict[str, Value], list[tuple[str, str]]]:
    """What of `metrics` can be stored, under the names of MongoDB, NaN and infinity as None; and
    pairs of a name and why it is left out.
    """
    kept: dict[str, Value] = {}
    faults: list[tuple[str, str]] = []
    size = 0
    for name, value in metrics.items():
        fault = name_fault(name) or value_fault(value)
        if fault is None and field_name(str(name)) in kept:
            fault = "another metric has this name, with `:` for `.`"
        if fault is None and len(kept) == MOST_METRICS:
            fault = f"only {MOST_METRICS} metrics are kept"
        if fault is None:
            size += sum(len(text.encode()) for text in (name, value) if isinstance(text, str))
            if size > MOST_BYTES:
                fault = f"only {MOST_BYTES} bytes of names and texts are kept"
        if fault is None:
            kept[field_name(str(name))] = _plain(value)
        else:
            faults.append((name if isinstance(name, str) else type(name).__name__, fault))
    return kept, faults


def faults_in_words(faults: list[tuple[str, str]]) -> str:
    """The first few, and how many more."""
    reported = [f"{name[:_TOLD_CHARACTERS]!r}: {fault}" for name, fault in faults[:_TOLD]]
    more = len(faults) - len(reported)
    return "; ".join(reported) + (f"; and {more} more" if more else "")


def _plain(value: object) -> Value:
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, str):
        return value[:]  # without a subclass, such as numpy's
    assert value is None or isinstance(value, int)
    return value if value is None or isinstance(value, bool) else int(value)
