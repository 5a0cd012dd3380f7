"""How many jobs are open at once, which come next, and engines that give odd answers."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest

from kraken_dagster.model.errors import CopyStalled, LeaseHeld, SubmitFailed
from kraken_dagster.model.raw_file import Status
from kraken_dagster.quant.collect import collect
from kraken_dagster.quant.jobs.poll import poll
from kraken_dagster.quant.submit import submit_jobs
from kraken_dagster_tests.support.fakes import MemoryEngine, custom_settings
from kraken_dagster_tests.support.helpers import (
    Bench,
    acquire,
    backed_up,
    each,
    finish,
    job,
    tick,
    unassign,
)


@pytest.fixture
def engine():
    return MemoryEngine()


@pytest.fixture
def with_engine(services, engine):
    """The world, with an engine that starts nothing."""
    return replace(services, engines={"local": engine})


@pytest.fixture
def with_open_job(with_engine):
    backed_up(with_engine, "bruker1", "x.d")
    submit_jobs(with_engine, "x.d", run_id="run-1", slots=each(2), by_hand=False)
    return with_engine


def at_once(services, names: list[str], *, slots: int, threads: int = 4) -> None:
    """Several runs try to submit every file."""

    def run(number: int) -> None:
        for name in names:
            with suppress(LeaseHeld):
                submit_jobs(
                    services, name, run_id=f"run-{number}", slots=each(slots), by_hand=False
                )

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, range(threads)))


def test_runs_that_submit_at_once_never_overshoot_the_slots(with_engine, engine):
    services = with_engine
    names = [f"{number}.d" for number in range(6)]
    for name in names:
        acquire(services, "bruker1", name)
    finish(services, "bruker1")
    tick(services, slots=0)
    for _ in range(30):
        at_once(services, names, slots=2)
        assert len(engine.open) <= 2
        tick(services)  # what withdrew in favour of another that withdrew as well
        engine.open.clear()
        found = poll(services, slots={"local": 2})
        for item in found.to_collect:
            collect(services, item.id, run_id="collect")
        if len(engine.started) == 6 and not found.to_submit:
            break
    assert engine.most_open == 2
    assert sorted(engine.started) == sorted(
        item.id for name in names for item in services.store.jobs.of(name)
    )
    assert len(engine.started) == 6


def test_what_waits_for_a_slot_is_submitted_oldest_first(with_engine, engine):
    for name, hours in (("young", 1), ("old", 3), ("middle", 2)):
        created_at = with_engine.now() - timedelta(hours=hours)
        Bench(with_engine, "thermo1").write(f"{name}.raw", created_at=created_at)
    custom_settings(with_engine, "s")
    finish(with_engine, "thermo1")
    tick(with_engine, slots=0)
    assert engine.started == []
    for expected in ("old", "middle", "young"):
        tick(with_engine, slots=1)
        assert f"-{expected}-raw-" in engine.started[-1]
        engine.open.clear()


class Mute(MemoryEngine):
    def states(self, ids):
        raise SubmitFailed("the head node gives no answer")


def test_an_engine_that_gives_no_answer_is_told_and_no_job_is_marked(with_open_job):
    mute = replace(with_open_job, engines={"local": Mute()})
    found = poll(mute, slots={"local": 2})
    assert found.to_collect == ()
    assert found.open_jobs == 1
    assert "the head node gives no answer" in found.problems[0]


class Odd(MemoryEngine):
    def states(self, ids):
        raise ZeroDivisionError("a fault in a library")


def test_an_engine_that_raises_what_nobody_knows_is_told_and_stops_no_poll(with_open_job):
    odd = replace(with_open_job, engines={"local": Odd()})
    found = poll(odd, slots={"local": 2})
    assert found.open_jobs == 1
    assert "a fault in a library" in found.problems[0]


def test_a_job_that_the_engine_does_not_know_has_failed_only_after_ten_minutes(with_open_job):
    amnesic = replace(with_open_job, engines={"local": MemoryEngine()})
    assert poll(amnesic, slots={"local": 2}).to_collect == ()
    amnesic.now.forward(minutes=9)
    assert poll(amnesic, slots={"local": 2}).to_collect == ()
    amnesic.now.forward(minutes=1)
    assert [item.id for item in poll(amnesic, slots={"local": 2}).to_collect] == ["x.d"]
    outcome = collect(amnesic, "x.d", run_id="c")
    assert outcome.raw_file.status is Status.QUANTING_FAILED
    assert "left no exit code in its output folder" in outcome.raw_file.status_details


def test_a_job_of_a_file_that_is_gone_from_mongodb_is_told(with_engine, engine):
    with_engine.store.jobs.intend(job(raw_file="gone.raw", instrument_id="thermo1"))
    with_engine.store.jobs.submitted(job(), "id of job-1")
    engine.started.append("job-1")
    found = poll(with_engine, slots={"local": 2})
    assert found.to_collect == ()
    assert "gone.raw" in found.problems[0]


def test_a_file_is_not_collected_while_a_job_of_it_waits_for_a_slot(with_engine, engine):
    custom_settings(with_engine, "one")
    custom_settings(with_engine, "two", software_type="msqc", metrics_type="custom")
    backed_up(with_engine, "thermo1", "x.raw")
    tick(with_engine, slots=1)
    engine.open.clear()
    found = poll(with_engine, slots={"local": 1})
    assert (found.to_collect, [item.id for item in found.to_submit]) == ((), ["x.raw"])
    assert collect(with_engine, "x.raw", run_id="c").reason == "its jobs are still being submitted"
    tick(with_engine, slots=1)
    engine.open.clear()
    tick(with_engine, slots=1)
    assert with_engine.store.raw_files.get("x.raw").status is Status.DONE
    assert len(with_engine.store.metrics.of("x.raw")) == 2


class Hanging(MemoryEngine):
    def submit(self, spec, **_):
        raise CopyStalled("no answer, so nobody knows")


def test_an_intention_that_is_not_decided_on_any_more_holds_no_slot(with_engine):
    custom_settings(with_engine, "s")
    backed_up(with_engine, "thermo1", "x.raw")
    hanging = replace(with_engine, engines={"local": Hanging()})
    with pytest.raises(CopyStalled):
        submit_jobs(hanging, "x.raw", run_id="q", slots=each(1), by_hand=False)
    assert len(with_engine.store.jobs.uncollected("local")) == 1
    unassign(with_engine, "s")
    with_engine.now.forward(minutes=31)
    tick(with_engine, slots=1)
    assert with_engine.store.raw_files.get("x.raw").status is Status.DONE_NOT_QUANTED
    assert with_engine.store.jobs.uncollected("local") == []
