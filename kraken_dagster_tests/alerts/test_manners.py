"""When somebody is told, and by whom: quiet hours, reminders, and the page for a dead daemon."""

import threading
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kraken_dagster.alerts.actions import acknowledge
from kraken_dagster.alerts.channels.channel import missing_variables
from kraken_dagster.alerts.exposition import readiness
from kraken_dagster.alerts.monitor import Looked, scan
from kraken_dagster.alerts.snapshot import DagsterFacts, Sensor
from kraken_dagster.alerts.watch import stand_by
from kraken_dagster.config.alerts import QuietHours
from kraken_dagster.config.thresholds import Thresholds
from kraken_dagster.model.raw_file import Status
from kraken_dagster.runtime.services import Services
from kraken_dagster_tests.alerts.receivers import WebhookServer
from kraken_dagster_tests.alerts.watching import GB, Watching, no_trouble, with_alerts
from kraken_dagster_tests.support.certificates import certificate
from kraken_dagster_tests.support.helpers import record, wait_until

Told = list[tuple[str, str]]


@pytest.fixture
def watching(services: Services, hook: WebhookServer) -> Watching:
    audiences = {"operations": [{"type": "webhook", "url": hook.url}]}
    return Watching(with_alerts(services, audiences=audiences, digest={"days": []}))


def told(hook: WebhookServer) -> Told:
    return [(body["kind"], body["event"]) for body in hook.bodies]


def changed(services: Services, **settings: Any) -> Services:
    alerts = services.config.alerts.model_copy(update=settings)
    return replace(services, config=services.config.model_copy(update={"alerts": alerts}))


@dataclass
class Standby:
    """The looks of the page's process."""

    watching: Watching

    def look(self) -> Looked:
        services = self.watching.services
        seen = services.store.alerts.last_look().get("dagster_looked_at")
        facts = DagsterFacts(seen, is_whole=False)
        return scan(services, dagster=lambda: facts, by="page", stands_by=True)


def test_the_page_tells_of_a_dead_daemon_and_leaves_it_to_the_sensor_again(
    watching: Watching, hook: WebhookServer
) -> None:
    page = Standby(watching)
    off = Sensor("thermo1_watcher", "thermo1", is_on=False, last_tick=None)
    for _ in range(3):
        watching.dagster = replace(no_trouble(watching.services), sensors=(off,))
        watching.minute()
        assert page.look().why_not is not None
    for minute in range(1, 9):  # the daemon is dead: nobody looks but the page
        watching.services.now.forward(minutes=1)  # type: ignore[attr-defined]
        page.look()
        silent = "daemon_silent Dagster's daemon" in watching.open()
        assert silent == (minute > Thresholds().daemon_silent_minutes)
    assert "sensor_off thermo1_watcher" in watching.open()  # of which the page knows nothing
    assert not readiness(watching.services).is_ready
    for _ in range(3):
        watching.dagster = no_trouble(watching.services)
        watching.minute()
        assert page.look().why_not is not None
    assert watching.open() == []
    mine = [event for kind, event in told(hook) if kind == "daemon_silent"]
    assert mine == ["opened", "resolved"]


def test_the_page_looks_by_itself_where_a_sensor_has_ever_looked(watching: Watching) -> None:
    """As the thread of the page's process, by the real clock of its pauses."""
    watching.dagster = no_trouble(watching.services)
    watching.minute()
    watching.services.now.forward(minutes=4)  # type: ignore[attr-defined]
    limits = Thresholds(daemon_silent_minutes=3)
    services = changed(watching.services, look_every_s=1, thresholds=limits)
    stopping = threading.Event()
    arguments = {"by": "page", "stopping": stopping, "say": lambda _: None}
    thread = threading.Thread(target=stand_by, args=(services,), kwargs=arguments)
    thread.start()
    try:
        last = services.store.alerts.last_look
        wait_until(lambda: str(last().get("looked_by")).startswith("page on"), "the page looks")
    finally:
        stopping.set()
        thread.join(60)
    assert "daemon_silent Dagster's daemon" in watching.open()


