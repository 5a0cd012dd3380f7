"""Dates as programs give them."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator


def in_utc(at: datetime) -> datetime:
    """A date without a zone is UTC, as everywhere in Kraken."""
    try:
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except OverflowError:
        raise ValueError("the date is out of range") from None


Moment = Annotated[datetime, AfterValidator(in_utc)]
