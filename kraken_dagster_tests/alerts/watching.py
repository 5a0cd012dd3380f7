"""A services whose alerts are looked after, minute by minute of an injected clock."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from kraken_dagster.alerts.monitor import Looked, scan
from kraken_dagster.alerts.snapshot import DagsterFacts, Sensor
from kraken_dagster.config.alerts import Alerts
from kraken_dagster.model.alerts.alert import Alert, Audience, Condition, Severity, opened
from kraken_dagster.runtime.services import Services
from kraken_dagster_tests.support.helpers import NOW

GB = 1024**3


def with_alerts(services: Services, **settings: Any) -> Services:
    alerts = Alerts.model_validate(settings)
    return replace(services, config=services.config.model_copy(update={"alerts": alerts}))


@dataclass
class Watching:
    """Looks as the sensor does; `well` are the instruments and disks that their sensors look at."""

    services: Services
    environment: Mapping[str, str] = field(default_factory=dict)
    dagster: DagsterFacts | None = None
    well: set[str] = field(default_factory=lambda: {"thermo1", "backup", "output"})
    free_gb: dict[str, int] = field(default_factory=dict)
    by: str = "sensor"

    def minute(self, minutes: float = 1) -> Looked:
        """A minute passes; what is well is looked at, and then alerts are."""
        now = self.services.now
        now.forward(minutes=minutes)  # type: ignore[attr-defined]
        self.sensors()
        return self.scan()

    def minutes(self, count: int) -> None:
        for _ in range(count):
            self.minute()

    def scan(self) -> Looked:
        facts = self.dagster
        return scan(
            self.services,
            dagster=None if facts is None else lambda: facts,
            by=self.by,
            environment=self.environment,
        )

    def sensors(self) -> None:
        health, now = self.services.store.health, self.services.now()
        for name in self.well:
            free = self.free_gb.get(name, 5000) * GB
            if name in ("backup", "output"):
                health.file_system_well(name, free_bytes=free, total_bytes=9000 * GB, now=now)
            else:
                health.well(name, details="fine", free_bytes=free, left_alone=[], now=now)

    def open(self) -> list[str]:
        """Kind and subject of the alerts that are not resolved."""
        return [f"{item.kind} {item.subject}" for item in self.services.store.alerts.current()]

    def alert(self, kind: str) -> Alert:
        return self.services.store.alerts.latest(kind=kind)[0]


def ago(services: Services, **delta: float) -> Any:
    return services.now() - timedelta(**delta)


def an_alert(condition: Condition, *, kind: str = "raw_file_error", number: int = 1) -> Alert:
    return opened(
        condition,
        kind=kind,
        severity=Severity.WARNING,
        audience=Audience.OPERATIONS,
        next_step="mend it.",
        number=number,
        now=NOW,
        quiet_until=None,
    )


def no_trouble(services: Services) -> DagsterFacts:
    """What a Dagster says in which everything ticks."""
    now = services.now()
    names = {"thermo1_watcher": "thermo1", "cluster_jobs": None}
    sensors = tuple(Sensor(name, of, is_on=True, last_tick=now) for name, of in names.items())
    return DagsterFacts(daemon_seen=now, sensors=sensors)
