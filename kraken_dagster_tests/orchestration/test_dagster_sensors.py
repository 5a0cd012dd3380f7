"""What sensors request, and what not: slots, leases, dead runs, lost storage, what is away."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster import DagsterEvent, DagsterEventType

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.fs.processes.child_processes import free_port
from kraken_dagster.model.raw_file import Lease, Status
from kraken_dagster.orchestration.partitions import copy_pool
from kraken_dagster.runtime.services import utc_now
from kraken_dagster.store.connection import Store
from kraken_dagster_tests.support.dagster_bench import (
    Bench,
    hastened,
    install_search,
    raw_file,
)
from kraken_dagster_tests.support.helpers import wait_until

pytestmark = [
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
    # Checks by partition are a preview in Dagster 1.13.
    pytest.mark.filterwarnings("ignore::dagster.PreviewWarning"),
]
MakeBench = Callable[..., Bench]


@pytest.fixture
def make_bench(config: KrakenConfig, store: Store) -> Iterator[MakeBench]:
    instances: list[dg.DagsterInstance] = []

    def make(**defaults: object) -> Bench:
        instances.append(dg.DagsterInstance.ephemeral())
        return Bench(hastened(config, **defaults), store, instances[-1])

    yield make
    for instance in instances:
        instance.dispose()


def _files(bench: Bench, count: int) -> list[str]:
    names = [f"{number}.raw" for number in range(count)]
    for name in names:
        raw_file(bench.services.instrument_folder("thermo1"), name)
    return names


def _due(bench: Bench, count: int) -> list[str]:
    """Files whose backup is due, and for which nothing was requested yet."""
    names = _files(bench, count)
    for _ in range(2):
        assert bench.tick("thermo1_watcher").run_requests == []
    return names


def _run_keys(requests: list[dg.RunRequest]) -> list[str]:
    return [str(request.run_key) for request in requests]


def _lease(run_id: str, *, seconds: float) -> Lease:
    return Lease(
        token="somebody",
        run_id=run_id,
        host="elsewhere",
        step="backup",
        until=utc_now() + timedelta(seconds=seconds),
    )


def _start(bench: Bench, request: dg.RunRequest) -> dg.DagsterRun:
    """A run that Dagster shows as started, and that no process works on."""
    run = bench.queue(request, dg.DagsterRunStatus.STARTING)
    started = DagsterEvent(DagsterEventType.RUN_START.value, job_name=run.job_name)
    bench.instance.report_dagster_event(started, run.run_id)
    return run


def _status(bench: Bench, run: dg.DagsterRun) -> dg.DagsterRunStatus:
    found = bench.instance.get_run_by_id(run.run_id)
    assert found is not None
    return found.status


def test_a_folder_that_is_missing_is_told_and_holds_up_no_other(make_bench: MakeBench) -> None:
    bench = make_bench()
    folder = bench.services.instrument_folder("thermo1")
    folder.rmdir()
    raw_file(bench.services.instrument_folder("sciex1"), "a.wiff")
    answer = bench.tick("thermo1_watcher")
    assert answer.run_requests == []
    assert str(folder) in answer.skip_message
    assert "mount the instrument's share" in answer.skip_message
    assert "1 acquisitions in the folder, 1 new" in bench.tick("sciex1_watcher").skip_message
    health = {name: bench.store.health.get(name) for name in ("thermo1", "sciex1")}
    assert [item["status"] for item in health.values() if item] == ["error", "ok"]


def test_what_is_in_the_backup_goes_on_while_the_folder_is_missing(make_bench: MakeBench) -> None:
    bench = make_bench()
    install_search(bench.config, bench.store)
    _files(bench, 2)
    first, _ = bench.requested("thermo1")
    only_the_backup = [dg.AssetKey(["thermo1", "backup"])]
    assert bench.execute(
        "thermo1_ingest", "0.raw", asset_selection=only_the_backup, tags=dict(first.tags)
    ).success
    for path in bench.services.instrument_folder("thermo1").iterdir():
        path.unlink()
    bench.services.instrument_folder("thermo1").rmdir()
    assert _run_keys(bench.requested("thermo1")) == ["0.raw:quant:1"]


@pytest.mark.parametrize("sensor", ["thermo1_watcher", "cluster_jobs"])
def test_without_mongodb_a_sensor_says_so_and_requests_nothing(
    config: KrakenConfig, store: Store, sensor: str
) -> None:
    uri = f"mongodb://127.0.0.1:{free_port()}/kraken"
    away = config.model_copy(update={"mongodb": config.mongodb.model_copy(update={"uri": uri})})
    with dg.DagsterInstance.ephemeral() as instance:
        bench = Bench(away, store, instance)
        raw_file(bench.services.instrument_folder("thermo1"), "a.raw")
        answer = bench.tick(sensor)
        assert answer.run_requests == []
        assert "MongoDB can't be reached, so nothing is done" in answer.skip_message
        assert list(instance.get_dynamic_partitions("thermo1_raw_files")) == []


def test_no_more_copies_are_requested_than_the_instrument_has_slots(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(copy_slots=2)
    names = _due(bench, 4)
    first = bench.tick("thermo1_watcher").run_requests
    assert [item.partition_key for item in first] == names[:2]
    made = [bench.queue(item, dg.DagsterRunStatus.NOT_STARTED) for item in first]
    assert bench.tick("thermo1_watcher").run_requests == []
    bench.instance.report_run_canceled(made[0])
    again = bench.tick("thermo1_watcher").run_requests
    assert _run_keys(again) == ["0.raw:backup:2"]


def test_a_pool_limit_that_was_set_in_dagster_wins_over_copy_slots(make_bench: MakeBench) -> None:
    bench = make_bench(copy_slots=2)
    _due(bench, 4)
    bench.instance.event_log_storage.set_concurrency_slots(copy_pool("thermo1"), 3)
    assert len(bench.tick("thermo1_watcher").run_requests) == 3


def test_no_more_jobs_are_submitted_than_cluster_slots_of_dagster_allow(
    make_bench: MakeBench, tmp_path: Path
) -> None:
    bench = make_bench(copy_slots=9)
    go = tmp_path / "go"
    install_search(bench.config, bench.store, waits_for=go)
    names = _files(bench, 4)
    bench.instance.event_log_storage.set_concurrency_slots("cluster_slots", 1)
    try:
        assert all(bench.run(item).success for item in bench.requested("thermo1"))
        assert bench.tick("cluster_jobs").run_requests == []
        statuses = [bench.status(name) for name in names]
        assert sorted(statuses) == [Status.QUANTING, *3 * [Status.QUEUED_FOR_QUANTING]]
        bench.instance.event_log_storage.set_concurrency_slots("cluster_slots", 3)
        assert len(bench.tick("cluster_jobs").run_requests) == 2
    finally:
        go.touch()


def test_a_second_run_on_a_file_ends_at_once_and_says_who_holds_it(make_bench: MakeBench) -> None:
    bench = make_bench()
    _due(bench, 1)
    [request] = bench.tick("thermo1_watcher").run_requests
    lease = _lease("the-first-run", seconds=600)
    bench.store.raw_files.take_lease("0.raw", lease, now=utc_now())
    for result in (bench.run(request), bench.execute("thermo1_ingest", "0.raw")):
        assert result.success
        assert "run the-first-run on elsewhere, step backup" in bench.log_of(result)
    assert bench.materialised("thermo1", "backup") == {}
    assert bench.file("0.raw").lease == lease
    assert bench.status("0.raw") is Status.MONITORING_DONE
    assert bench.tick("thermo1_watcher").run_requests == []


def test_a_file_whose_lease_has_lapsed_is_requested_again(make_bench: MakeBench) -> None:
    bench = make_bench()
    _due(bench, 1)
    [first] = bench.tick("thermo1_watcher").run_requests
    lapsed = _lease("a-dead-run", seconds=-1)
    bench.store.raw_files.take_lease("0.raw", lapsed, now=utc_now() - timedelta(hours=1))
    [again] = bench.tick("thermo1_watcher").run_requests
    assert _run_keys([first, again]) == ["0.raw:backup:1", "0.raw:backup:2"]
    assert bench.run(again).success
    assert bench.file("0.raw").is_backed_up


def test_a_started_run_whose_process_is_gone_is_failed_and_its_file_requested_again(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(lease_s=600)
    _due(bench, 1)
    [request] = bench.tick("thermo1_watcher").run_requests
    dead = _start(bench, request)
    assert bench.tick("thermo1_watcher").run_requests == []  # it may still take its lease

    later = Bench(hastened(bench.config, lease_s=0.01), bench.store, bench.instance)
    [again] = wait_until(
        lambda: later.tick("thermo1_watcher").run_requests, "the dead run is found"
    )
    assert again.run_key == "0.raw:backup:2"
    assert _status(bench, dead) is dg.DagsterRunStatus.FAILURE
    assert "The run's process is gone" in bench.log_of(dead)
    assert bench.run(again).success
    assert bench.file("0.raw").is_backed_up


def test_a_started_run_that_holds_its_lease_is_left_alone(make_bench: MakeBench) -> None:
    bench = make_bench(lease_s=0.1)
    _due(bench, 1)
    [request] = bench.tick("thermo1_watcher").run_requests
    alive = _start(bench, request)
    lease = _lease(alive.run_id, seconds=600)
    long_ago = utc_now() - timedelta(hours=1)
    bench.store.raw_files.take_lease("0.raw", lease, now=long_ago)
    record = bench.instance.get_run_record_by_id(alive.run_id)
    assert record is not None
    wait_until(lambda: utc_now().timestamp() - (record.start_time or 0) > 0.2, "it is idle")
    assert bench.tick("thermo1_watcher").run_requests == []
    assert _status(bench, alive) is dg.DagsterRunStatus.STARTED


def test_after_dagsters_storage_was_lost_exactly_what_is_missing_is_requested(
    make_bench: MakeBench, tmp_path: Path
) -> None:
    before = make_bench(copy_slots=9)
    go = tmp_path / "go"
    install_search(before.config, before.store, waits_for=go)
    folder = before.services.instrument_folder("thermo1")
    for name in ("x_dda_done.raw", "quanting.raw", "waits.raw"):
        raw_file(folder, name)
    requests = {str(item.partition_key): item for item in before.requested("thermo1")}
    try:
        assert before.run(requests["x_dda_done.raw"]).success
        assert before.run(requests["quanting.raw"]).success
        raw_file(folder, "is_acquired.raw")
        before.tick("thermo1_watcher")

        after = make_bench(copy_slots=9)  # the same MongoDB
        watched = after.tick("thermo1_watcher").run_requests
        assert [item.partition_key for item in watched] == ["waits.raw"]
        assert watched[0].run_key == "waits.raw:backup:3"
        partitions = set(after.instance.get_dynamic_partitions("thermo1_raw_files"))
        assert partitions == {"waits.raw", "is_acquired.raw"}
    finally:
        go.touch()
    [collect] = after.collected()
    assert collect.run_key == "quanting.raw:collect:1"
    assert after.run(collect).success
    statuses = {name: after.status(name) for name in ("x_dda_done.raw", "quanting.raw")}
    assert statuses == {
        "x_dda_done.raw": Status.DONE_NOT_QUANTED,
        "quanting.raw": Status.DONE,
    }
    assert len(after.store.jobs.of("quanting.raw")) == 1


def test_a_run_that_was_requested_and_never_made_is_requested_under_a_key_of_its_own(
    make_bench: MakeBench,
) -> None:
    bench = make_bench()
    _due(bench, 1)
    keys = [key for _ in range(3) for key in _run_keys(bench.tick("thermo1_watcher").run_requests)]
    assert keys == ["0.raw:backup:1", "0.raw:backup:2", "0.raw:backup:3"]