def test_a_page_without_the_channels_secrets_leaves_alerts_alone(services: Services) -> None:
    audiences = {
        "operations": [{"type": "webhook", "url_variable": "HOOK"}],
        "laboratory": [{"type": "smtp", "to": ["a@lab.example"]}],
    }
    smtp = {"host": "mail", "user": "kraken", "password_variable": "MAIL"}
    alerts = with_alerts(services, audiences=audiences, smtp=smtp).config.alerts
    assert missing_variables(alerts, environment={"HOOK": "https://x"}) == ["MAIL"]
    assert missing_variables(alerts, environment={"HOOK": "https://x", "MAIL": "y"}) == []


def test_in_quiet_hours_only_what_is_critical_is_told_at_once(
    watching: Watching, hook: WebhookServer
) -> None:
    now = watching.services.now()
    begin, end = now - timedelta(hours=1), now + timedelta(hours=2)
    hours = QuietHours(begin=f"{begin:%H:%M}", end=f"{end:%H:%M}")
    watching.services = changed(watching.services, quiet_hours=hours)
    watching.minute()
    fields = {"created_at": now, "created_at_": now, "updated_at_": now}
    failed = record("bad.raw", status=Status.ERROR, status_details="no", **fields)
    watching.services.store.raw_files.register(failed, reason="a test")
    watching.free_gb["backup"] = 1
    watching.minutes(2)
    assert told(hook) == [("low_disk", "opened")]
    assert "raw_file_error thermo1" in watching.open()
    watching.minute(minutes=118)
    watching.minutes(2)
    assert told(hook).count(("raw_file_error", "opened")) == 1


def test_who_has_not_acknowledged_is_reminded_after_24_hours(
    watching: Watching, hook: WebhookServer
) -> None:
    watching.minute()
    watching.free_gb.update(backup=1, output=1)
    watching.minutes(2)
    current = watching.services.store.alerts.current()
    seen = next(item for item in current if "output" in item.subject)
    acknowledge(watching.services, seen.id, by="somebody")
    watching.minute(minutes=60 * 23)
    assert not any(event == "reminder" for _, event in told(hook))
    watching.minute(minutes=60 * 2)
    watching.minute(minutes=60)
    (reminder,) = [body for body in hook.bodies if body["event"] == "reminder"]
    assert "backup" in reminder["text"]
    assert "output" not in reminder["text"]


def test_a_clock_that_is_wrong_is_told_until_it_is_right(watching: Watching) -> None:
    watching.minute()
    watching.well.discard("thermo1")
    for difference, open_after in ((7200.0, ["clock_skew thermo1"]), (None, [])):
        for _ in range(2):
            watching.services.store.health.well(
                "thermo1",
                details="fine",
                free_bytes=5000 * GB,
                left_alone=[],
                clock_difference_s=difference,
                now=watching.services.now(),
            )
            watching.minute()
        assert watching.open() == open_after


def test_a_certificate_that_expires_or_is_broken_is_told_until_there_is_another(
    watching: Watching, tmp_path: Path
) -> None:
    path = tmp_path / "lab.pem"
    config = watching.services.config
    dagit = config.dagit.model_copy(update={"certificate": path})
    config = config.model_copy(update={"dagit": dagit})
    watching.services = replace(watching.services, config=config)
    now: datetime = watching.services.now().astimezone(UTC)
    days = Thresholds().expires_days
    cases = [(days - 1, True), (days + 1, False)]
    for left, is_told in cases:
        certificate(path, expires=now + timedelta(days=left))
        watching.minutes(2)
        assert watching.open() == (["expiring Dagit's certificate"] if is_told else [])
    path.write_text("no certificate")
    watching.minute()
    assert watching.alert("expiring").summary == "Dagit's certificate can't be read"
