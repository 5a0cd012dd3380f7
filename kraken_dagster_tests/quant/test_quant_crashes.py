"""Runs that die while they submit or collect: every job is started once, and every file ends."""

from dataclasses import replace
from itertools import groupby

import pytest

from kraken_dagster.engines.local import LocalJobs
from kraken_dagster.model.errors import OutputExists, StoreUnavailable, SubmitFailed
from kraken_dagster.model.jobs.report import JobState
from kraken_dagster.model.raw_file import Status
from kraken_dagster.operations.retry import retry
from kraken_dagster.quant.collect import collect
from kraken_dagster.quant.jobs.poll import poll
from kraken_dagster.quant.submit import submit_jobs
from kraken_dagster_tests.support.fakes import MemoryEngine, custom_settings, stumbling
from kraken_dagster_tests.support.helpers import (
    Bench,
    acquire,
    backed_up,
    each,
    finish,
    tick,
    tick_until_idle,
    unassign,
    wait_for_jobs,
)


@pytest.fixture
def engine():
    return MemoryEngine()


@pytest.fixture
def with_engine(services, engine):
    custom_settings(services, "s")
    return replace(services, engines={"local": engine})


def settle(services, engine) -> None:
    """Ticks with one slot, in which every job ends at once, until nothing is due."""
    for _ in range(20):
        services.now.forward(minutes=31)
        if tick(services, slots=1) == 0 and not engine.open:
            return
        engine.open.clear()
    raise AssertionError("the sensors request runs for ever")


def deaths_while_submitting(services, name: str) -> bool:
    """The file's run dies after its first call to MongoDB, the next one's after its second, ...

    Each is a file of its own; whether the last run came through.
    """
    try:
        submit_jobs(services, name, run_id="dies", slots=each(1), by_hand=False)
    except StoreUnavailable:
        return False
    return True


def test_a_run_may_die_after_any_call_while_it_submits_and_the_job_is_started_once(
    with_engine, engine
):
    for calls in range(40):
        name = f"{calls}.raw"
        backed_up(with_engine, "thermo1", name)
        through = deaths_while_submitting(stumbling(with_engine, calls), name)
        settle(with_engine, engine)
        assert with_engine.store.raw_files.get(name).status is Status.DONE
        (found,) = with_engine.store.jobs.of(name)
        assert engine.started.count(found.id) == 1
        assert len(engine.started) == calls + 1
        if through:
            break
    assert calls >= 8


def test_a_run_that_died_holds_no_slot_for_ever(with_engine, engine):
    for name in ("old.raw", "young.raw"):
        acquire(with_engine, "thermo1", name)
    finish(with_engine, "thermo1")
    tick(with_engine, slots=0)
    calls = 0
    while with_engine.store.jobs.of("young.raw") == []:
        deaths_while_submitting(stumbling(with_engine, calls), "young.raw")
        with_engine.now.forward(minutes=31)
        calls += 1
    assert with_engine.store.jobs.of("young.raw")[0].state is JobState.INTENDED
    settle(with_engine, engine)
    assert {with_engine.store.raw_files.get(name).status for name in ("old.raw", "young.raw")} == {
        Status.DONE
    }
    assert len(engine.started) == 2


def test_a_job_that_the_engine_started_and_failed_to_say_so_counts_as_submitted(
    with_engine, engine
):
    backed_up(with_engine, "thermo1", "x.raw")
    engine.fails_after_submitting = 1
    outcome = submit_jobs(with_engine, "x.raw", run_id="q", slots=each(1), by_hand=False)
    assert outcome.raw_file.status is Status.QUANTING
    settle(with_engine, engine)
    assert with_engine.store.raw_files.get("x.raw").status is Status.DONE
    assert len(engine.started) == 1
    assert with_engine.store.jobs.uncollected("local") == []


def test_a_file_whose_second_job_was_refused_goes_on_with_its_first(with_engine, engine):
    custom_settings(with_engine, "two", software_type="msqc")
    raw_file = backed_up(with_engine, "thermo1", "x.raw")
    folder = with_engine.config.locations.output.path / "_FALLBACK" / raw_file.year_month
    taken = folder / "out_x.raw" / "msqc"
    taken.mkdir(parents=True)
    (taken / "earlier.txt").write_text("somebody's")
    with pytest.raises(OutputExists):
        submit_jobs(with_engine, "x.raw", run_id="q", slots=each(2), by_hand=False)
    assert len(engine.started) == 1
    (taken / "earlier.txt").unlink()
    retry(with_engine, "x.raw", asked_by="a person")
    tick(with_engine)
    assert with_engine.store.raw_files.get("x.raw").status is Status.QUANTING
    assert len(engine.started) == 2
    settle(with_engine, engine)
    assert with_engine.store.jobs.uncollected("local") == []


