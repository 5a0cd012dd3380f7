"""The digest on working days: that it comes says that alerts work, also when all is well."""

import hashlib
from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta

from kraken_dagster.alerts.channels.channel import Way
from kraken_dagster.alerts.rules.disks import days_until_full
from kraken_dagster.alerts.rules.rule import lasted
from kraken_dagster.alerts.snapshot import InstrumentFacts, Snapshot
from kraken_dagster.alerts.wording import links
from kraken_dagster.config.alerts import Alerts, Weekday
from kraken_dagster.config.times import time_of
from kraken_dagster.model.alerts.alert import Alert, Audience, Severity
from kraken_dagster.model.alerts.outbox import Message
from kraken_dagster.model.printable import printable
from kraken_dagster.store.connection import Store

KIND = "digest"
_LATE = timedelta(hours=4)


def make_digest(
    store: Store, snapshot: Snapshot, settings: Alerts, ways: Iterable[Way], *, now: datetime
) -> int:
    """Queues the day's digest once its time has come; how many messages that are.

    Raises:
        StoreUnavailable
    """
    day = due_day(settings, now, began_at=store.alerts.began_at(now))
    if day is None or store.alerts.last_look().get("digest") == day.isoformat():
        return 0
    alerts = [item for item in store.alerts.current() if item.is_told]
    made = 0
    for way in ways:
        if way.audience == Audience.OPERATIONS:
            text = text_of(alerts, snapshot, settings, now)
            made += store.outbox.add(_message(way, day, subject_of(day, alerts), text, now))
    store.alerts.digest_made(day.isoformat())
    return made


def due_day(settings: Alerts, now: datetime, *, began_at: datetime) -> date | None:
    """The day whose digest is due. One that would be hours late is left out: the next one comes."""
    if settings.digest.at is None:
        return None
    here = now.astimezone(settings.zone)
    due = datetime.combine(here.date(), time_of(settings.digest.at), tzinfo=settings.zone)
    working = list(Weekday)[here.weekday()] in settings.digest.days
    is_due = due <= here < due + _LATE and began_at <= due
    return here.date() if working and is_due else None


def _message(way: Way, day: date, subject: str, text: str, now: datetime) -> Message:
    name = "\0".join([KIND, day.isoformat(), way.name])
    return Message(
        id=hashlib.sha256(name.encode()).hexdigest()[:32],
        channel=way.name,
        kind=KIND,
        event=KIND,
        severity=Severity.INFO,
        subject=subject,
        text=text,
        created_at=now,
        next_try_at=now,
    )


def subject_of(day: date, alerts: list[Alert]) -> str:
    state = "all is well" if not alerts else f"{len(alerts)} alerts are open"
    return f"Kraken {day:%Y-%m-%d}: {state if len(alerts) != 1 else '1 alert is open'}"


def text_of(alerts: list[Alert], snapshot: Snapshot, settings: Alerts, now: datetime) -> str:
    lines = ["All is well." if not alerts else "Open:"]
    lines += [f"- {printable(item.summary)} ({item.state})" for item in alerts]
    lines += ["", "Files:", *map(_of_instrument, snapshot.instruments)]
    lines += ["", "Disks:", *_of_disks(snapshot, now)]
    lines += ["", *_of_backups(snapshot, now), "", *links(settings)]
    return "\n".join(lines).rstrip() + "\n"


def _of_instrument(item: InstrumentFacts) -> str:
    counts = ", ".join(f"{count} {status}" for status, count in sorted(item.counts.items()))
    last = f"the last one at {item.newest[0].at:%Y-%m-%d %H:%M} UTC" if item.newest else "none yet"
    return f"- {item.id}: {counts or 'no files'}; {last}"


def _of_disks(snapshot: Snapshot, now: datetime) -> Iterator[str]:
    for item in snapshot.health:
        if item.free_gb is not None:
            yield f"- {item.name}: {item.free_gb:.0f} GB free"
    for trend in snapshot.trends:
        days = days_until_full(trend, now)
        if days is not None:
            yield f"- {trend.disk}: full in {days:.0f} days if it goes on like this"


def _of_backups(snapshot: Snapshot, now: datetime) -> Iterator[str]:
    late = [file.at for item in snapshot.instruments for file in item.without_backup]
    if late:
        yield f"The oldest file without a backup is known for {lasted(min(late), now)}."
    else:
        yield "No file has been without a backup for long."
