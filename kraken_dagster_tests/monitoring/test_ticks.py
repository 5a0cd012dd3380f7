"""The last tick of every sensor and schedule in MongoDB, and what is to be done about old ones."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.definitions import build_defs
from kraken_dagster.model.alerts.alert import Condition
from kraken_dagster.model.errors import StoreUnavailable
from kraken_dagster.monitoring.ticks import FAILED, NEVER, OFF, OK, SILENT, ticks
from kraken_dagster.orchestration.ticks import recorded_sensor
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.connection import Store
from kraken_dagster.store.instances import Instance, Tick, TickKind, TickOutcome, Ticks
from kraken_dagster_tests.alerts.watching import an_alert
from kraken_dagster_tests.support.dagster_bench import Bench, hastened

pytestmark = [
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
    pytest.mark.filterwarnings("ignore::dagster.PreviewWarning"),
]
WATCHER = "thermo1_watcher"


@pytest.fixture
def bench(config: KrakenConfig, store: Store) -> Iterator[Bench]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Bench(hastened(config), store, instance)


def _told(services: Services) -> dict[str, dict[str, Any]]:
    return {item["name"]: item for item in ticks(services)}


def _tick(name: str, at: datetime, **fields: Any) -> Tick:
    standard: dict[str, Any] = {
        "kind": TickKind.SENSOR,
        "location": "here",
        "took_s": 0.1,
        "outcome": TickOutcome.SKIPPED,
        "details": "no run is due",
        "every_s": 30,
    }
    return Tick(name=name, at=at, **{**standard, **fields})


def _evaluated(bench: Bench, schedule: str) -> Any:
    context = dg.build_schedule_context(
        instance=bench.instance,
        scheduled_execution_time=datetime.now(UTC),
        resources=bench.repository.get_top_level_resources(),
    )
    with context:
        return bench.repository.get_schedule_def(schedule).evaluate_tick(context)


def test_every_sensor_and_schedule_is_told_of(bench: Bench) -> None:
    repository = bench.repository
    there = {item.name for item in (*repository.sensor_defs, *repository.schedule_defs)}
    assert _told(bench.services).keys() == there
    with_copies = bench.config.model_validate(
        {
            **bench.config.model_dump(exclude_unset=True),
            "offsite": {"bucket": "copies", "endpoint": "http://127.0.0.1:1"},
        }
    )
    made = build_defs(with_copies)
    there = {item.name for item in (*(made.sensors or ()), *(made.schedules or ()))}
    assert _told(replace(bench.services, config=with_copies)).keys() == there


def test_a_tick_records_when_it_was_how_long_it_took_and_what_came_of_it(bench: Bench) -> None:
    before = datetime.now(UTC)
    answer = bench.tick(WATCHER)
    found = _told(bench.services)[WATCHER]
    assert found["last_tick"] >= before.replace(microsecond=before.microsecond // 1000 * 1000)
    assert (found["state"], found["outcome"]) == (OK, "skipped")
    assert answer.skip_message.startswith(found["details"].removesuffix("…"))
    assert 0 < found["took_s"] < 600
    assert _evaluated(bench, "purge").skip_message == _told(bench.services)["purge"]["details"]
    assert len(_evaluated(bench, "scrub").run_requests) == 1
    scrubbed = _told(bench.services)["scrub"]
    assert (scrubbed["outcome"], scrubbed["details"]) == ("requested", "1 run")


def test_what_a_sensor_requests_stays_as_it_is(bench: Bench) -> None:
    by_name = {item.name: item for item in bench.repository.sensor_defs}
    assert by_name[WATCHER].minimum_interval_seconds == (
        bench.config.instrument("thermo1").watch_interval_s
    )
    assert by_name[WATCHER].tags["kraken/instrument"] == "thermo1"
    assert by_name["alerts"].default_status is dg.DefaultSensorStatus.RUNNING
    assert len(by_name["cluster_jobs"].jobs) == 3 * len(bench.config.instruments)
    assert by_name["thermo1_archiver"].job_name == "thermo1_archive"


def _evaluate(bench: Bench, sensor: dg.SensorDefinition) -> Any:
    context = dg.build_sensor_context(
        instance=bench.instance, resources=bench.repository.get_top_level_resources()
    )
    with context:
        return recorded_sensor(bench.config, sensor).evaluate_tick(context)


def test_a_tick_that_fails_fails_and_says_why(bench: Bench) -> None:
    @dg.sensor(name=WATCHER, minimum_interval_seconds=30)
    def broken(_context: dg.SensorEvaluationContext) -> dg.SkipReason:
        raise ValueError("a fault\nof two lines")

    with pytest.raises(Exception, match="a fault"):
        _evaluate(bench, broken)
    found = _told(bench.services)[WATCHER]
    assert (found["state"], found["details"]) == (FAILED, "ValueError: a fault of two lines")
    assert "see its tick in Dagit" in found["told"]


def test_no_tick_fails_because_it_cannot_be_recorded(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_self: Ticks, _tick: Tick) -> None:
        raise StoreUnavailable("MongoDB is full")

    monkeypatch.setattr(Ticks, "ticked", refused)
    assert bench.tick(WATCHER).skip_message
    assert _told(bench.services)[WATCHER]["state"] == NEVER


def test_an_old_tick_is_told_with_what_to_do(services: Services) -> None:
    now, record = services.now(), services.store.ticks.ticked
    record(_tick(WATCHER, now - timedelta(hours=1)))
    alone = _told(services)
    assert alone[WATCHER]["state"] == SILENT
    assert "nothing ticks there" in alone[WATCHER]["told"]
    assert alone["thermo1_archiver"]["state"] == NEVER
    assert "kraken sensors on thermo1_archiver" in alone["thermo1_archiver"]["told"]
    record(_tick("cluster_jobs", now))
    record(_tick("alerts", now, location="elsewhere"))
    record(_tick("purge", now - timedelta(hours=24), kind=TickKind.SCHEDULE, every_s=None))
    record(_tick("scrub", now - timedelta(hours=26), kind=TickKind.SCHEDULE, every_s=None))
    found = _told(services)
    assert {name: found[name]["state"] for name in ("cluster_jobs", "purge", "scrub")} == {
        "cluster_jobs": OK,
        "purge": OK,
        "scrub": SILENT,
    }
    assert "others tick, but not this one: it is off, or hangs" in found[WATCHER]["told"]
    assert "dagster schedule start scrub" in found["scrub"]["told"]


def test_one_that_was_switched_off_is_told_as_that(services: Services) -> None:
    now = services.now()
    services.store.ticks.ticked(_tick(WATCHER, now - timedelta(hours=1)))
    off = Condition(subject=WATCHER, summary="the sensor is switched off")
    assert services.store.alerts.open(an_alert(off, kind="sensor_off"))
    assert _told(services)[WATCHER]["state"] == OFF
    services.store.ticks.ticked(_tick(WATCHER, now))  # it is on again, before alerts have looked
    assert _told(services)[WATCHER]["state"] == OK


def test_those_of_several_code_locations_are_kept_apart(services: Services) -> None:
    now = services.now()
    for host in ("host_1", "host_2"):
        services.store.instances.seen(
            Instance(
                id=Instance.location_name(host),
                host=host,
                home="/x",
                pid=1,
                instruments=["thermo1"],
                since=now,
                seen_at=now,
                location=host,
            )
        )
    services.store.ticks.ticked(_tick("cluster_jobs_host_1", now, location="host_1"))
    old = now - timedelta(hours=1)
    services.store.ticks.ticked(_tick("cluster_jobs_host_2", old, location="host_2"))
    services.store.ticks.ticked(_tick("cluster_jobs_gone", now - timedelta(days=9)))
    found = {name: item["state"] for name, item in _told(services).items() if "cluster" in name}
    assert found == {"cluster_jobs_host_1": OK, "cluster_jobs_host_2": SILENT}
