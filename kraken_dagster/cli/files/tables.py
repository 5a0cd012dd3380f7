"""Tables of files that fit into the terminal; what isn't read by people has everything."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from kraken_dagster.cli.common import as_text, print_table, style_of

_EVERYTHING = (
    *("id", "instrument", "status", "backup", "size_bytes", "created_at"),
    *("waits_for", "details"),
)
_BETWEEN = "  "
_NARROWEST = 16  # an id of which less is shown tells nothing


def is_for_people(*, wide: bool) -> bool:
    """Whether a table is to fit into a terminal."""
    return sys.stdout.isatty() and not wide


def print_files(rows: Sequence[Mapping[str, Any]], *, wide: bool) -> None:
    """The files of `file_report.files`; below one that waits for something, or has failed, why."""
    if not is_for_people(wide=wide):
        print_table([dict(row) for row in rows], list(_EVERYTHING))
        return
    from kraken_dagster.web.views.words import size  # noqa: PLC0415

    console = Console(highlight=False)
    cells = [
        (
            as_text(row["id"]),
            as_text(row["instrument"]),
            as_text(row["status"]),
            size(row["size_bytes"]),
            day(row["created_at"]),
        )
        for row in rows
    ]
    notes = [row["details"] or row["waits_for"] for row in rows]
    heads = ("file", "instrument", "status", "size", "made (UTC)")
    for line in _lines(heads, cells, console.width, notes):
        console.print(line, no_wrap=True, overflow="ignore", crop=False)


def print_metrics(
    heads: Sequence[str], cells: Sequence[Sequence[str]], *, wide: bool
) -> Sequence[str]:
    """Files with their metrics, and the names of those for which there was no room.

    In a terminal the first two of `cells` are the file and when it was made.
    """
    if not is_for_people(wide=wide):
        print_table([dict(zip(heads, line, strict=True)) for line in cells], list(heads))
        return ()
    console = Console(highlight=False)
    kept = _fitting(heads, cells, console.width)
    lines = [line[:kept] for line in cells]
    for text in _lines(heads[:kept], lines, console.width, [None] * len(lines), numbers_from=2):
        console.print(text, no_wrap=True, overflow="ignore", crop=False)
    return heads[kept:]


def day(at: datetime | None) -> str:
    """A date as short as it can be."""
    return "-" if at is None else f"{at.astimezone(UTC):%y-%m-%d %H:%M}"


def _fitting(heads: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> int:
    """How many columns there is room for beside an id that can be told from others."""
    widths = _widths(heads, cells)
    longest = max((cell_len(line[0]) for line in cells), default=_NARROWEST)
    room = width - min(longest, 2 * _NARROWEST)
    kept = 1
    for number in widths[1:]:
        room -= number + len(_BETWEEN)
        if room < 0:
            break
        kept += 1
    return max(kept, 2)


def _widths(heads: Sequence[str], cells: Sequence[Sequence[str]]) -> list[int]:
    return [
        max(cell_len(head), *(cell_len(line[place]) for line in cells), 1)
        if cells
        else cell_len(head)
        for place, head in enumerate(heads)
    ]


def _lines(
    heads: Sequence[str],
    cells: Sequence[Sequence[str]],
    width: int,
    notes: Sequence[str | None],
    *,
    numbers_from: int = 99,
) -> Iterator[Text]:
    """A line for each file, its id shortened to what the others leave; notes below it."""
    widths = _widths(heads, cells)
    widths[0] = min(
        widths[0], max(_NARROWEST, width - sum(widths[1:]) - len(_BETWEEN) * (len(heads) - 1))
    )
    yield Text(_joined(heads, widths, numbers_from), style="bold")
    for line, note in zip(cells, notes, strict=True):
        text = Text()
        for place, cell in enumerate(line):
            shown = _sized(cell, widths[place], right=place >= numbers_from)
            text.append(_BETWEEN if place else "")
            text.append(shown, style=style_of(cell))
        text.rstrip()
        yield text
        if note:
            yield Text(f"  {_short(as_text(note), width - 2)}", style="dim")


def _joined(cells: Sequence[str], widths: Sequence[int], numbers_from: int) -> str:
    found = [
        _sized(cell, size, right=place >= numbers_from)
        for place, (cell, size) in enumerate(zip(cells, widths, strict=True))
    ]
    return _BETWEEN.join(found).rstrip()


def _sized(text: str, size: int, *, right: bool) -> str:
    text = _short(text, size)
    room = size - cell_len(text)
    return " " * room + text if right else text + " " * room


def _short(text: str, size: int) -> str:
    """Without its middle, by the places that letters take in a terminal."""
    if cell_len(text) <= size:
        return text
    tail = (size - 1) // 2
    head = set_cell_size(text, size - 1 - tail).rstrip()
    end = text[::-1]
    return f"{head}…{set_cell_size(end, tail).rstrip()[::-1]}"
