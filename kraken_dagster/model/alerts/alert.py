"""Alerts: what holds right now (`Condition`), what was told of it (`Alert`), and how one becomes
the other. Pure: `now` is passed in.

An alert is one episode of a kind on a subject, from when it was first seen until it was away for
two looks. A change of it that somebody is to be told of stands in `pending` until a message exists.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

LOOKS_UNTIL_RESOLVED = 2
MEMBERS_KEPT = 100


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    def reaches(self, other: "Severity") -> bool:
        """Whether it is as severe as the other, or worse."""
        return list(Severity).index(self) >= list(Severity).index(other)


class Audience(StrEnum):
    OPERATIONS = "operations"
    LABORATORY = "laboratory"
    OPERATOR = "operator"  # whose initials stand in the file's name


class State(StrEnum):
    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    SILENCED = "silenced"
    RESOLVED = "resolved"


class Event(StrEnum):
    """What somebody is told of an alert. `more`: it has further members."""

    OPENED = "opened"
    MORE = "more"
    REMINDER = "reminder"
    RESOLVED = "resolved"


@dataclass(frozen=True)
class Condition:
    """That something is wrong with a subject, right now.

    Args:
        subject: what it is about: an instrument, a disk, a sensor.
        summary: one line, without names of files and projects.
        details: more of it; names of files may stand in it.
        members: files or runs that it is about, newest first.
        instrument: the one that is concerned, for silences and maintenance.
        user: initials of the operator who is told.
        since: when it began, as far as is known.
    """

    subject: str
    summary: str
    details: str = ""
    members: tuple[str, ...] = ()
    instrument: str | None = None
    user: str | None = None
    since: datetime | None = None
    severity: Severity | None = None


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class Pending(_Document):
    event: Event
    at: AwareDatetime


class Reported(_Document):
    """A message that was made of it; `outbox` says whether it went."""

    event: Event
    at: AwareDatetime
    messages: tuple[str, ...]  # ids, one for each channel


class Alert(_Document):
    """One episode. `id` is `<kind> <subject> #<number>`, so that two can't open the same one."""

    id: str = Field(alias="_id")
    kind: str
    subject: str
    number: int
    severity: Severity
    audience: Audience
    state: State
    summary: str
    details: str = ""
    next_step: str
    instrument: str | None = None
    user: str | None = None
    members: tuple[str, ...] = ()
    member_count: int = 0
    known_members: tuple[str, ...] = ()  # of which somebody was told
    since: AwareDatetime
    opened: AwareDatetime
    last_seen: AwareDatetime
    count: int = 1  # looks at which it held
    missed: int = 0  # looks in a row at which it did not
    told_at: AwareDatetime | None = None
    acknowledged_by: str | None = None
    acknowledged_at: AwareDatetime | None = None
    silenced_until: AwareDatetime | None = None
    resolved_at: AwareDatetime | None = None
    tells_end: bool = True
    pending: tuple[Pending, ...] = ()
    messages: tuple[Reported, ...] = ()
    version: int = 0

    @staticmethod
    def name(kind: str, subject: str, number: int) -> str:
        return f"{kind} {subject} #{number}"

    @property
    def short_id(self) -> str:
        """What a person types; `id` has spaces, and names of files may stand in it."""
        return hashlib.sha256(self.id.encode(errors="surrogateescape")).hexdigest()[:8]

    @property
    def is_told(self) -> bool:
        """Whether somebody was told of it, or is about to be."""
        return self.told_at is not None


class Silence(_Document):
    """What nobody is told of until an end. `*` stands for every kind or subject; with
    `instrument` it is maintenance of that instrument."""

    id: str = Field(alias="_id")
    kind: str = "*"
    subject: str = "*"
    instrument: str | None = None
    begins_at: AwareDatetime
    until: AwareDatetime
    reason: str
    by: str
    withdrawn_at: AwareDatetime | None = None

    def covers(self, kind: str, condition: Condition, now: datetime) -> bool:
        if self.withdrawn_at is not None or not self.begins_at <= now < self.until:
            return False
        if self.instrument is not None and self.instrument != condition.instrument:
            return False
        return self.kind in ("*", kind) and self.subject in ("*", condition.subject)


def silenced_until(
    silences: Sequence[Silence], kind: str, condition: Condition, now: datetime
) -> datetime | None:
    """Until when nobody is told of it; None if nobody has silenced it."""
    ends = [item.until for item in silences if item.covers(kind, condition, now)]
    return max(ends, default=None)


