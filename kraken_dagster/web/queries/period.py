"""Dates as programs give them."""

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator


def in_utc(at: datetime) -> datetime:
    """A date without a zone is UTC, as everywhere in Kraken."""
    try:
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except OverflowError:
        raise ValueError("the date is out of range") from None


def _no_number(value: Any) -> Any:
    """A number would be seconds since 1970, and `since=2026` all files ever made."""
    try:
        float(value)
    except (TypeError, ValueError):
        return value
    except OverflowError:  # a number all the same
        pass
    raise ValueError("a date like 2026-01-31 or 2026-01-31T12:00 is expected, and no number")


Moment = Annotated[datetime, BeforeValidator(_no_number), AfterValidator(in_utc)]
AnyMoment = Annotated[datetime, AfterValidator(in_utc)]  # also seconds since 1970
