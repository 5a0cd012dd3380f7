"""What a person says of alerts: seen, be quiet about it, try the channels."""

import os
import secrets
from collections.abc import Iterator, Mapping
from datetime import datetime

from kraken_dagster.alerts.channels.channel import ways
from kraken_dagster.model.alerts.alert import Alert, Severity, Silence, State, acknowledged
from kraken_dagster.model.alerts.outbox import Message
from kraken_dagster.model.errors import InputRefused, KrakenError, UnknownAlert
from kraken_dagster.runtime.services import Services

_TRIES = 5


def acknowledge(services: Services, name: str, *, by: str) -> Alert:
    """
    Args:
        name: the alert's id, or the short one.

    Raises:
        UnknownAlert: there is no such alert that is open.
        StoreUnavailable
    """
    store = services.store.alerts
    for _ in range(_TRIES):  # a monitor may change it at the same moment
        found = next((it for it in store.current() if name in (it.id, it.short_id)), None)
        if found is None:
            break
        after = acknowledged(found, by=by, now=services.now())
        if store.change(found, after):
            return after
    raise UnknownAlert(
        "No such alert is open",
        file=name,
        expected="the id of an open alert, as `kraken alerts list` shows it",
        next_step="see `kraken alerts list`.",
    )


def silence(
    services: Services,
    *,
    kind: str,
    subject: str,
    instrument: str | None,
    until: datetime,
    reason: str,
    by: str,
) -> Silence:
    """
    Raises:
        InputRefused: nothing is named, no reason, or an end that has passed.
        StoreUnavailable
    """
    now = services.now()
    if (kind, subject, instrument) == ("*", "*", None):
        raise InputRefused(
            "A silence must name what it applies to",
            expected="--kind, --subject or --instrument",
            next_step="name one; to silence everything, use quiet hours in instruments.yaml.",
        )
    if until <= now or not reason.strip():
        raise InputRefused(
            "A silence needs an end in the future, and a reason",
            found=f"until {until:%Y-%m-%d %H:%M} UTC, reason {reason!r}",
            next_step="give both.",
        )
    made = Silence(
        id=secrets.token_hex(4),
        kind=kind,
        subject=subject,
        instrument=instrument,
        begins_at=now,
        until=until,
        reason=reason,
        by=by,
    )
    services.store.alerts.silence(made)
    return made


def try_channels(
    services: Services, *, only: str | None = None, environment: Mapping[str, str] = os.environ
) -> Iterator[tuple[str, str | None]]:
    """Sends a message by each channel; its name, and why it could not be sent."""
    now = services.now()
    for way in ways(services.config.alerts, environment=environment).values():
        if only is not None and only not in (way.name, way.audience):
            continue
        message = Message(
            id=f"test-{secrets.token_hex(8)}",
            channel=way.name,
            kind="test",
            event="test",
            severity=Severity.INFO,
            subject="Kraken: a test of alerts",
            text=f"This is a test of the channel {way.name}. Nothing is wrong.\n",
            created_at=now,
            next_try_at=None,
        )
        try:
            yield way.name, way.send(message)
        except KrakenError as error:
            yield way.name, str(error)


def row(services: Services, alert: Alert) -> dict[str, object]:
    """An alert as commands show it, with what became of its messages."""
    ids = [name for made in alert.messages for name in made.messages]
    messages = services.store.outbox.many(ids)
    return {
        "id": alert.short_id,
        "name": alert.id,
        "kind": alert.kind,
        "subject": alert.subject,
        "instrument": alert.instrument,
        "severity": alert.severity,
        "audience": alert.user or alert.audience,
        "state": alert.state,
        "summary": alert.summary,
        "details": alert.details,
        "members": list(alert.members),
        "member_count": alert.member_count,
        "since": alert.since,
        "opened": alert.opened,
        "last_seen": alert.last_seen,
        "count": alert.count,
        "acknowledged_by": alert.acknowledged_by,
        "silenced_until": alert.silenced_until if alert.state is State.SILENCED else None,
        "resolved_at": alert.resolved_at,
        "next_step": alert.next_step,
        "messages": [
            {
                "id": item.id,
                "channel": item.channel,
                "event": item.event,
                "state": item.state,
                "tries": item.tries,
                "sent_at": item.sent_at,
                "error": item.error,
            }
            for item in messages.values()
        ],
    }
