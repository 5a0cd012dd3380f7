"""One look at everything: judge, bring the alerts up to date, queue messages, and send them.

Of several monitors one looks at a time, and none right after another; the others do nothing.
"""

import os
import socket
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from http.client import HTTPException

from kraken_dagster.alerts.channels.channel import ways
from kraken_dagster.alerts.digest import make_digest
from kraken_dagster.alerts.facts import gather, keep_samples
from kraken_dagster.alerts.lifecycle import manners_of, update_alerts
from kraken_dagster.alerts.messages import make_messages
from kraken_dagster.alerts.rules.registry import judge
from kraken_dagster.alerts.sending import send_due
from kraken_dagster.alerts.snapshot import DagsterFacts, Snapshot
from kraken_dagster.model.errors import LeaseHeld
from kraken_dagster.runtime.exclusive_runs import at_work
from kraken_dagster.runtime.services import Services

WORK = "alerts"
SENSOR = "sensor"
_LEASE_S = 20.0  # a monitor that was killed keeps the others from looking for so long
_TIMEOUT_S = 10.0
# Of two monitors with one interval each the second would look a moment after the first.
_PART_OF_THE_INTERVAL = 0.5
_GAP, _LOOKS_MISSED = timedelta(minutes=5), 3
_GRACE = timedelta(minutes=2)


@dataclass(frozen=True)
class Looked:
    """What a look did; `why_not`: why there was none."""

    found: int = 0
    queued: int = 0
    sent: int = 0
    problems: list[str] = field(default_factory=list)
    why_not: str | None = None

    def in_words(self) -> str:
        if self.why_not is not None:
            return self.why_not
        reported = f"{self.found} conditions hold, {self.queued} messages queued, {self.sent} sent"
        return "; ".join([reported, *self.problems])


def scan(
    services: Services,
    *,
    dagster: Callable[[], DagsterFacts] | None,
    by: str,
    stands_by: bool = False,
    environment: Mapping[str, str] = os.environ,
) -> Looked:
    """Looks once, unless another monitor does or just did.

    Args:
        dagster: what Dagster says, asked only if there is a look; None where it isn't reached.
        by: who looks: `SENSOR`, or `page`.
        stands_by: looks only where nobody else has for some intervals, and goes on until another
            does, who does not wait for it.

    Raises:
        StoreUnavailable
    """
    try:
        run_id = f"{by} {os.getpid()} on {socket.gethostname()}"  # containers share numbers
        with at_work(services, WORK, run_id=run_id, lease_s=_LEASE_S):
            monitor = _Monitor(by, stands_by)
            if _has_just_looked(services, monitor):
                return Looked(why_not="another monitor has just looked")
            return _scan(services, dagster, monitor, environment)
    except LeaseHeld as error:
        return Looked(why_not=str(error))


@dataclass(frozen=True)
class _Monitor:
    by: str
    stands_by: bool

    @property
    def name(self) -> str:
        return f"{self.by} on {socket.gethostname()}"


def _has_just_looked(services: Services, monitor: _Monitor) -> bool:
    last = services.store.alerts.last_look()
    at, stood_by = last.get("looked_at"), last.get("stood_by", False)
    if not isinstance(at, datetime) or (stood_by and not monitor.stands_by):
        return False
    goes_on = stood_by and last.get("looked_by") == monitor.name
    waits = monitor.stands_by and not goes_on
    part = _LOOKS_MISSED if waits else _PART_OF_THE_INTERVAL
    pause = timedelta(seconds=services.config.alerts.look_every_s * part)
    return timedelta(0) <= services.now() - at < pause


def _scan(
    services: Services,
    dagster: Callable[[], DagsterFacts] | None,
    monitor: _Monitor,
    environment: Mapping[str, str],
) -> Looked:
    settings, store, now = services.config.alerts, services.store, services.now()
    by_sensor = dagster is not None and monitor.by == SENSOR
    since = _Since.of(services, now, by_sensor=by_sensor)
    snapshot = replace(
        _snapshot(services, dagster),
        after_a_gap=now - since.watching < _GRACE,
        after_silence=since.ticking is not None and now - since.ticking < _GRACE,
    )
    findings = judge(snapshot, settings.thresholds, now)
    update_alerts(
        store, findings, manners=manners_of(settings), unknown=tuple(snapshot.unknown), now=now
    )
    channels = ways(settings, environment=environment)
    queued = make_messages(store, settings, channels.values(), now=now)
    queued += make_digest(store, snapshot, settings, channels.values(), now=now)
    result = send_due(store, settings, channels, now=now)
    keep_samples(services, snapshot, now)
    store.alerts.looked(
        by=monitor.name,
        from_dagster=by_sensor,
        stood_by=monitor.stands_by,
        watching_since=since.watching,
        ticking_since=since.ticking,
        now=now,
    )
    problems = list(result.failed)
    if (problem := _heartbeat(settings.heartbeat_url_variable, environment)) is not None:
        problems.append(problem)
    return Looked(len(findings.found), queued, result.sent, problems)


def _snapshot(services: Services, dagster: Callable[[], DagsterFacts] | None) -> Snapshot:
    if dagster is None:
        return gather(services, None)
    try:
        facts = dagster()
    except Exception as error:  # noqa: BLE001 - told as an alert; MongoDB is looked at all the same
        snapshot = gather(services, None)
        why = f"{type(error).__name__}: {error}"
        return replace(snapshot, unknown={**snapshot.unknown, "Dagster": why})
    return gather(services, facts)


@dataclass(frozen=True)
class _Since:
    """Since when there is no gap in the looks, and in those of Dagster's sensor: while the page
    stands by for a dead daemon, nothing but alerts is looked at."""

    watching: datetime
    ticking: datetime | None

    @classmethod
    def of(cls, services: Services, now: datetime, *, by_sensor: bool) -> "_Since":
        last, settings = services.store.alerts.last_look(), services.config.alerts
        usual = timedelta(seconds=_LOOKS_MISSED * settings.look_every_s)
        silence = timedelta(minutes=settings.thresholds.daemon_silent_minutes)
        ticking = last.get("ticking_since")
        if by_sensor:
            longest = max(usual, min(silence, _GAP))
            ticking = _without_gap(last.get("dagster_looked_at"), ticking, longest, now)
        watching = _without_gap(
            last.get("looked_at"), last.get("watching_since"), max(usual, _GAP), now
        )
        return cls(watching, ticking)


def _without_gap(looked_at: object, since: object, longest: timedelta, now: datetime) -> datetime:
    """What a clock that was ahead has left is a gap, too."""
    if not isinstance(looked_at, datetime) or not isinstance(since, datetime):
        return now
    if max(looked_at, since) - now > _GAP:
        return now
    return since if now - looked_at < longest else now


def _heartbeat(variable: str | None, environment: Mapping[str, str]) -> str | None:
    """Tells a service outside that a look went well; why it could not be told.

    Its URL is a secret, so that no error is quoted that may hold it.
    """
    if variable is None:
        return None
    try:
        url = environment.get(variable, "")
        request = urllib.request.Request(url)  # noqa: S310 - the schema is looked at
        if request.type not in ("http", "https"):
            return f"{variable} is no URL of http or https"
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S):  # noqa: S310
            return None
    except ValueError:
        return f"{variable} is not set, or no URL"
    except (OSError, HTTPException) as error:
        return f"the heartbeat's service gives no good answer: {type(error).__name__}"
