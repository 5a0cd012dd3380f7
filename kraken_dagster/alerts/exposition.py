"""What other programs ask: `/metrics` as Prometheus reads it, and whether Kraken lives and works.

What is counted of files comes from who keeps a copy of all of them. No label holds the name of a
file or a project.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from kraken_dagster.alerts.facts import health_of
from kraken_dagster.alerts.rules.disks import FILE_SYSTEM, wanted_gb
from kraken_dagster.alerts.snapshot import Health
from kraken_dagster.model.errors import ConfigError, StoreError
from kraken_dagster.runtime.services import Services

if TYPE_CHECKING:
    from prometheus_client.core import GaugeMetricFamily

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_GB = 1024**3
_DAGSTER_WITHIN = timedelta(minutes=5)


@dataclass(frozen=True)
class Readiness:
    """`problems` are in words; none: Kraken works."""

    problems: tuple[str, ...]

    @property
    def is_ready(self) -> bool:
        return not self.problems


def readiness(services: Services) -> Readiness:
    """Whether MongoDB answers, and Dagster's daemon has had the sensor `alerts` tick of late."""
    try:
        seen = services.store.alerts.last_look().get("dagster_looked_at")
    except StoreError as error:
        return Readiness((str(error),))
    if not isinstance(seen, datetime):
        return Readiness(("the sensor `alerts` has never ticked: is it on, and does Dagster run?",))
    allowed = max(_DAGSTER_WITHIN, 3 * timedelta(seconds=services.config.alerts.look_every_s))
    if services.now() - seen > allowed:
        return Readiness((f"the sensor `alerts` has not ticked since {seen:%Y-%m-%d %H:%M} UTC",))
    return Readiness(())


@dataclass(frozen=True)
class FilesOfInstrument:
    """What is counted of an instrument's files; `late`: without a backup for too long."""

    id: str
    counts: Mapping[str, int]
    newest: datetime | None = None
    late: int = 0
    oldest_late: datetime | None = None


@dataclass(frozen=True)
class Known:
    """What is told beside files, as MongoDB had it at one time."""

    health: tuple[Health, ...] = ()
    wanted_gb: Mapping[str, float] = field(default_factory=dict)  # by the name of what has a disk
    alerts: Mapping[tuple[str, str], int] = field(default_factory=dict)
    waiting: Mapping[str, int] = field(default_factory=dict)
    looked_at: Mapping[str, datetime] = field(default_factory=dict)


def known(services: Services) -> Known:
    """
    Raises:
        StoreUnavailable
    """
    store, config = services.store, services.config
    health = tuple(health_of(services))
    limits = {
        item.name: wanted_gb(item, config.alerts.thresholds, set(config.instruments))
        for item in health
    }
    last = store.alerts.last_look()
    looked = {"any": last.get("looked_at"), "dagster": last.get("dagster_looked_at")}
    return Known(
        health=health,
        wanted_gb={name: limit for name, limit in limits.items() if limit is not None},
        alerts=Counter((it.kind, it.severity.value) for it in store.alerts.current()),
        waiting=Counter(it.channel for it in store.outbox.waiting()),
        looked_at={name: at for name, at in looked.items() if isinstance(at, datetime)},
    )


def metrics_text(files: Iterable[FilesOfInstrument], beside: Known) -> bytes:
    """The metrics in Prometheus' text format 0.0.4.

    Raises:
        ConfigError: the extra `alerts` isn't installed.
    """
    try:
        from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415
        from prometheus_client.registry import Collector  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            "The package prometheus-client is not installed",
            next_step="pip install 'kraken-dagster[alerts]'.",
        ) from error
    families = [*_of_files(files), *_of_health(beside), *_of_alerts(beside)]

    class Gathered(Collector):
        def collect(self) -> Iterable["GaugeMetricFamily"]:
            return families

    registry = CollectorRegistry()
    registry.register(Gathered())
    return generate_latest(registry)


def _of_files(instruments: Iterable[FilesOfInstrument]) -> Iterator["GaugeMetricFamily"]:
    files = _gauge("kraken_files", "Raw files by status.", "instrument", "status")
    newest = _gauge(
        "kraken_last_file_timestamp_seconds", "When the newest file was made.", "instrument"
    )
    late = _gauge(
        "kraken_files_without_backup",
        "Files that are known for longer than no_backup_hours and have no backup.",
        "instrument",
    )
    oldest = _gauge(
        "kraken_oldest_without_backup_timestamp_seconds",
        "Since when the oldest of these is known.",
        "instrument",
    )
    for item in instruments:
        for status, count in sorted(item.counts.items()):
            files.add_metric([item.id, status], count)
        if item.newest is not None:
            newest.add_metric([item.id], item.newest.timestamp())
        late.add_metric([item.id], item.late)
        if item.oldest_late is not None:
            oldest.add_metric([item.id], item.oldest_late.timestamp())
    yield from (files, newest, late, oldest)


def _of_health(beside: Known) -> Iterator["GaugeMetricFamily"]:
    well = _gauge("kraken_healthy", "1 if the last look found all well.", "entity")
    seen = _gauge("kraken_looked_at_timestamp_seconds", "When the last look was.", "entity")
    free = _gauge("kraken_disk_free_bytes", "Free space.", "disk")
    total = _gauge("kraken_disk_total_bytes", "The size of the disk.", "disk")
    wanted = _gauge("kraken_disk_free_wanted_bytes", "With less an alert is opened.", "disk")
    for item in beside.health:
        well.add_metric([item.name], item.status == "ok")
        if item.updated_at is not None:
            seen.add_metric([item.name], item.updated_at.timestamp())
        limit = beside.wanted_gb.get(item.name)
        disk = item.name.removeprefix(FILE_SYSTEM)
        for family, value in ((free, item.free_gb), (total, item.total_gb), (wanted, limit)):
            if value is not None and limit is not None:
                family.add_metric([disk], value * _GB)
    yield from (well, seen, free, total, wanted)


def _of_alerts(beside: Known) -> Iterator["GaugeMetricFamily"]:
    current = _gauge("kraken_alerts_open", "Alerts that are not resolved.", "kind", "severity")
    for labels, count in sorted(beside.alerts.items()):
        current.add_metric(labels, count)
    waiting = _gauge("kraken_messages_waiting", "Messages that are not sent yet.", "channel")
    for channel, count in sorted(beside.waiting.items()):
        waiting.add_metric([channel], count)
    looked = _gauge(
        "kraken_alerts_looked_timestamp_seconds",
        "When alerts were last looked after, by any monitor and by Dagster's sensor.",
        "monitor",
    )
    for monitor, at in beside.looked_at.items():
        looked.add_metric([monitor], at.timestamp())
    yield from (current, waiting, looked)


def _gauge(name: str, what: str, *labels: str) -> "GaugeMetricFamily":
    from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415 - of an extra

    return GaugeMetricFamily(name, what, labels=labels)
