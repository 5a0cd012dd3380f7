"""The table of files: which columns, in which order, and the rows of a window."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from kraken_dagster.metrics.catalogue import described, title_of
from kraken_dagster.web.column_config import ColumnChoice
from kraken_dagster.web.intake import BACKED, BASIC, FOLDER, QUALITY
from kraken_dagster.web.table.columns import Mask, Rows, Table
from kraken_dagster.web.views.words import number

_SHOWN_FIRST = (
    "instrument_id",
    "status",
    "created_at",
    QUALITY,
    "project_id",
    "size_gb",
    "status_details",
)
_CHIPS = ("status", QUALITY)
NEWEST = "-created_at"
MOST_ROWS = 500  # of one answer
_STEPS = 9  # of a gradient of colour
_MOST_COMPARED = 3_000  # values from which the ends of a gradient are taken


@dataclass(frozen=True)
class Shown:
    """A cell: its text, whole where it was cut, and a class of its colour."""

    text: str
    title: str = ""
    css: str = ""


@dataclass(frozen=True)
class Heading:
    """`about` is what the column says, and in which unit."""

    name: str
    title: str
    about: str
    is_number: bool
    gradient: str | None = None
    unit: str = ""


@dataclass(frozen=True)
class Choice:
    """A column that can be shown; `name` is its key in MongoDB, by which filters find it."""

    name: str
    title: str
    unit: str
    about: str
    is_shown: bool


@dataclass(frozen=True)
class Line:
    """`age` of the file, in words."""

    id: str
    cells: tuple[Shown, ...]
    age: str = ""


def names_of(table: Table, choice: ColumnChoice, wanted: Sequence[str] = ()) -> list[str]:
    """The columns to show: those that are asked for, else those of the configuration, else all
    that there are, with the usual ones first."""
    if wanted:
        return [name for name in wanted if name in table.columns]
    known = [name for name in table.columns if name not in (BACKED, FOLDER, *BASIC)]
    basic = [name for name in BASIC if name in table.columns and name in _SHOWN_FIRST]
    return choice.arranged([*basic, *sorted(known, key=str.lower)])


def ordered(table: Table, mask: Mask, sort: str) -> Rows:
    """The rows that are shown, sorted by a column; `-` before its name: greatest first.

    Rows without a value come last, either way.
    """
    name, descending = sort.removeprefix("-"), sort.startswith("-")
    rows = np.flatnonzero(mask)
    if name == "id":
        keys = np.array([table.ids[row] for row in rows], dtype=object)
        order = np.argsort(keys, kind="stable")
        return rows[order[::-1]] if descending else rows[order]
    column = table.columns.get(name)
    if column is None:
        name, descending, column = "created_at", True, table.columns.get("created_at")
    if column is None:
        return rows[::-1]
    values = table.numbers(name)[rows]
    if column.codes is not None:
        rank = np.empty(len(column.words) + 1)
        places = sorted(range(len(column.words)), key=lambda code: column.words[code].lower())
        rank[places] = np.arange(len(places))
        rank[-1] = np.nan
        texts = rank[table.codes(name)[rows]]
        top = np.nanmax(values, initial=0) if column.numbers is not None else 0
        values = np.where(np.isnan(values), texts + top + 1, values)
    missing = np.isnan(values)
    order = np.lexsort((-values if descending else values, missing))
    return rows[order]


def headings(table: Table, names: Sequence[str], choice: ColumnChoice) -> list[Heading]:
    return [
        Heading(
            name,
            title_of(name),
            about(name),
            table.columns[name].codes is None and not table.columns[name].is_time,
            choice.gradient(name),
            known.unit if (known := described(name)) is not None else "",
        )
        for name in names
    ]


def choices(table: Table, choice: ColumnChoice, shown: Sequence[str]) -> list[Choice]:
    """All columns there are, and which of them are shown, for the chooser."""
    return [
        Choice(
            name,
            title_of(name),
            known.unit if (known := described(name)) is not None else "",
            about(name),
            is_shown=name in shown,
        )
        for name in names_of(table, choice)
    ]


def in_full(name: str) -> str:
    """A column's title, with the unit."""
    known = described(name)
    unit = "" if known is None or not known.unit else f" ({known.unit})"
    return f"{title_of(name)}{unit}"


def about(name: str) -> str:
    """What a metric is, with its name in MongoDB, by which filters find it."""
    known = described(name)
    return name if known is None else f"{name}: {known.in_words}"


def lines(
    table: Table,
    rows: Rows,
    names: Sequence[str],
    choice: ColumnChoice,
    *,
    scale: Rows,
    ages: Mapping[int, str] | None = None,
) -> list[Line]:
    """The cells of some rows; colours are relative to the rows of `scale`."""
    ends = {
        name: found
        for name in names
        if choice.gradient(name) and (found := _ends(table, name, scale)) is not None
    }
    return [
        Line(
            table.ids[row],
            tuple(_shown(table, name, int(row), ends, choice) for name in names),
            (ages or {}).get(int(row), ""),
        )
        for row in rows
    ]


def paths(table: Table, rows: Sequence[int], form: str) -> str:
    """Files one per line: their `names`, the `paths` of their backups as the cluster sees them, or
    those quoted for a `shell`. A name with a line end would be two lines: it is left out, as is a
    file without a backup where its path is asked for."""
    found = []
    for row in rows:
        name, folder = table.ids[row], table.text(FOLDER, row)
        if form != "names" and not folder:
            continue
        text = name if form == "names" else f"{folder.rstrip('/')}/{name}"
        if "\n" not in text and "\r" not in text:
            found.append(shlex.quote(text) if form == "shell" else text)
    return "".join(f"{line}\n" for line in found)


def _shown(
    table: Table,
    name: str,
    row: int,
    ends: Mapping[str, tuple[float, float]],
    choice: ColumnChoice,
) -> Shown:
    column = table.columns[name]
    if column.codes is not None and column.codes[row] >= 0:
        text = column.words[column.codes[row]]
        css = f"status s-{text}" if name in _CHIPS and text.isidentifier() else ""
        return Shown(text, text if len(text) > 30 else "", css)
    if column.numbers is None or np.isnan(column.numbers[row]):
        return Shown("")
    value = float(column.numbers[row])
    if column.is_time:
        text = datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M")
        return Shown(text, css="created" if name == "created_at" else "")
    css = ""
    if name in ends and np.isfinite(value):
        low, high = ends[name]
        place = min(max((value - low) / (high - low), 0.0), 1.0)
        if choice.gradient(name) == "red_is_high":
            place = 1 - place
        css = f"g g{round(place * _STEPS)}"
    return Shown(number(value), repr(value), css)


def _ends(table: Table, name: str, rows: Rows) -> tuple[float, float] | None:
    """The 5th and the 95th percentile, so that one odd file doesn't take all the colour."""
    values = table.numbers(name)[rows[:_MOST_COMPARED]]
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return None
    low, high = np.percentile(values, (5, 95))
    return (float(low), float(high)) if high > low else None
