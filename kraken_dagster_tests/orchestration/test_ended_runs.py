"""Runs that are terminated or killed in the midst of their work: what is said, and what follows."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.backup.verify import verify_backup
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.fs.rate_limit import RateLimit
from kraken_dagster.model.raw_file import Status
from kraken_dagster.orchestration.failures import counted, failure_of_many
from kraken_dagster.quant.collect import collect
from kraken_dagster.quant.submit import submit_jobs
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.connection import Store
from kraken_dagster_tests.backup.copying.copying_cases import parts
from kraken_dagster_tests.rebuild.rebuilding import new_instance
from kraken_dagster_tests.support.dagster_bench import Bench, hastened, raw_file
from kraken_dagster_tests.support.fakes import custom_settings
from kraken_dagster_tests.support.helpers import (
    acquire,
    backed_up,
    each,
    finish,
    tick,
    tick_until_idle,
    wait_for_jobs,
    wait_until,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
    pytest.mark.timeout(600),
]
BIG = 200_000_000
NAMES = [f"f{number}.raw" for number in range(6)]


class Reported(BaseException):
    """As Dagster's own error, which says that the process was told to end."""


# -- every step, whenever it is told to end -------------------------------------------------------


@dataclass
class _Clock:
    """Tells to end at the `at`th time that somebody asks for the time; the work is given up."""

    now: Callable[[], datetime]
    at: int
    one_at_a_time: Any = field(default_factory=threading.Lock)

    def __call__(self) -> datetime:
        with self.one_at_a_time:  # threads that copy ask, too
            self.at -= 1
            if self.at == 0:
                raise Reported
        return self.now()


def _to_back_up(services: Services) -> None:
    acquire(services, "thermo1", "x.raw")
    finish(services, "thermo1")


def _to_submit(services: Services) -> None:
    backed_up(services, "thermo1", "x.raw")
    custom_settings(services, "s", "true")


def _to_collect(services: Services) -> None:
    _to_submit(services)
    tick(services)
    wait_for_jobs(services)
    services.store.jobs._collection.update_many({}, {"$set": {"state": "succeeded"}})


def _done(services: Services) -> None:
    _to_submit(services)
    tick_until_idle(services)


