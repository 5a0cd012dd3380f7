"""Values of documents as JSON can hold them, and the place at which a page of a list has ended."""

import base64
import binascii
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from pydantic import BaseModel

from kraken_dagster.model.errors import InputRefused

Place = tuple[datetime, str]  # `created_at` and id of the last file of a page

_LONGEST_CURSOR = 2_000


def plain(value: Any) -> Any:
    """Dates in UTC as ISO 8601 with `Z`; no NaN and no infinity, which JSON lacks; ids as text."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, datetime):
        return utc_text(value)
    if isinstance(value, BaseModel):
        return plain(value.model_dump())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return str(value)


def utc_text(at: datetime) -> str:
    """`2026-11-27T09:41:00.123Z`; a date without a zone is UTC."""
    known = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    return known.isoformat().replace("+00:00", "Z")


def cursor_of(place: Place) -> str:
    text = json.dumps([place[0].astimezone(UTC).isoformat(), place[1]])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def place_of(cursor: str) -> Place:
    """
    Raises:
        InputRefused: it is none that a list has given.
    """
    try:
        padded = cursor[:_LONGEST_CURSOR] + "=" * (-len(cursor) % 4)
        at, file_id = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        return datetime.fromisoformat(at).astimezone(UTC), "".join(file_id)
    except (ValueError, TypeError, OverflowError, RecursionError, binascii.Error):
        raise InputRefused(
            "The cursor is not one that a list gave",
            expected="the value of `next` of the page before",
            found=cursor[:80],
            next_step="begin without a cursor.",
        ) from None
