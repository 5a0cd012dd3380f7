"""Rules on programs: Dagster's daemon, sensors and runs, pages, certificates, and alerts' own."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from kraken_dagster.alerts.rules.rule import ALPHAKRAKEN, Rule, lasted
from kraken_dagster.alerts.snapshot import Snapshot
from kraken_dagster.config.thresholds import Thresholds
from kraken_dagster.model.alerts.alert import Audience, Condition, Severity

DAEMON_SILENT = "daemon_silent"
_RUNS_TOLD = 5


def daemon_silent(snapshot: Snapshot, limits: Thresholds, now: datetime) -> Iterator[Condition]:
    if snapshot.dagster is None:
        return
    seen = snapshot.dagster.daemon_seen
    if seen is None or now - seen > timedelta(minutes=limits.daemon_silent_minutes):
        how = "never" if seen is None else f"not for {lasted(seen, now)}"
        what = f"Dagster's daemon has given a sign of life {how}: nothing is looked at"
        if not snapshot.dagster.is_whole:
            what = f"Dagster's sensor alerts has looked {how}: the daemon is dead, or it is off"
        yield Condition(
            subject="Dagster's daemon",
            summary=what,
            since=seen,
        )


def sensor_off(snapshot: Snapshot, _limits: Thresholds, _now: datetime) -> Iterator[Condition]:
    """One that was never on is that of an instrument that is not in use yet."""
    looked_at = {item.name for item in snapshot.health}
    for sensor in snapshot.dagster.sensors if snapshot.dagster else ():
        in_use = sensor.instrument is None or sensor.instrument in looked_at
        if not sensor.is_on and in_use:
            yield Condition(
                subject=sensor.name,
                summary=f"the sensor {sensor.name} is switched off",
                instrument=sensor.instrument,
            )


def sensor_silent(snapshot: Snapshot, limits: Thresholds, now: datetime) -> Iterator[Condition]:
    """A daemon that is silent is told by itself, and explains this."""
    dagster = snapshot.dagster
    if dagster is None or any(daemon_silent(snapshot, limits, now)):
        return
    allowed = timedelta(minutes=limits.sensor_silent_minutes)
    for sensor in dagster.sensors:
        if sensor.is_on and sensor.last_tick is not None and now - sensor.last_tick > allowed:
            yield Condition(
                subject=sensor.name,
                summary=f"the sensor {sensor.name} has not ticked for "
                f"{lasted(sensor.last_tick, now)}",
                instrument=sensor.instrument,
                since=sensor.last_tick,
            )


def run_failed(snapshot: Snapshot, _limits: Thresholds, _now: datetime) -> Iterator[Condition]:
    for job in snapshot.dagster.failed_jobs if snapshot.dagster else ():
        yield Condition(
            subject=job.name,
            summary=f"the last run of {job.name} failed",
            details=f"Runs: {', '.join(job.runs[:_RUNS_TOLD])}",
            members=job.runs,
            since=job.at,
        )


def page_down(snapshot: Snapshot, _limits: Thresholds, _now: datetime) -> Iterator[Condition]:
    for page in snapshot.pages:
        if page.problem is not None:
            yield Condition(subject=page.url, summary=f"{page.url}: {page.problem}")


def expiring(snapshot: Snapshot, limits: Thresholds, now: datetime) -> Iterator[Condition]:
    for item in snapshot.expiries:
        if item.expires is None:
            yield Condition(
                subject=item.name,
                summary=f"{item.name} can't be read",
                details=f"{item.path}: {item.problem}",
            )
        elif item.expires - now < timedelta(days=limits.expires_days):
            over = item.expires <= now
            yield Condition(
                subject=item.name,
                summary=f"{item.name} {'has expired' if over else 'expires'} on "
                f"{item.expires:%Y-%m-%d}",
                details=item.path,
                severity=Severity.CRITICAL if over else None,
            )


def channel_stuck(snapshot: Snapshot, _limits: Thresholds, now: datetime) -> Iterator[Condition]:
    for item in snapshot.channels:
        yield Condition(
            subject=item.name,
            summary=f"{item.waiting} messages to {item.name} wait for {lasted(item.since, now)}",
            details=item.error,
            since=item.since,
        )


RULES = (
    Rule(
        kind=DAEMON_SILENT,
        severity=Severity.CRITICAL,
        audience=Audience.OPERATIONS,
        condition="Dagster's daemon gives no sign of life",
        next_step="see the log of `kraken up`; start it again.",
        check=daemon_silent,
        of_silence=True,
        thresholds=("daemon_silent_minutes",),
        needs_dagster=True,
    ),
    Rule(
        kind="sensor_off",
        severity=Severity.WARNING,
        audience=Audience.OPERATIONS,
        condition="a sensor is switched off",
        next_step="switch it on in Dagit, or silence this alert with a reason.",
        check=sensor_off,
        needs_dagster=True,
    ),
    Rule(
        kind="sensor_silent",
        severity=Severity.WARNING,
        audience=Audience.OPERATIONS,
        condition="a sensor that is on doesn't tick",
        next_step="see the sensor's ticks in Dagit, and the log of `kraken up`.",
        check=sensor_silent,
        of_silence=True,
        thresholds=("sensor_silent_minutes",),
        needs_dagster=True,
    ),
    Rule(
        kind="run_failed",
        severity=Severity.WARNING,
        audience=Audience.OPERATIONS,
        condition="the last run of a job failed that is not a single file's",
        next_step="see the run in Dagit; it names what to do.",
        check=run_failed,
        needs_dagster=True,
    ),
    Rule(
        kind="page_down",
        severity=Severity.WARNING,
        audience=Audience.OPERATIONS,
        condition="a page of `health_urls` doesn't answer with 200 within 10 s",
        next_step="see whether its process runs, and its log.",
        check=page_down,
        source=ALPHAKRAKEN,
    ),
    Rule(
        kind="expiring",
        severity=Severity.WARNING,
        audience=Audience.OPERATIONS,
        condition="a certificate expires soon, or can't be read",
        next_step="have it renewed.",
        check=expiring,
        thresholds=("expires_days",),
    ),
    Rule(
        kind="channel_stuck",
        severity=Severity.WARNING,
        audience=Audience.OPERATIONS,
        condition="a channel has not taken a message for half an hour",
        next_step="`kraken alerts test` tries it; see its settings.",
        check=channel_stuck,
    ),
)