@dataclass(frozen=True)
class Manners:
    remind_after: timedelta
    more_after: timedelta


def opened(
    condition: Condition,
    *,
    kind: str,
    severity: Severity,
    audience: Audience,
    next_step: str,
    number: int,
    now: datetime,
    quiet_until: datetime | None,
    tells_end: bool = True,
) -> Alert:
    """The alert of a condition that no open alert is of."""
    alert = Alert(
        id=Alert.name(kind, condition.subject, number),
        kind=kind,
        subject=condition.subject,
        number=number,
        severity=condition.severity or severity,
        audience=Audience.OPERATOR if condition.user is not None else audience,
        state=State.OPEN if quiet_until is None else State.SILENCED,
        summary=condition.summary,
        details=condition.details,
        next_step=next_step,
        instrument=condition.instrument,
        user=condition.user,
        members=condition.members[:MEMBERS_KEPT],
        member_count=len(condition.members),
        since=condition.since or now,
        opened=now,
        last_seen=now,
        silenced_until=quiet_until,
        tells_end=tells_end,
    )
    return alert if quiet_until is not None else _tell(alert, Event.OPENED, now)


def still_holds(
    alert: Alert,
    condition: Condition,
    *,
    manners: Manners,
    now: datetime,
    quiet_until: datetime | None,
) -> Alert:
    """The alert after a look at which its condition holds."""
    state = State.OPEN if alert.acknowledged_by is None else State.ACKNOWLEDGED
    seen = alert.model_copy(
        update={
            "last_seen": now,
            "count": alert.count + 1,
            "missed": 0,
            "summary": condition.summary,
            "details": condition.details,
            "severity": condition.severity or alert.severity,
            "members": condition.members[:MEMBERS_KEPT],
            "member_count": len(condition.members),
            "state": state if quiet_until is None else State.SILENCED,
            "silenced_until": quiet_until,
            "version": alert.version + 1,
        }
    )
    if quiet_until is not None:
        return seen
    if alert.told_at is None:
        return _tell(seen, Event.OPENED, now)
    if alert.told_at > now:  # by a clock that was ahead: count from here
        seen = seen.model_copy(update={"told_at": now})
    since_told = max(now - alert.told_at, timedelta(0))
    if set(seen.members) - set(alert.known_members) and since_told >= manners.more_after:
        # What is new is not what somebody has acknowledged.
        fresh = {"acknowledged_by": None, "acknowledged_at": None, "state": State.OPEN}
        return _tell(seen.model_copy(update=fresh), Event.MORE, now)
    if alert.acknowledged_by is None and alert.tells_end and since_told >= manners.remind_after:
        return _tell(seen, Event.REMINDER, now)
    return seen


def does_not_hold(alert: Alert, *, now: datetime) -> Alert:
    """The alert after a look at which its condition is away; resolved after the second in a row."""
    missed = alert.missed + 1
    update = {"missed": missed, "version": alert.version + 1}
    if missed < LOOKS_UNTIL_RESOLVED:
        return alert.model_copy(update=update)
    over = alert.model_copy(update={**update, "state": State.RESOLVED, "resolved_at": now})
    return _tell(over, Event.RESOLVED, now) if alert.is_told and alert.tells_end else over


def acknowledged(alert: Alert, *, by: str, now: datetime) -> Alert:
    return alert.model_copy(
        update={
            "state": State.ACKNOWLEDGED,
            "acknowledged_by": by,
            "acknowledged_at": now,
            "version": alert.version + 1,
        }
    )


def messages_made(alert: Alert, reported: Sequence[Reported]) -> Alert:
    """The alert after messages were made of what was pending."""
    done = {(item.event, item.at) for item in reported}
    left = tuple(item for item in alert.pending if (item.event, item.at) not in done)
    return alert.model_copy(
        update={
            "pending": left,
            "messages": (*alert.messages, *reported),
            "version": alert.version + 1,
        }
    )


def _tell(alert: Alert, event: Event, now: datetime) -> Alert:
    known = dict.fromkeys((*alert.members, *alert.known_members))
    return alert.model_copy(
        update={
            "pending": (*alert.pending, Pending(event=event, at=now)),
            "told_at": now,
            "known_members": tuple(known)[: 10 * MEMBERS_KEPT],
        }
    )