STEPS: dict[str, tuple[Callable[[Services], None], Callable[[Services], Any]]] = {
    "backup": (
        _to_back_up,
        lambda services: back_up(services, "x.raw", run_id="told", options=BackupOptions()),
    ),
    "quant": (
        _to_submit,
        lambda services: submit_jobs(services, "x.raw", run_id="told", slots=each(2)),
    ),
    "collect": (_to_collect, lambda services: collect(services, "x.raw", run_id="told")),
    "verify": (
        _done,
        lambda services: verify_backup(services, "x.raw", run_id="told", rate_limit=RateLimit(1e6)),
    ),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_is_told_to_end_says_so_gives_its_lease_back_and_goes_on_later(
    services: Services, step: str
) -> None:
    prepare, do = STEPS[step]
    prepare(services)
    reported = missed = 0
    for at in range(1, 40):
        with services_that_end(services, at) as ending:
            try:
                do(ending)
            except Reported:
                pass
            else:
                break
        after = services.store.raw_files.get("x.raw")
        if after.lease is not None:  # it was giving it back: all was done, and the lease lapses
            services.now.forward(minutes=5)
            missed += 1
            continue
        if at > 1:  # the lease was taken
            last = after.history[-1]
            assert last["reason"].startswith(f"the run ended before its step {step} was done: ")
            assert "Next: " in last["reason"]
            assert last["run_id"] == "told"
            reported += 1
            assert after.status == last["to"]
    assert reported > 0
    assert missed <= 2  # the second time the word on the lapsed lease asks once more
    tick_until_idle(services)
    assert services.store.raw_files.get("x.raw").status in {Status.DONE, Status.DONE_NOT_QUANTED}
    assert len(services.store.jobs.of("x.raw")) <= 1


class services_that_end:
    """The world whose clock tells to end; a step's own threads are not asked."""

    def __init__(self, services: Services, at: int) -> None:
        self.services = replace(services, now=_Clock(services.now, at))

    def __enter__(self) -> Services:
        return self.services

    def __exit__(self, *_: object) -> None:
        pass


# -- a run's process ------------------------------------------------------------------------------


@dataclass
class Runs:
    """Runs that are started as processes, on a Dagster that everybody can see."""

    bench: Bench
    home: Path
    config_path: Path

    def start(self, job: str, first: str, last: str) -> "subprocess.Popen[bytes]":
        module = "kraken_dagster_tests.orchestration.ended_run"
        command = [sys.executable, "-m", module, str(self.config_path), str(self.home)]
        return subprocess.Popen(
            [*command, job, first, last], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def run(self) -> dg.DagsterRun:
        [run] = self.bench.instance.get_runs()
        return run

    def wait_for_copy(self) -> None:
        """Until a copy is under way."""
        backup = self.bench.config.locations.backup.path
        found = lambda: any(size(part) > 1e6 for part in parts(backup))  # noqa: E731
        wait_until(found, "a copy is under way", timeout_s=400, every_s=0.002)


def size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@pytest.fixture
def runs(config: KrakenConfig, store: Store, tmp_path: Path) -> Iterator[Runs]:
    with new_instance(tmp_path / "dagster") as instance:
        bench = Bench(hastened(config, copy_slots=2, lease_s=4), store, instance)
        path = tmp_path / "config.json"
        path.write_text(bench.config.model_dump_json(exclude_unset=True))  # defaults stay defaults
        yield Runs(bench, tmp_path / "dagster", path)


def _acquired(bench: Bench, *names: str, big: str) -> None:
    for name in names:
        content = b"\1" * (BIG if name == big else 1000)
        raw_file(bench.services.instrument_folder("thermo1"), name, content)
    bench.requested("thermo1")


def _backed_up_by_the_next(bench: Bench, name: str) -> None:
    outcome = back_up(bench.services, name, run_id="next", options=BackupOptions(), by_hand=False)
    assert outcome.done
    assert not parts(bench.config.locations.backup.path)


@pytest.mark.parametrize("asked_in_dagster", [True, False])
def test_a_terminated_copy_is_explained_and_made_by_the_next_run(
    runs: Runs, asked_in_dagster: bool
) -> None:
    bench = runs.bench
    _acquired(bench, "x.raw", big="x.raw")
    process = runs.start("thermo1_ingest", "x.raw", "x.raw")
    runs.wait_for_copy()
    if asked_in_dagster:
        bench.instance.report_run_canceling(runs.run())
    process.send_signal(signal.SIGTERM)
    process.wait(400)
    found = bench.file("x.raw")
    assert (found.status, found.lease) == (Status.COPYING, None)
    reported = str(found.status_details)
    assert reported == found.history[-1]["reason"]
    assert "the run ended before its step backup was done" in reported
    who = "its termination was asked for in Dagster" if asked_in_dagster else "a signal to its"
    assert who in reported
    assert "thermo1_watcher requests at its next tick" in reported
    log = bench.log_of(runs.run())
    assert "1 of 1 file was stopped in its midst" in log
    _backed_up_by_the_next(bench, "x.raw")


def test_a_terminated_run_on_many_files_says_what_it_had_in_hand_and_what_it_has_not_begun(
    runs: Runs,
) -> None:
    bench = runs.bench
    _acquired(bench, *NAMES, big=NAMES[2])
    process = runs.start("thermo1_ingest", NAMES[0], NAMES[-1])
    runs.wait_for_copy()
    bench.instance.report_run_canceling(runs.run())
    process.send_signal(signal.SIGTERM)
    process.wait(400)
    log = bench.log_of(runs.run())
    stopped = [name for name in NAMES if f"{name!r}: stopped in its midst" in log]
    not_begun = [name for name in NAMES if f"{name!r}: not begun" in log]
    assert NAMES[2] in stopped
    assert not {*stopped} & {*not_begun}
    for name in NAMES:
        file = bench.file(name)
        assert file.lease is None
        if name in stopped:
            assert "the run ended before" in file.history[-1]["reason"]
        elif name in not_begun:
            assert file.status is Status.MONITORING_DONE
        else:
            assert file.is_backed_up
    for name in [*stopped, *not_begun]:
        _backed_up_by_the_next(bench, name)


def test_a_killed_run_is_told_of_by_the_next_one_that_finds_its_lease(runs: Runs) -> None:
    bench = runs.bench
    _acquired(bench, "x.raw", big="x.raw")
    process = runs.start("thermo1_ingest", "x.raw", "x.raw")
    runs.wait_for_copy()
    process.kill()
    process.wait(400)
    dead = bench.file("x.raw").lease
    assert dead is not None
    wait_until(lambda: not dead.is_live(bench.services.now()), "its lease has lapsed")
    _backed_up_by_the_next(bench, "x.raw")
    reasons = [str(event["reason"]) for event in bench.file("x.raw").history]
    reported = [reason for reason in reasons if "did not give its lease back" in reason]
    assert len(reported) == 1
    assert dead.run_id in reported[0]
    assert dead.host in reported[0]
    assert "its process was killed, its machine went down, or it could not" in reported[0]


# -- counts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "reported"),
    [
        ({"of": 10, "failed": 10}, "10 of 10 files failed"),
        ({"of": 1, "failed": 1}, "1 of 1 file failed"),
        ({"of": 2, "failed": 1}, "1 of 2 files failed, 1 is done"),
        ({"of": 3, "failed": 1}, "1 of 3 files failed, 2 are done"),
        ({"of": 3, "not_begun": 1}, "1 of 3 files was not begun, 2 are done"),
        (
            {"of": 9, "failed": 1, "stopped": 2, "not_begun": 3, "idle": 2},
            "1 of 9 files failed, 2 were stopped in their midst, 3 were not begun, "
            "2 had nothing to do, 1 is done",
        ),
        ({"of": 0}, "The run is for no file"),
    ],
)
def test_counts_add_up_and_agree_with_their_verbs(counts: dict[str, int], reported: str) -> None:
    assert counted(**counts) == reported


def test_a_run_in_which_all_failed_says_of_no_other_that_it_is_done() -> None:
    failure = failure_of_many([(name, "why") for name in NAMES], of=len(NAMES))
    assert str(failure.description).startswith("6 of 6 files failed. Next: ")
