"""Makes messages of what alerts have pending: one for each kind, event and audience of a look,
whatever many subjects it has. Its id follows from these, so that none is made twice."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from kraken_dagster.alerts.channels.channel import Way
from kraken_dagster.alerts.wording import subject_of, text_of
from kraken_dagster.config.alerts import Alerts, QuietHours
from kraken_dagster.config.times import time_of
from kraken_dagster.model.alerts.alert import (
    Alert,
    Audience,
    Event,
    Reported,
    Severity,
    messages_made,
)
from kraken_dagster.model.alerts.outbox import Message
from kraken_dagster.store.connection import Store


@dataclass(frozen=True)
class Group:
    """What one message tells of. `audience` is the name of a list of channels."""

    kind: str
    event: Event
    at: datetime
    audience: str
    alerts: tuple[Alert, ...]

    @property
    def severity(self) -> Severity:
        return max((item.severity for item in self.alerts), key=list(Severity).index)

    def id_for(self, channel: str) -> str:
        """The same after a crash that left some of its alerts told and others not."""
        parts = [self.kind, self.event, self.at.isoformat(), self.audience, channel]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def make_messages(store: Store, settings: Alerts, ways: Iterable[Way], *, now: datetime) -> int:
    """Queues what is pending, and says so in the alerts; how many messages were queued.

    Raises:
        StoreUnavailable
    """
    ways, made = list(ways), 0
    untold = store.alerts.untold()
    reported: dict[str, list[Reported]] = {item.id: [] for item in untold}
    for group in groups(untold):
        ids = []
        for way in ways:
            if way.audience == group.audience:
                message = message_of(group, way, settings, now=now)
                made += store.outbox.add(message)
                ids.append(message.id)
        for alert in group.alerts:
            reported[alert.id].append(Reported(event=group.event, at=group.at, messages=tuple(ids)))
    for alert in untold:
        store.alerts.change(alert, messages_made(alert, reported[alert.id]))
    return made


def groups(untold: Sequence[Alert]) -> list[Group]:
    found: dict[tuple[datetime, str, Event, str], list[Alert]] = {}
    for alert in untold:
        for item in alert.pending:
            key = (item.at, alert.kind, item.event, audience_of(alert))
            found.setdefault(key, []).append(alert)
    return [
        Group(kind, event, at, audience, tuple(alerts))
        for (at, kind, event, audience), alerts in sorted(found.items())
    ]


def audience_of(alert: Alert) -> str:
    if alert.audience is Audience.OPERATOR and alert.user is not None:
        return alert.user
    return alert.audience.value


def message_of(group: Group, way: Way, settings: Alerts, *, now: datetime) -> Message:
    zone = settings.zone
    return Message(
        id=group.id_for(way.name),
        channel=way.name,
        kind=group.kind,
        event=group.event,
        severity=group.severity,
        alerts=tuple(item.id if way.names else item.kind for item in group.alerts),
        subject=subject_of(group.event, group.severity, group.alerts),
        text=text_of(group.event, group.alerts, settings=settings, names=way.names, zone=zone),
        created_at=group.at,
        next_try_at=not_before(settings, group.severity, now=now),
    )


def not_before(settings: Alerts, severity: Severity, *, now: datetime) -> datetime:
    """When a message may go: now, or at the end of the quiet hours."""
    hours = settings.quiet_hours
    if hours is None or severity.reaches(hours.breaks_through):
        return now
    return end_of_quiet(hours, now.astimezone(settings.zone)) or now


def end_of_quiet(hours: QuietHours, here: datetime) -> datetime | None:
    """When the quiet hours end that `here` is in; None if it is in none."""
    begin, end, time = time_of(hours.begin), time_of(hours.end), here.time()
    over_midnight = begin > end
    is_quiet = time >= begin or time < end if over_midnight else begin <= time < end
    if not is_quiet:
        return None
    day = here.date() + timedelta(days=1 if over_midnight and time >= begin else 0)
    return datetime.combine(day, end, tzinfo=here.tzinfo)
