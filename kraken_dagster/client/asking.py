"""What is asked for, as parameters of REST, and which columns the answer has."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any
from urllib.parse import quote

EVERYTHING = "*"

Names = str | Iterable[str]
Moment = str | date | None
Row = Mapping[str, Any]


def conditions_of(**given: Moment) -> dict[str, str | None]:
    """Dates as ISO 8601; what is empty is not asked."""
    return {
        name: value.isoformat() if isinstance(value, date) else value or None
        for name, value in given.items()
    }


def file_at(file_id: str) -> str:
    """Where a file is below `/api/v1/`, whatever its name holds."""
    return f"files/{quote(file_id, safe='')}"


def listed(names: Names) -> list[str]:
    """One name, several with a comma between, or a list of them."""
    parts = names.split(",") if isinstance(names, str) else names
    return list(dict.fromkeys(part.strip() for part in parts if part.strip()))


def columns_of(
    rows: Iterable[Row], basic: Sequence[str], wanted: Sequence[str], *, key: str | None = None
) -> list[str]:
    """Names of columns: the basic ones, then metrics by name, or in the order of `wanted`.

    Args:
        key: the only basic column that is there besides `wanted`; None: all are.
    """
    if wanted and EVERYTHING not in wanted:
        return list(dict.fromkeys([*(basic if key is None else [key]), *wanted]))
    known = {name for row in rows for name in row}
    return [*basic, *sorted(known - set(basic), key=str.lower)]


def told_by_all(pages: Sequence[Mapping[str, Any]]) -> list[str]:
    """Warnings that hold for all pages together; a page says what no file *of it* has."""
    with_files = [page for page in pages if page["data"]] or list(pages)
    told = [page.get("warnings", []) for page in with_files]
    return [text for text in (told[0] if told else []) if all(text in other for other in told)]
