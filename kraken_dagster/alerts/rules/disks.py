"""Rules on disks: how full they are, and when they will be."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from kraken_dagster.alerts.rules.rule import ALPHAKRAKEN, Rule
from kraken_dagster.alerts.snapshot import Health, Snapshot, Trend
from kraken_dagster.config.thresholds import Thresholds
from kraken_dagster.model.alerts.alert import Audience, Condition, Severity

FILE_SYSTEM = "file system "
_DAY = timedelta(days=1)


def low_disk(snapshot: Snapshot, limits: Thresholds, _now: datetime) -> Iterator[Condition]:
    instruments = {item.id for item in snapshot.instruments}
    for item in snapshot.health:
        wanted = wanted_gb(item, limits, instruments)
        if wanted is None or item.free_gb is None or item.free_gb >= wanted:
            continue
        yield Condition(
            subject=item.name,
            summary=f"{item.name}: {item.free_gb:.0f} GB are free, fewer than {wanted:g}",
            instrument=item.name if item.name in instruments else None,
        )


def wanted_gb(item: Health, limits: Thresholds, instruments: set[str]) -> float | None:
    if item.name in instruments:
        return limits.instrument_free_gb
    named = {
        f"{FILE_SYSTEM}backup": limits.backup_free_gb,
        f"{FILE_SYSTEM}output": limits.output_free_gb,
    }
    return named.get(item.name)


def low_local_disk(snapshot: Snapshot, limits: Thresholds, _now: datetime) -> Iterator[Condition]:
    free = snapshot.local_free_gb
    if free is not None and free < limits.local_free_gb:
        yield Condition(
            subject="this machine",
            summary=f"Kraken's machine: {free:.1f} GB are free, fewer than "
            f"{limits.local_free_gb:g}",
        )


def disk_filling(snapshot: Snapshot, limits: Thresholds, now: datetime) -> Iterator[Condition]:
    for trend in snapshot.trends:
        days = days_until_full(trend, now)
        if days is not None and days < limits.disk_full_days:
            yield Condition(
                subject=trend.disk,
                summary=f"{trend.disk}: full in {days:.1f} days if it goes on like this",
                details=f"{trend.samples[-1][1]:.0f} GB are free.",
            )


def days_until_full(trend: Trend, now: datetime) -> float | None:
    """By a straight line through what was free, by least squares.

    None: it doesn't get fuller, or less than a day is known.
    """
    if len(trend.samples) < 3 or trend.samples[-1][0] - trend.samples[0][0] < _DAY:
        return None
    times = [(at - now) / _DAY for at, _ in trend.samples]
    free = [gb for _, gb in trend.samples]
    mean_time, mean_free = sum(times) / len(times), sum(free) / len(free)
    spread = sum((time - mean_time) ** 2 for time in times)
    slope = (
        sum((time - mean_time) * (gb - mean_free) for time, gb in zip(times, free, strict=True))
        / spread
    )
    return None if slope >= 0 else max(0.0, free[-1] / -slope)


RULES = (
    Rule(
        kind="low_disk",
        severity=Severity.CRITICAL,
        audience=Audience.OPERATIONS,
        condition="less space is free on an instrument, the backup store or the output",
        next_step="free some space, or see why nothing is purged: `kraken purge`.",
        check=low_disk,
        thresholds=("instrument_free_gb", "backup_free_gb", "output_free_gb"),
        source=ALPHAKRAKEN,
    ),
    Rule(
        kind="low_local_disk",
        severity=Severity.CRITICAL,
        audience=Audience.OPERATIONS,
        condition="less space is free on the machine that Kraken runs on",
        next_step="free some space below Kraken's home, or move it to a larger disk.",
        check=low_local_disk,
        thresholds=("local_free_gb",),
        source=ALPHAKRAKEN,
    ),
    Rule(
        kind="disk_filling",
        severity=Severity.WARNING,
        audience=Audience.OPERATIONS,
        condition="the backup store or the output is full soon, by the trend of the last week",
        next_step="free some space, or have the store enlarged.",
        check=disk_filling,
        thresholds=("disk_full_days",),
    ),
)
