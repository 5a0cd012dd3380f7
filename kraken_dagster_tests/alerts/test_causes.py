"""One cause is one alert: what follows from something else is not told, nor in the moments after
it, when what was not looked at is looked at again."""

from dataclasses import dataclass, replace

import pytest

from kraken_dagster.alerts.monitor import scan
from kraken_dagster.alerts.rules.causes import Cause
from kraken_dagster.alerts.snapshot import DagsterFacts, Sensor
from kraken_dagster.model.raw_file import Status
from kraken_dagster.runtime.services import Services
from kraken_dagster_tests.alerts.receivers import WebhookServer
from kraken_dagster_tests.alerts.test_faults import register
from kraken_dagster_tests.alerts.watching import Watching, no_trouble, with_alerts

pytestmark = pytest.mark.timeout(600)
DAEMON = Cause("daemon_silent", "Dagster's daemon", None)


@dataclass
class Laboratory(Watching):
    """One whose daemon may be dead: then nobody looks but the page."""

    def dead_minutes(self) -> None:
        services = self.services
        services.now.forward(minutes=4)  # type: ignore[attr-defined]
        seen = services.store.alerts.last_look().get("dagster_looked_at")
        facts = DagsterFacts(seen, is_whole=False)
        scan(services, dagster=lambda: facts, by="page", stands_by=True)

    def minute_before_the_watchers(self) -> None:
        """The sensor `alerts` ticks first after the daemon's return."""
        self.services.now.forward(minutes=1)  # type: ignore[attr-defined]
        self.dagster = no_trouble(self.services)
        self.scan()


@pytest.fixture
def laboratory(services: Services, hook: WebhookServer) -> Laboratory:
    channels = [{"type": "webhook", "url": hook.url}]
    settings = {
        "audiences": {"operations": channels, "laboratory": channels},
        "users": {"MaSc": channels},
        "thresholds": {"stall_instruments": ["thermo1"], "stall_hours": 0.5},
        "digest": {"at": None},
    }
    found = Laboratory(with_alerts(services, **settings))
    for minutes, name in ((0, "20260301_MaSc_1.raw"), (5, "20260301_MaSc_2.raw")):
        services.now.forward(minutes=minutes)  # type: ignore[attr-defined]
        register(found, name, status=Status.DONE)
    found.dagster = no_trouble(services)
    found.minutes(3)
    return found


def told(hook: WebhookServer) -> list[tuple[str, str]]:
    return [(body["kind"], body["event"]) for body in hook.bodies]


def test_a_daemon_that_was_dead_for_hours_is_one_alert_and_one_end(
    laboratory: Laboratory, hook: WebhookServer
) -> None:
    for number in range(6):
        register(laboratory, f"new{number}.raw", status=Status.QUEUED_FOR_MONITORING)
    laboratory.minute()
    known = told(hook)  # the files that wait, while somebody looked
    for _ in range(10):
        laboratory.dead_minutes()
    assert laboratory.services.store.alerts.latest(kind="instrument_stall") == []
    assert told(hook) == [*known, ("daemon_silent", "opened")]
    for _ in range(2):
        laboratory.minute_before_the_watchers()
    register(laboratory, "20260301_MaSc_3.raw", status=Status.DONE)
    for _ in range(4):
        laboratory.dagster = no_trouble(laboratory.services)
        laboratory.minute()
    assert told(hook) == [*known, ("daemon_silent", "opened"), ("daemon_silent", "resolved")]


def test_after_kraken_was_down_for_hours_no_instrument_is_said_to_be_silent_at_once(
    laboratory: Laboratory, hook: WebhookServer
) -> None:
    laboratory.services.now.forward(minutes=60 * 5)  # type: ignore[attr-defined]
    laboratory.minute_before_the_watchers()
    register(laboratory, "20260301_MaSc_3.raw", status=Status.DONE)
    for _ in range(5):
        laboratory.dagster = no_trouble(laboratory.services)
        laboratory.minute()
    assert told(hook) == []


def test_an_instrument_that_is_silent_is_told_after_kraken_was_down(
    laboratory: Laboratory, hook: WebhookServer
) -> None:
    laboratory.services.now.forward(minutes=60 * 5)  # type: ignore[attr-defined]
    for _ in range(5):
        laboratory.dagster = no_trouble(laboratory.services)
        laboratory.minute()
    assert ("instrument_stall", "opened") in told(hook)


def test_a_watcher_that_is_off_tells_of_no_silent_instrument(
    laboratory: Laboratory, hook: WebhookServer
) -> None:
    laboratory.well.discard("thermo1")
    off = Sensor("thermo1_watcher", "thermo1", is_on=False, last_tick=None)
    for _ in range(10):
        laboratory.services.now.forward(minutes=4)  # type: ignore[attr-defined]
        laboratory.dagster = replace(no_trouble(laboratory.services), sensors=(off,))
        laboratory.sensors()
        laboratory.scan()
    assert told(hook) == [("sensor_off", "opened")]


@pytest.mark.parametrize(
    ("cause", "kind", "instrument", "explains"),
    [
        (DAEMON, "instrument_stall", "thermo1", True),
        (DAEMON, "low_disk", None, False),
        (Cause("health_failed", "thermo1", "thermo1"), "instrument_stall", "thermo1", True),
        (Cause("health_failed", "thermo1", "thermo1"), "instrument_stall", "bruker1", False),
        # a purge that failed is no reason for an instrument to make no files
        (Cause("health_failed", "purge thermo1", "thermo1"), "instrument_stall", "thermo1", False),
        (Cause("stale_status", "purge thermo1", "thermo1"), "instrument_stall", "thermo1", False),
        (Cause("sensor_off", "thermo1_archiver", "thermo1"), "instrument_stall", "thermo1", False),
        (Cause("sensor_off", "cluster_jobs", None), "stale_status", None, True),
        (Cause("sensor_off", "cluster_jobs", None), "stale_status", "thermo1", False),
        (Cause("health_failed", "file system output", None), "status_pile_up", "thermo1", True),
        (Cause("health_failed", "file system output", None), "no_backup", "thermo1", False),
    ],
)
def test_what_explains_what(
    cause: Cause, kind: str, instrument: str | None, explains: bool
) -> None:
    other = Cause(kind, instrument or "file system backup", instrument)
    assert cause.explains(other) is explains


def test_a_cause_explains_until_its_alert_is_resolved(
    laboratory: Laboratory, hook: WebhookServer
) -> None:
    """A share that is back shows its new files at the look after."""
    store, now = laboratory.services.store, laboratory.services.now
    laboratory.well.discard("thermo1")
    for _ in range(10):
        store.health.unwell("thermo1", details="no answer within 20 s", now=now())
        laboratory.dagster = no_trouble(laboratory.services)
        laboratory.minute(minutes=4)
    laboratory.well.add("thermo1")
    laboratory.minute()
    register(laboratory, "20260301_MaSc_3.raw", status=Status.DONE)
    laboratory.dagster = no_trouble(laboratory.services)
    laboratory.services.now.forward(minutes=1)  # type: ignore[attr-defined]
    laboratory.sensors()
    laboratory.scan()
    assert told(hook) == [("health_failed", "opened"), ("health_failed", "resolved")]