def test_a_job_that_was_refused_holds_no_slot(with_engine, engine):
    backed_up(with_engine, "thermo1", "x.raw")
    engine.refuses = True
    with pytest.raises(SubmitFailed):
        submit_jobs(with_engine, "x.raw", run_id="q", slots=each(1), by_hand=False)
    assert with_engine.store.jobs.uncollected("local") == []
    engine.refuses = False
    unassign(with_engine, "s")
    settle(with_engine, engine)
    assert with_engine.store.raw_files.get("x.raw").status is Status.DONE_NOT_QUANTED
    assert with_engine.store.jobs.uncollected("local") == []


@pytest.fixture
def with_ended_job(services):
    """A world with a file whose job has ended, and nothing collected yet."""
    backed_up(services, "bruker1", "x.d")
    submit_jobs(services, "x.d", run_id="q", slots=each(2), by_hand=False)
    wait_for_jobs(services)
    return services


def test_a_run_may_die_after_any_call_while_it_collects_and_the_next_one_ends_the_file(
    with_ended_job,
):
    services = with_ended_job
    calls = 0
    while True:
        found = poll(services, slots={"local": 2})
        if not found.to_collect:
            break
        try:
            collect(stumbling(services, calls), "x.d", run_id="dies")
        except StoreUnavailable:
            calls += 1
            services.now.forward(seconds=91)
    assert calls >= 5
    raw_file = services.store.raw_files.get("x.d")
    assert raw_file.status is Status.DONE
    statuses = [event["to"] for event in raw_file.history]  # a note repeats the one before
    assert [status for status, _ in groupby(statuses)].count("done") == 1
    assert len(services.store.metrics.of("x.d")) == 1
    assert services.store.jobs.of("x.d")[0].collected_at is not None


def test_a_poll_may_die_after_any_call_and_the_next_one_finds_what_has_ended(with_ended_job):
    services = with_ended_job
    for calls in range(50):
        try:
            found = poll(stumbling(services, calls), slots={"local": 2})
        except StoreUnavailable:
            continue
        break
    assert calls >= 3
    assert [item.id for item in found.to_collect] == ["x.d"]


def test_a_file_that_is_tried_again_before_its_old_job_was_collected_leaves_nothing_behind(
    services,
):
    custom_settings(services, "s", "exit 1")
    backed_up(services, "thermo1", "x.raw")
    submit_jobs(services, "x.raw", run_id="q", slots=each(2), by_hand=False)
    wait_for_jobs(services)
    poll(services, slots={"local": 2})
    calls = 0
    while services.store.raw_files.get("x.raw").status is not Status.QUANTING_FAILED:
        with pytest.raises(StoreUnavailable):
            collect(stumbling(services, calls), "x.raw", run_id="dies")
        services.now.forward(seconds=91)
        calls += 1
    assert len(services.store.jobs.uncollected("local")) == 1
    retry(services, "x.raw", asked_by="a person")
    tick_until_idle(services)
    assert services.store.jobs.uncollected("local") == []
    assert len(services.store.jobs.of("x.raw")) == 2


def test_a_job_survives_the_process_that_submitted_it_and_is_started_once(services, tmp_path):
    custom_settings(services, "s", f"echo started >> '{tmp_path}/starts'; sleep 0.3")
    Bench(services, "thermo1").write("x.raw")
    finish(services, "thermo1")
    tick(services, slots=0)
    calls = 0
    while services.store.raw_files.get("x.raw").status is not Status.QUANTING:
        # every try is a new process with an engine of its own
        engines = {"local": LocalJobs(tmp_path / "jobs" / "local")}
        deaths_while_submitting(replace(stumbling(services, calls), engines=engines), "x.raw")
        services.now.forward(seconds=91)
        calls += 1
    tick_until_idle(services)
    assert services.store.raw_files.get("x.raw").status is Status.DONE
    assert (tmp_path / "starts").read_text() == "started\n"
