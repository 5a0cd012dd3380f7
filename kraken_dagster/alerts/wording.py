"""The words of messages: the first line fits a lock screen; then since when, and what to do."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from kraken_dagster.config.alerts import Alerts
from kraken_dagster.model.alerts.alert import Alert, Event, Severity
from kraken_dagster.model.printable import printable

_LONGEST_SUBJECT = 120
_MEMBERS_TOLD = 10
_ALERTS_TOLD = 20
_PREFIX = {
    Event.OPENED: "",
    Event.MORE: "MORE: ",
    Event.REMINDER: "STILL: ",
    Event.RESOLVED: "RESOLVED: ",
}


def subject_of(event: Event, severity: Severity, alerts: Sequence[Alert]) -> str:
    """One line without names of files: `CRITICAL: exploris1: 3 files failed`."""
    first, more = alerts[0], len(alerts) - 1
    level = "CRITICAL: " if severity is Severity.CRITICAL and event is not Event.RESOLVED else ""
    rest = f" (and {more} more)" if more else ""
    line = printable(f"{_PREFIX[event]}{level}{first.summary}")
    room = _LONGEST_SUBJECT - len(rest)
    return (line if len(line) <= room else f"{line[: room - 1]}…") + rest


def text_of(
    event: Event, alerts: Sequence[Alert], *, settings: Alerts, names: bool, zone: ZoneInfo
) -> str:
    """The message's text.

    Args:
        names: whether names of files and projects may stand in it.
    """
    lines: list[str] = []
    for alert in alerts[:_ALERTS_TOLD]:
        lines += [*_of_alert(alert, event, names=names, zone=zone), ""]
    if len(alerts) > _ALERTS_TOLD:
        lines += [f"... and {len(alerts) - _ALERTS_TOLD} more: `kraken alerts list`", ""]
    if event is not Event.RESOLVED:
        lines += [f"Next: {alerts[0].next_step}", ""]
    lines += links(settings)
    return "\n".join(lines).rstrip() + "\n"


def _of_alert(alert: Alert, event: Event, *, names: bool, zone: ZoneInfo) -> Iterator[str]:
    yield printable(alert.summary)
    if event is Event.RESOLVED and alert.resolved_at is not None:
        yield f"Since {when(alert.since, zone)}, over since {when(alert.resolved_at, zone)}."
        return
    yield f"Since {when(alert.since, zone)}."
    if not names:
        if alert.member_count:
            yield "Kraken's page and `kraken alerts list` name the files."
        return
    yield from (printable(line) for line in alert.details.splitlines())
    yield from (f"- {printable(name)}" for name in alert.members[:_MEMBERS_TOLD])
    if alert.member_count > _MEMBERS_TOLD:
        yield f"- ... and {alert.member_count - _MEMBERS_TOLD} more"


def links(settings: Alerts) -> list[str]:
    named = {"Page": settings.page_url, "Dagit": settings.dagit_url}
    return [f"{name}: {url}" for name, url in named.items() if url is not None]


def when(at: datetime, zone: ZoneInfo) -> str:
    return f"{at.astimezone(zone):%Y-%m-%d %H:%M %Z}"
