"""Rules on what `kraken_status` says: looks that failed, and looks that did not happen."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from kraken_dagster.alerts.rules.rule import ALPHAKRAKEN, Rule, lasted
from kraken_dagster.alerts.snapshot import Health, Snapshot
from kraken_dagster.config.thresholds import Thresholds
from kraken_dagster.model.alerts.alert import Audience, Condition, Severity
from kraken_dagster.model.files.dates import in_words

_OK = "ok"
ENGINE = "engine "
PURGE = "purge "


def stale_status(snapshot: Snapshot, limits: Thresholds, now: datetime) -> Iterator[Condition]:
    purged = {f"{PURGE}{item.id}" for item in snapshot.instruments if item.purges}
    for item in snapshot.health:
        allowed = timedelta(minutes=limits.stale_minutes)
        if item.name.startswith(PURGE):
            if item.name not in purged:
                continue
            allowed = timedelta(hours=limits.purge_stale_hours)
        if item.updated_at is not None and now - item.updated_at > allowed:
            yield Condition(
                subject=item.name,
                summary=f"{item.name}: nobody has looked for {lasted(item.updated_at, now)}",
                instrument=_instrument(item, snapshot),
                since=item.updated_at,
            )


def health_failed(snapshot: Snapshot, _limits: Thresholds, _now: datetime) -> Iterator[Condition]:
    for item in snapshot.health:
        if item.status != _OK and not item.name.startswith(ENGINE):
            yield Condition(
                subject=item.name,
                summary=f"{item.name}: its last look found it in trouble",
                details=item.details,
                instrument=_instrument(item, snapshot),
            )


def engine_trouble(snapshot: Snapshot, _limits: Thresholds, _now: datetime) -> Iterator[Condition]:
    for item in snapshot.health:
        if item.status != _OK and item.name.startswith(ENGINE):
            yield Condition(
                subject=item.name,
                summary=f"{item.name}: it can't be asked, or its jobs can't start",
                details=item.details,
            )


def clock_skew(snapshot: Snapshot, limits: Thresholds, _now: datetime) -> Iterator[Condition]:
    for item in snapshot.health:
        difference = item.clock_difference_s
        if difference is not None and abs(difference) > limits.clock_difference_s:
            yield Condition(
                subject=item.name,
                summary=f"{item.name}: its clock is {in_words(difference)} ours",
                instrument=_instrument(item, snapshot),
            )


def jobs_unknown(snapshot: Snapshot, limits: Thresholds, now: datetime) -> Iterator[Condition]:
    allowed = timedelta(minutes=limits.jobs_unknown_minutes)
    late = [item for item in snapshot.jobs_unknown if now - item.since > allowed]
    for engine in sorted({item.engine for item in late}):
        mine = [item for item in late if item.engine == engine]
        since = min(item.since for item in mine)
        yield Condition(
            subject=f"{ENGINE}{engine}",
            summary=f"{ENGINE}{engine}: {len(mine)} jobs are unknown for {lasted(since, now)}",
            members=tuple(item.name for item in mine),
            since=since,
        )


def _instrument(item: Health, snapshot: Snapshot) -> str | None:
    name = item.name.removeprefix(PURGE)
    return name if any(name == known.id for known in snapshot.instruments) else None


RULES = (
    Rule(
        kind="stale_status",
        severity=Severity.WARNING,
        audience=Audience.OPERATIONS,
        condition="nobody has looked at an instrument, a store or an engine",
        next_step="see in Dagit whether its sensor is on and ticks; `kraken status`.",
        check=stale_status,
        of_silence=True,
        thresholds=("stale_minutes", "purge_stale_hours"),
        source=ALPHAKRAKEN,
    ),
    Rule(
        kind="health_failed",
        severity=Severity.CRITICAL,
        audience=Audience.OPERATIONS,
        condition="the last look at an instrument or a store, or the last purge, found trouble",
        next_step="`kraken doctor` says what is wrong, and how to correct it.",
        check=health_failed,
        source=ALPHAKRAKEN,
    ),
    Rule(
        kind="engine_trouble",
        severity=Severity.WARNING,
        audience=Audience.OPERATIONS,
        condition="an engine can't be asked, or its jobs wait for what waiting doesn't cure",
        next_step="`kraken doctor`; files wait meanwhile, and nothing of them is lost.",
        check=engine_trouble,
    ),
    Rule(
        kind="clock_skew",
        severity=Severity.WARNING,
        audience=Audience.OPERATIONS,
        condition="an instrument's clock differs from ours",
        next_step="set the clock of the instrument's PC, and have it synchronised.",
        check=clock_skew,
        thresholds=("clock_difference_s",),
    ),
    Rule(
        kind="jobs_unknown",
        severity=Severity.WARNING,
        audience=Audience.OPERATIONS,
        condition="an engine doesn't know jobs that were submitted to it",
        next_step="ask the cluster's administrator what became of them; `kraken retry` when known.",
        check=jobs_unknown,
        thresholds=("jobs_unknown_minutes",),
    ),
)
