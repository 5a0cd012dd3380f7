"""Faults of a laboratory, one by one: each is told once; a good night is quiet."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from kraken_dagster.alerts.rules.registry import RULE_FAILED, RULES, judge
from kraken_dagster.alerts.snapshot import DagsterFacts, FailedJob, Sensor, Snapshot
from kraken_dagster.config.thresholds import Thresholds
from kraken_dagster.model.quality import Outcome, Series, Verdict
from kraken_dagster.model.raw_file import Status
from kraken_dagster.runtime.services import Services
from kraken_dagster_tests.alerts.receivers import WebhookServer
from kraken_dagster_tests.alerts.watching import Watching, no_trouble, with_alerts
from kraken_dagster_tests.support.helpers import NOW, record


@pytest.fixture
def watching(services: Services, hook: WebhookServer) -> Watching:
    settings: dict[str, Any] = {
        "audiences": {
            "operations": [{"type": "webhook", "url": hook.url}],
            "laboratory": [{"type": "webhook", "url": hook.url}],
        },
        "thresholds": {"stall_instruments": ["thermo1"]},
        "digest": {"at": "13:00", "days": ["sun"]},
    }
    return Watching(with_alerts(services, **settings))


def events(watching: Watching) -> list[tuple[str, str]]:
    """Kind and event of every message that went, in order."""
    alerts = watching.services.store.alerts.latest()
    ids = [name for item in alerts for made in item.messages for name in made.messages]
    found = watching.services.store.outbox.many(ids).values()
    return [(it.kind, it.event) for it in sorted(found, key=lambda it: it.created_at)]


def test_a_share_that_is_away_is_one_alert_with_an_end(watching: Watching) -> None:
    watching.minute()
    watching.well.discard("thermo1")
    store, now = watching.services.store, watching.services.now
    for _ in range(2):
        store.health.unwell("thermo1", details="no answer within 20 s", now=now())
        watching.minute()
    assert watching.open() == ["health_failed thermo1"]
    watching.well.add("thermo1")
    watching.minutes(3)
    assert events(watching) == [("health_failed", "opened"), ("health_failed", "resolved")]


def test_an_instrument_that_is_silent_and_nobody_looks_at(watching: Watching) -> None:
    register(watching, "a.raw")
    watching.minute()
    watching.well.discard("thermo1")
    for _ in range(5):
        watching.minute(minutes=4)
    assert watching.open() == ["stale_status thermo1"]
    watching.well.add("thermo1")
    for _ in range(30):
        watching.minute(minutes=4)
    assert watching.open() == ["instrument_stall thermo1"]
    register(watching, "b.raw")
    watching.minutes(2)
    assert watching.open() == []


def test_a_file_that_fails_and_one_whose_backup_is_damaged(watching: Watching) -> None:
    watching.minute()
    register(watching, "bad.raw", status=Status.ERROR, status_details="no")
    register(watching, "rot.raw", status=Status.ERROR, ended_as=Status.DONE)
    register(watching, "soon.raw", status=Status.ERROR, failures=1, retry_at=NOW)
    watching.minutes(2)
    assert watching.alert("raw_file_error").members == ("bad.raw",)
    assert watching.alert("backup_damaged").members == ("rot.raw",)
    assert watching.alert("backup_damaged").severity == "critical"


def test_jobs_that_failed_are_told_until_they_are_tried_again_or_old(watching: Watching) -> None:
    watching.minute()
    store, now = watching.services.store.raw_files, watching.services.now
    for name in ("a.raw", "b.raw"):
        register(watching, name, status=Status.QUANTING)
        failed = f"exit code 7 in {name}"
        store.transition(store.get(name), Status.QUANTING_FAILED, now=now(), reason=failed)
    watching.minute()
    assert watching.open() == ["jobs_failed thermo1"]
    assert watching.alert("jobs_failed").summary == "thermo1: jobs of 2 files failed"
    assert "exit code 7 in a.raw" in watching.alert("jobs_failed").details
    again = "tried again"
    store.transition(store.get("a.raw"), Status.QUEUED_FOR_QUANTING, now=now(), reason=again)
    watching.minute()
    assert watching.alert("jobs_failed").members == ("b.raw",)
    watching.minute(minutes=60 * 25)
    watching.minutes(2)
    assert not any("jobs_failed" in item for item in watching.open())


def test_a_sensor_that_is_off_explains_what_is_not_looked_at(watching: Watching) -> None:
    watching.dagster = no_trouble(watching.services)
    watching.minutes(3)
    off = Sensor("thermo1_watcher", "thermo1", is_on=False, last_tick=None)
    watching.dagster = replace(watching.dagster, sensors=(off,))
    watching.well.discard("thermo1")
    for _ in range(5):
        watching.dagster = replace(watching.dagster, daemon_seen=watching.services.now())
        watching.minute(minutes=4)
    assert watching.open() == ["sensor_off thermo1_watcher"]


def test_a_silent_daemon_and_a_failed_job_are_told(watching: Watching) -> None:
    watching.minutes(3)
    failed = FailedJob("purge", ("run-1",), NOW)
    watching.dagster = DagsterFacts(watching.services.now(), failed_jobs=(failed,))
    watching.minute()
    assert watching.open() == ["run_failed purge"]
    watching.dagster = DagsterFacts(watching.services.now() - timedelta(minutes=6))
    watching.minutes(2)
    assert watching.open() == ["daemon_silent Dagster's daemon"]


def test_a_control_that_is_out_of_control_is_told_until_the_next_good_one(
    watching: Watching,
) -> None:
    judge_run(watching, "qc1.raw", Outcome.OUT_OF_CONTROL)
    watching.minute()
    assert watching.open() == ["out_of_control hela on thermo1, s:1"]
    assert watching.alert("out_of_control").members == ("qc1.raw",)
    judge_run(watching, "qc2.raw", Outcome.IN_CONTROL)
    watching.minutes(2)
    assert watching.open() == []


def judge_run(watching: Watching, name: str, outcome: Outcome) -> None:
    now = watching.services.now()
    series = Series(
        instrument_id="thermo1", sample_class="hela", settings_name="s", settings_version=1
    )
    verdict = Verdict(
        raw_file=name,
        series=series,
        gradient_min=None,
        acquired_at=now,
        outcome=outcome,
        reason="proteins 900, expected at least 4000",
        by="a test",
        at=now,
    )
    watching.services.store.quality.record(verdict)


def test_a_night_without_a_fault_sends_nothing_but_the_digest(
    watching: Watching, hook: WebhookServer
) -> None:
    register(watching, "a.raw", status=Status.DONE)
    settings = watching.services.config.alerts
    quiet = settings.model_copy(update={"thresholds": Thresholds()})
    config = watching.services.config.model_copy(update={"alerts": quiet})
    watching.services = replace(watching.services, config=config)
    for _ in range(48):  # 12 hours
        watching.minute(minutes=15)
    assert [body["kind"] for body in hook.bodies] == ["digest"]
    assert hook.bodies[0]["subject"] == "Kraken 2026-03-01: all is well"


def test_two_monitors_tell_nothing_twice(watching: Watching) -> None:
    other = Watching(watching.services, by="page")
    watching.minute()
    watching.free_gb["backup"] = other.free_gb["backup"] = 400
    watching.minute()
    assert other.scan().why_not == "another monitor has just looked"
    watching.minutes(2)
    assert events(watching) == [("low_disk", "opened")]


def test_a_rule_that_fails_is_an_alert_and_stops_no_other() -> None:
    def fails(*_: object) -> Any:
        raise ZeroDivisionError("division by zero")

    broken = replace(RULES[0], check=fails)
    low = Snapshot(local_free_gb=1)
    found = judge(low, Thresholds(), NOW, rules=(broken, *RULES[1:]))
    assert {item.rule.kind for item in found.found} == {RULE_FAILED.kind, "low_local_disk"}
    assert RULES[0].kind in found.unjudged


def register(watching: Watching, name: str, **fields: Any) -> None:
    now = watching.services.now()
    times = {"created_at": now, "created_at_": now, "updated_at_": now}
    made = record(name, **{**times, **fields})
    watching.services.store.raw_files.register(made, reason="a test")
