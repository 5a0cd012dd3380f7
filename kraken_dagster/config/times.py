"""Times of the day and time zones in instruments.yaml."""

from datetime import time
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, StringConstraints

TimeOfDay = Annotated[str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]


def _known(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("expected a time zone like Europe/Berlin") from None
    return name


TimeZone = Annotated[str, AfterValidator(_known)]


def time_of(text: str) -> time:
    """`07:30` as a time."""
    hours, minutes = text.split(":")
    return time(int(hours), int(minutes))
