"""Dates that an instrument's disk tells: of clocks that are wrong, and of programs that set none.

Nothing is decided by a date that can't be. Then the time at which Kraken first saw the file counts,
and what the disk said is kept beside it.
"""

from datetime import UTC, datetime, timedelta

# Older than any instrument that is served. Zero, 1601 and 1980 are what systems say for "unknown".
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
# What two clocks that NTP sets don't differ by.
TOLERANCE = timedelta(minutes=1)
# Windows writes a file's time hours after its data, and takes one time zone for another.
LATENESS = timedelta(days=1)


def plausible(epoch: float, *, first_seen: datetime) -> datetime:
    """A time in epoch seconds (UTC), if the file can have been made then; else `first_seen`."""
    if not EARLIEST.timestamp() <= epoch < first_seen.timestamp():
        return first_seen
    return datetime.fromtimestamp(epoch, tz=UTC)


def is_plausible(epoch: float, *, now: datetime) -> bool:
    return EARLIEST.timestamp() <= epoch <= (now + TOLERANCE).timestamp()


def dated(created_at: datetime, *, first_seen: datetime) -> datetime:
    """The same for a date that is recorded, be it by another program."""
    return created_at if EARLIEST <= created_at <= first_seen else first_seen


def local(at: datetime, *, now: datetime | None = None) -> str:
    """A time as people here read it, `14:02 CET`; with the date unless that is today's.

    Here is where this process runs (`TZ`, `/etc/localtime`).
    """
    here = at.astimezone()
    if now is not None and here.date() == now.astimezone().date():
        return f"{here:%H:%M %Z}"
    return f"{here:%Y-%m-%d %H:%M %Z}"


def clock_difference(*, newest: float | None, grew: float | None, now: datetime) -> float | None:
    """By how many seconds an instrument's clock differs from ours; None: not that anybody knows.

    Args:
        newest: the latest time that anything in the folder has.
        grew: the latest time of what is known to have been written a moment ago.
    """
    at = now.timestamp()
    if newest is not None and newest - at > TOLERANCE.total_seconds():
        return newest - at
    if grew is not None and at - grew > LATENESS.total_seconds():
        return grew - at
    return None


def in_words(difference: float) -> str:
    """`364 days ahead of`, `3.0 hours behind`: what a clock is, compared with ours."""
    size = abs(difference)
    for unit, seconds in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if size >= 2 * seconds:
            return f"{size / seconds:.1f} {unit} {'ahead of' if difference > 0 else 'behind'}"
    return f"{size:.0f} seconds {'ahead of' if difference > 0 else 'behind'}"
