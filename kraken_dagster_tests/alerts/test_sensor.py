"""The sensor `alerts` with a real Dagster: what it asks it, and what it says of its own tick."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_origin import (
    InProcessCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, InstigatorType
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._daemon.types import DaemonHeartbeat

from kraken_dagster.alerts.dagster_facts import dagster_facts
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.orchestration.partitions import PURGE_JOB
from kraken_dagster.store.connection import Store
from kraken_dagster_tests.support.dagster_bench import Bench, hastened

pytestmark = pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated")


@pytest.fixture
def bench(config: KrakenConfig, store: Store, tmp_path: Path) -> Iterator[Bench]:
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        yield Bench(hastened(config), store, instance)


def _facts(bench: Bench):
    return dagster_facts(bench.instance, bench.config, now=bench.services.now())


def test_a_tick_looks_and_says_what_it_found(bench: Bench) -> None:
    found = bench.tick("alerts")
    assert found.skip_message
    scan = bench.store.alerts.last_look()
    assert scan["looked_by"].startswith("sensor on ")
    assert scan["dagster_looked_at"] == scan["looked_at"]


def test_a_new_dagster_knows_nothing(bench: Bench) -> None:
    facts = _facts(bench)
    assert (facts.daemon_seen, facts.sensors, facts.failed_jobs) == (None, (), ())


def _switched(name: str, status: InstigatorStatus) -> InstigatorState:
    location = InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name="m"))
    origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(location, "__repository__"), name)
    return InstigatorState(origin, InstigatorType.SENSOR, status)


def test_a_sensor_that_was_switched_off_is_seen(bench: Bench) -> None:
    on = _switched("thermo1_watcher", InstigatorStatus.RUNNING)
    bench.instance.add_instigator_state(on)
    bench.instance.add_instigator_state(_switched("a_stranger", InstigatorStatus.RUNNING))
    [found] = _facts(bench).sensors
    assert (found.name, found.instrument, found.is_on) == ("thermo1_watcher", "thermo1", True)
    bench.instance.update_instigator_state(on.with_status(InstigatorStatus.STOPPED))
    [found] = _facts(bench).sensors
    assert found.is_on is False


def test_the_daemon_is_seen_by_the_oldest_of_its_signs(bench: Bench) -> None:
    needed = ("SENSOR", "SCHEDULER", "QUEUED_RUN_COORDINATOR")
    for age, name in enumerate(needed):
        assert _facts(bench).daemon_seen is None
        beat = DaemonHeartbeat(1_700_000_000.0 - age, name, "daemon", [])
        bench.instance.add_daemon_heartbeat(beat)
    seen = _facts(bench).daemon_seen
    assert seen == datetime.fromtimestamp(1_700_000_000 - 2, tz=UTC)


def test_a_purge_that_failed_is_known_until_one_has_gone_well(bench: Bench) -> None:
    for status, known in ((dg.DagsterRunStatus.FAILURE, 1), (dg.DagsterRunStatus.FAILURE, 2)):
        bench.instance.create_run_for_job(bench.repository.get_job(PURGE_JOB), status=status)
        [job] = _facts(bench).failed_jobs
        assert (job.name, len(job.runs)) == (PURGE_JOB, known)
        assert abs(job.at - datetime.now(UTC)) < timedelta(minutes=5)
        time.sleep(0.01)
    bench.instance.create_run_for_job(
        bench.repository.get_job(PURGE_JOB), status=dg.DagsterRunStatus.SUCCESS
    )
    assert _facts(bench).failed_jobs == ()
