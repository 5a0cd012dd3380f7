"""Runs are launched side by side, and a launch that hangs holds up no other instrument."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.run_coordinator import QueuedRunCoordinator
from dagster._daemon.run_coordinator import QueuedRunCoordinatorDaemon

from kraken_dagster.orchestration import launcher
from kraken_dagster.orchestration.launcher import PatientRunLauncher
from kraken_dagster.orchestration.partitions import TAG_INSTRUMENT
from kraken_dagster_tests.support.helpers import wait_until
from kraken_dagster_tests.support.laboratory import SHIPPED_DAGSTER_YAML

GUARD_S = 60
_ORIGIN = RemoteJobOrigin(
    RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("kraken"), "__repository__"), "work"
)
Status = dg.DagsterRunStatus


@dg.job
def work() -> None:
    pass


class Launches:
    """Takes the place of Dagster's own launches: those of `hanging` instruments end when told."""

    def __init__(self) -> None:
        self.hanging: set[str] = set()
        self.told = threading.Event()
        self.error: Exception | None = None
        self.begun: list[str] = []
        self.all_at_once: threading.Barrier | None = None

    def launch_run(self, launcher: dg.DefaultRunLauncher, context: Any) -> None:
        run = context.dagster_run
        instrument = run.tags[TAG_INSTRUMENT]
        if self.all_at_once is not None:
            self.all_at_once.wait(GUARD_S)
        if instrument in self.hanging:
            assert self.told.wait(GUARD_S)
        if self.error is not None:
            raise self.error
        self.begun.append(instrument)
        launcher._instance.report_engine_event("launched", run)


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> Iterator[Launches]:
    found = Launches()

    def launch_run(self: dg.DefaultRunLauncher, context: Any) -> None:
        found.launch_run(self, context)

    monkeypatch.setattr(dg.DefaultRunLauncher, "launch_run", launch_run)
    monkeypatch.setattr(launcher, "_HOLDS_UP_S", 0.2)
    yield found
    found.told.set()


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """As `kraken up` makes it, of the dagster.yaml that is shipped."""
    shutil.copyfile(SHIPPED_DAGSTER_YAML, tmp_path / "dagster.yaml")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert isinstance(instance.run_launcher, PatientRunLauncher)
        yield instance


@pytest.fixture
def daemon() -> Iterator[QueuedRunCoordinatorDaemon]:
    with QueuedRunCoordinatorDaemon(interval_seconds=1) as daemon:
        yield daemon


def _queue(instance: dg.DagsterInstance, instrument: str) -> str:
    run = instance.create_run_for_job(
        work, status=Status.QUEUED, tags={TAG_INSTRUMENT: instrument}, remote_job_origin=_ORIGIN
    )
    return run.run_id


def _look(daemon: QueuedRunCoordinatorDaemon, instance: dg.DagsterInstance) -> None:
    """What the daemon does every few seconds."""
    process: Any = SimpleNamespace(instance=instance, create_request_context=lambda: None)
    for _ in daemon.run_iteration(process):
        pass


def _status(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def _log(instance: dg.DagsterInstance, run_id: str) -> str:
    return "\n".join(entry.message for entry in instance.all_logs(run_id))


def test_as_many_runs_are_launched_at_once_as_may_run(
    instance: dg.DagsterInstance,
    daemon: QueuedRunCoordinatorDaemon,
    launches: Launches,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The eight launches wait for each other, which they never could one after the other."""
    monkeypatch.setattr(launcher, "_HOLDS_UP_S", GUARD_S)
    assert isinstance(instance.run_coordinator, QueuedRunCoordinator)
    config = instance.get_concurrency_config().run_queue_config
    assert config is not None
    most = config.max_concurrent_runs
    assert instance.run_coordinator.dequeue_num_workers == most
    launches.all_at_once = threading.Barrier(most)
    runs = [_queue(instance, f"tof{number}") for number in range(most + 2)]
    _look(daemon, instance)
    assert len(launches.begun) == most
    assert [_status(instance, run) for run in runs].count(Status.QUEUED) == 2


def test_a_launch_that_hangs_holds_up_no_other_instrument(
    instance: dg.DagsterInstance, daemon: QueuedRunCoordinatorDaemon, launches: Launches
) -> None:
    launches.hanging = {"tof1"}
    hanging, beside = _queue(instance, "tof1"), _queue(instance, "tof2")
    _look(daemon, instance)
    assert launches.begun == ["tof2"]
    later = _queue(instance, "tof2")
    _look(daemon, instance)  # not before the daemon looks again
    assert launches.begun == ["tof2", "tof2"]
    assert {_status(instance, run) for run in (hanging, beside, later)} == {Status.STARTING}
    launches.told.set()
    wait_until(lambda: launches.begun[2:] == ["tof1"], "the slow launch has come to its end")


def test_a_slow_launch_that_fails_in_the_end_fails_its_run(
    instance: dg.DagsterInstance, daemon: QueuedRunCoordinatorDaemon, launches: Launches
) -> None:
    launches.hanging, launches.error = {"tof1"}, OSError("no route to host")
    run = _queue(instance, "tof1")
    _look(daemon, instance)
    assert _status(instance, run) is Status.STARTING
    launches.told.set()
    wait_until(lambda: _status(instance, run) is Status.FAILURE, "the run has failed")
    assert "could not be launched: OSError: no route to host" in _log(instance, run)


def test_a_launch_that_is_not_answered_in_time_leaves_a_run_that_may_yet_begin(
    instance: dg.DagsterInstance, daemon: QueuedRunCoordinatorDaemon, launches: Launches
) -> None:
    launches.hanging, launches.error = {"tof1"}, DagsterUserCodeUnreachableError("after 60 s")
    run = _queue(instance, "tof1")
    _look(daemon, instance)
    launches.told.set()
    wait_until(lambda: "was not answered" in _log(instance, run), "it is told")
    assert _status(instance, run) is Status.STARTING


def test_a_slow_launch_that_fails_leaves_a_run_that_has_begun_alone(
    instance: dg.DagsterInstance, daemon: QueuedRunCoordinatorDaemon, launches: Launches
) -> None:
    launches.hanging, launches.error = {"tof1"}, OSError("no answer")
    run = _queue(instance, "tof1")
    _look(daemon, instance)
    event = dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, "work")
    instance.report_dagster_event(event, run)
    known = threading.active_count()
    launches.told.set()
    wait_until(lambda: threading.active_count() < known, "the launch is over")
    assert _status(instance, run) is Status.STARTED


@pytest.mark.parametrize("error", [OSError("refused"), TimeoutError("of its own")])
def test_a_launch_that_fails_at_once_is_dagsters_to_tell(
    instance: dg.DagsterInstance,
    daemon: QueuedRunCoordinatorDaemon,
    launches: Launches,
    error: Exception,
) -> None:
    launches.error = error
    run = _queue(instance, "tof1")
    with suppress(type(error)):
        _look(daemon, instance)
    assert _status(instance, run) is Status.FAILURE
