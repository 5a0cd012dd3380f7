"""Times of the day, hours and time zones in instruments.yaml."""

from datetime import time
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, StringConstraints, model_validator

from kraken_dagster.model.strict import Strict

TimeOfDay = Annotated[str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]


def _known(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("expected a time zone like Europe/Berlin") from None
    return name


TimeZone = Annotated[str, AfterValidator(_known)]


class Hours(Strict):
    """From `begin` to `end`, every day; past midnight where the end is earlier. Who has these has
    both fields, with what they mean."""

    begin: TimeOfDay
    end: TimeOfDay

    @model_validator(mode="after")
    def _some(self) -> "Hours":
        if self.begin == self.end:
            raise ValueError("expected two different times; leave the hours out for always")
        return self

    @property
    def times(self) -> tuple[time, time]:
        return time_of(self.begin), time_of(self.end)


def time_of(text: str) -> time:
    """`07:30` as a time."""
    hours, minutes = text.split(":")
    return time(int(hours), int(minutes))
