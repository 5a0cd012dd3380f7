"""Jobs on a cluster that loses what it is told, or its answers: each is started exactly once."""

import json
import random
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from enum import Enum, auto
from pathlib import Path
from typing import Any

import pytest

from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.config.schema import KrakenConfig, OutputExistsMode
from kraken_dagster.model.errors import (
    AnswerLost,
    ClusterError,
    JobError,
    KrakenError,
    LeaseHeld,
    OutputExists,
    SchedulerAway,
    SettingsRefused,
    StoreUnavailable,
    SubmitFailed,
)
from kraken_dagster.model.jobs.job import JobReport, JobSpec, JobState, QuantJob
from kraken_dagster.model.raw_file import FINAL, RawFile, Status
from kraken_dagster.operations import report as reports
from kraken_dagster.operations.retry import retry
from kraken_dagster.quant.collect import collect
from kraken_dagster.quant.jobs.poll import Poll, poll
from kraken_dagster.quant.submit import QuantOutcome, submit_jobs
from kraken_dagster.runtime.services import World
from kraken_dagster_tests.support.fakes import MemoryEngine, Stumbling, custom_settings
from kraken_dagster_tests.support.helpers import Bench, backed_up, each, finish, tick, unassign

AWAY = SchedulerAway("slurmctld does not answer")
SETTLES_S = 35
LATE_S = 34  # after which a submission turns up that got no answer: just before it counts as lost
ENDED_WELL = JobReport(JobState.SUCCEEDED, 0)


class Fate(Enum):
    """What becomes of a submission."""

    ANSWERED = auto()
    ANSWER_LOST = auto()
    LATE = auto()
    LOST = auto()


class FakeCluster:
    """It starts whatever it is told, also the same job twice."""

    settles_s = float(SETTLES_S)

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.calls: list[str] = []
        self.started: list[JobSpec] = []
        self.jobs: dict[str, JobReport] = {}
        self.used: dict[str, JobReport] = {}
        self.unasked: set[str] = set()  # the controller has forgotten them, accounting is away
        self.fates: deque[Fate] = deque()
        self.fault: ClusterError | None = None
        self.refusal: JobError | None = None
        self.told: Callable[[JobSpec], None] = lambda spec: None
        self._now = now
        self._late: list[tuple[datetime, JobSpec]] = []
        self._lock = threading.RLock()

    @property
    def names(self) -> list[str]:
        """Of the jobs that were started, in that order."""
        return [spec.name for spec in self.started]

    @property
    def open(self) -> list[str]:
        """The ids of the jobs that have not ended."""
        with self._lock:
            self._arrive()
            return [job_id for job_id, report in self.jobs.items() if not report.ended]

    def end(self, job_id: str | None, state: JobState = JobState.SUCCEEDED, **facts: Any) -> None:
        assert job_id is not None
        self.jobs[job_id] = replace(ENDED_WELL, state=state, exit_code=None, **facts)

    def end_all(self) -> None:
        for job_id in self.open:
            self.end(job_id)

    def submit(self, spec: JobSpec, *, may_start: Callable[[], None] = lambda: None) -> str:
        with self._lock:
            self._called("submit")
            may_start()
            if self.refusal is not None:
                raise self.refusal
            self.told(spec)
            fate = self.fates.popleft() if self.fates else Fate.ANSWERED
            if fate is Fate.LATE:
                self._late.append((self._now() + timedelta(seconds=LATE_S), spec))
            elif fate is not Fate.LOST:
                self._start(spec)
            if fate is not Fate.ANSWERED:
                raise AnswerLost("the connection broke in mid-submission")
            return str(len(self.started))

    def find(self, name: str) -> str | None:
        with self._lock:
            self._called("find")
            numbers = [number for number, known in enumerate(self.names, 1) if known == name]
            return str(numbers[0]) if numbers else None

    def states(self, ids: Sequence[str]) -> dict[str, JobReport]:
        if not ids:
            return {}
        with self._lock:
            self._called("states")
            nobody = JobReport(JobState.UNKNOWN, detail="nobody knows the job")
            asked = set(ids) - self.unasked
            return {job_id: self.jobs.get(job_id, nobody) for job_id in asked}

    def usage(self, ids: Sequence[str]) -> dict[str, JobReport]:
        self._called("usage")
        return {job_id: self.used[job_id] for job_id in ids if job_id in self.used}

    def cancel(self, job_id: str) -> None:
        self.end(job_id, JobState.CANCELLED)

    def log_tail(self, spec: JobSpec, *, lines: int = 20) -> str:
        self._called("log_tail")
        return "last words"

    def check(self) -> None:
        self._called("check")

    def _called(self, name: str) -> None:
        self.calls.append(name)
        self._arrive()
        if self.fault is not None:
            raise self.fault

    def _arrive(self) -> None:
        for arrival in list(self._late):
            if arrival[0] <= self._now():
                self._late.remove(arrival)
                self._start(arrival[1])

    def _start(self, spec: JobSpec) -> None:
        self.started.append(spec)
        self.jobs[str(len(self.started))] = JobReport(JobState.RUNNING, node="n1")


class _DyingEngine(Stumbling):
    @property
    def settles_s(self) -> float:
        settles_s: float = self._store.settles_s
        return settles_s


def dying(world: World, calls: int) -> World:
    """A world whose process dies right after the `calls`th call of MongoDB or of an engine."""
    store: Any = Stumbling(world.store, calls)
    engines: dict[str, Any] = {}
    for name, engine in world.engines.items():
        engines[name] = _DyingEngine(engine, 0)
        engines[name]._left = store._left
    return replace(world, store=store, engines=engines)


def survives(run: Callable[[], Any]) -> bool:
    try:
        run()
    except StoreUnavailable:
        return False
    return True


@pytest.fixture
def on_cluster(config: KrakenConfig) -> KrakenConfig:
    """The instruments, with a cluster beside this machine. A dead run's lease lapses soon."""
    given = config.model_dump(exclude_unset=True)
    cluster = {"type": "slurm", "host": "head1", "user": "kraken"}
    given["engines"] = {"cluster": cluster, "local": {"type": "local"}}
    given["defaults"] = {"engine": "cluster", "lease_s": 15}
    given["instruments"]["bruker1"]["engine"] = "local"
    return KrakenConfig.model_validate(given)


@pytest.fixture
def engine(clock) -> FakeCluster:
    return FakeCluster(clock)


@pytest.fixture
def world(make_world, on_cluster, engine) -> World:
    world = make_world(on_cluster)
    return replace(world, engines={"cluster": engine, "local": MemoryEngine()})


@pytest.fixture
def raw_file(world) -> RawFile:
    """A backed up file with settings that say what their job may have."""
    resources = {"slurm_mem": "3G", "slurm_time": "01:00:00"}
    limits = {"slurm_max_mem": "8G", "slurm_max_time": "03:00:00"}
    custom_settings(world, "s", **resources, **limits)
    return backed_up(world, "thermo1", "x.raw")


def several(world: World, count: int) -> list[str]:
    """The names of files that are backed up, oldest acquisition first."""
    names = [f"{number}.raw" for number in range(count)]
    begin = world.now() - timedelta(hours=5)
    for number, name in enumerate(names):
        moment = begin + timedelta(minutes=number)
        Bench(world, "thermo1").write(name, created_at=moment)
    finish(world, "thermo1")
    for name in names:
        back_up(world, name, run_id="backup", options=BackupOptions())
    return names


def submitted(world: World, name: str = "x.raw", *, slots: int = 9, **options: Any) -> QuantOutcome:
    given = {"run_id": "q", "slots": each(slots), "by_hand": False}
    return submit_jobs(world, name, **{**given, **options})


def asked(world: World, name: str = "x.raw", **options: Any) -> QuantOutcome:
    """By a person, whom the engine's trouble doesn't keep from asking."""
    return submitted(world, name, by_hand=True, **options)


def polled(world: World, slots: int = 9) -> Poll:
    return poll(world, slots=dict.fromkeys(world.config.engines, slots))


def work(world: World, *, slots: int = 9, seconds: float = 16) -> None:
    """A tick some time later; what goes wrong with a file is the file's."""
    world.now.forward(seconds=seconds)
    with suppress(JobError, LeaseHeld):
        tick(world, slots=slots)


def work_until(
    world: World, statuses: Iterable[Status], name: str = "x.raw", *, seconds: float = 16
) -> RawFile:
    for _ in range(40):
        found = world.store.raw_files.get(name)
        if found.status in set(statuses):
            return found
        work(world, seconds=seconds)
    raise AssertionError(f"{name} stays {found.status}: {found.status_details}")


def stored(world: World, name: str = "x.raw") -> RawFile:
    return world.store.raw_files.get(name)


def only_job(world: World, name: str = "x.raw") -> QuantJob:
    (found,) = world.store.jobs.of(name)
    return found


def board(world: World) -> dict[str, Any]:
    found = world.store.board.engine("cluster")
    assert found is not None
    return found


def output(world: World, name: str = "x.raw", kind: str = "custom") -> Path:
    root = world.config.locations.output.path
    return root / f"_FALLBACK/{stored(world, name).year_month}/out_{name}/{kind}"


def leave(world: World, name: str, text: str, kind: str = "custom") -> None:
    """A file in the result's folder."""
    path = output(world, kind=kind) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def new_settings_version(world: World) -> None:
    """Version 2 of the settings, in place of version 1."""
    unassign(world, "s")
    custom_settings(world, "s", version=2)


# -- handing a job over ---------------------------------------------------------------------------


def test_the_moment_of_the_try_is_in_mongodb_before_the_cluster_is_told(world, engine, raw_file):
    known: list[QuantJob] = []
    engine.told = lambda spec: known.append(world.store.jobs.get(spec.name))
    submitted(world)
    assert [(item.state, item.tried_at) for item in known] == [(JobState.INTENDED, world.now())]
    assert (only_job(world).state, only_job(world).cluster_job_id) == (JobState.WAITING, "1")
    assert engine.calls == ["submit"]


@pytest.mark.parametrize("fate", [Fate.ANSWER_LOST, Fate.LATE, Fate.LOST])
def test_after_a_lost_answer_the_file_waits_with_the_reason(world, engine, raw_file, fate):
    engine.fates.append(fate)
    outcome = submitted(world)
    assert outcome.submitted == ()
    assert stored(world).status is Status.QUEUED_FOR_QUANTING
    assert stored(world).status_details == "the connection broke in mid-submission."
    assert (board(world)["status"], board(world)["failures"]) == ("error", 1)
    assert board(world)["ask_again_at"] == world.now() + timedelta(seconds=15)
    assert "the connection broke in mid-submission" in "".join(reports.status(world)["wrong"])
    assert only_job(world).state is JobState.INTENDED
    assert only_job(world).tried_at == world.now()
    assert only_job(world).cluster_job_id is None


def test_a_reason_that_stays_the_same_is_in_the_history_once(world, engine, raw_file):
    engine.fault = AWAY
    for _ in range(5):
        asked(world)
    reasons = [event["reason"] for event in stored(world).history]
    assert reasons.count(str(AWAY)) == 1


def test_a_cluster_that_stays_away_is_asked_less_and_less_often(world, engine, raw_file):
    engine.fault = AWAY
    submitted(world)
    waits = []
    for _ in range(8):
        waits.append((board(world)["ask_again_at"] - world.now()).total_seconds())
        world.now.time = board(world)["ask_again_at"]
        polled(world)
    assert waits == [15, 30, 60, 120, 240, 300, 300, 300]
    assert engine.calls == ["submit", *["check"] * 8]


def test_a_job_is_submitted_again_only_when_it_was_missing_for_long_enough(world, engine, raw_file):
    engine.fates.append(Fate.LOST)
    submitted(world)
    for seconds in (20, 20, SETTLES_S - 21):  # missing since the first of these looks
        world.now.forward(seconds=seconds)
        assert "not clear yet" in asked(world).reason
    assert engine.calls.count("submit") == 1
    world.now.forward(seconds=1)
    assert asked(world).raw_file.status is Status.QUANTING
    assert (engine.calls.count("submit"), engine.names) == (2, [only_job(world).id])


def test_a_look_that_got_no_answer_is_none(world, engine, raw_file):
    engine.fates.append(Fate.LOST)
    submitted(world)
    engine.fault = AWAY
    for _ in range(3):
        world.now.forward(minutes=5)
        assert asked(world).reason == str(AWAY)
    engine.fault = None
    assert "not clear yet" in asked(world).reason
    assert engine.calls.count("submit") == 1


def test_every_try_is_looked_for_anew(world, engine, raw_file):
    engine.fates.extend([Fate.LOST, Fate.LATE])
    submitted(world)
    asked(world)
    world.now.forward(seconds=SETTLES_S)
    assert "connection broke" in asked(world).reason
    world.now.forward(seconds=1)
    assert "not clear yet" in asked(world).reason
    world.now.forward(seconds=LATE_S)
    assert asked(world).raw_file.status is Status.QUANTING
    assert engine.names == [only_job(world).id]


def test_a_job_that_turns_up_late_is_taken_for_what_it_is(world, engine, raw_file):
    engine.fates.append(Fate.LATE)
    submitted(world)
    assert "not clear yet" in asked(world).reason
    assert engine.started == []
    world.now.forward(seconds=LATE_S)
    outcome = asked(world)
    assert [item.cluster_job_id for item in outcome.submitted] == ["1"]
    engine.end_all()
    assert work_until(world, FINAL).status is Status.DONE
    assert engine.names == [only_job(world).id]


def test_a_job_that_the_cluster_has_forgotten_is_known_by_what_it_left(world, engine, raw_file):
    engine.fates.append(Fate.LOST)
    submitted(world)
    leave(world, "kraken.job_id", "4711 another-job\n")
    assert "not clear yet" in asked(world).reason
    leave(world, "kraken.job_id", f"4711 {only_job(world).id}\n")
    (found,) = asked(world).submitted
    assert (found.state, found.cluster_job_id) == (JobState.WAITING, "4711")
    assert engine.started == []


@pytest.mark.parametrize("refusal", [SubmitFailed("no such partition"), SettingsRefused("mem")])
def test_a_refused_job_is_taken_back_and_submitted_when_that_is_mended(
    world, engine, raw_file, refusal
):
    engine.refusal = refusal
    with pytest.raises(type(refusal)):
        submitted(world)
    assert (stored(world).status, stored(world).status_details) == (Status.ERROR, str(refusal))
    assert (stored(world).retry_at is not None) == refusal.transient
    assert world.store.jobs.uncollected("cluster") == []
    assert world.store.board.engine("cluster") is None
    engine.refusal = None
    retry(world, "x.raw", asked_by="a person")
    work_until(world, {Status.QUANTING})
    assert engine.names == [only_job(world).id]


def test_a_refusal_after_which_the_cluster_goes_away_is_no_end(world, engine, raw_file):
    engine.refusal = SubmitFailed("no such partition")
    asks, engine.find = engine.find, MemoryEngine.find  # type: ignore[method-assign]

    def find(name: str) -> str | None:
        raise AWAY

    engine.find = find  # type: ignore[method-assign]
    assert submitted(world).reason == str(AWAY)
    assert stored(world).status is Status.QUEUED_FOR_QUANTING
    assert only_job(world).tried_at is not None
    engine.find, engine.refusal = asks, None  # type: ignore[method-assign]
    work_until(world, {Status.QUANTING})
    assert engine.names == [only_job(world).id]


@pytest.mark.parametrize("fate", list(Fate))
def test_a_process_may_die_at_any_moment_while_it_submits(world, engine, fate):
    custom_settings(world, "s")
    names = several(world, 24)
    for calls, name in enumerate(names):
        engine.fates = deque([fate])
        if survives(lambda: asked(dying(world, calls), name, slots=99)):  # noqa: B023
            break
    else:
        raise AssertionError("not one came through")
    engine.fates.clear()
    waiting = set(names)
    for _ in range(6):
        world.now.forward(seconds=20)
        for name in sorted(waiting):
            if asked(world, name, slots=99).raw_file.status is Status.QUANTING:
                waiting.remove(name)
    engine.end_all()
    world.now.forward(minutes=5)
    tick(world, slots=99)
    assert {stored(world, name).status for name in names} == {Status.DONE}
    assert sorted(engine.names) == sorted(only_job(world, name).id for name in names)
    assert world.store.jobs.uncollected("cluster") == []


@pytest.mark.parametrize("fate", list(Fate))
def test_every_process_may_die_while_it_submits_and_looks_again(world, engine, raw_file, fate):
    engine.fates.append(fate)
    for calls in range(60):
        world.now.forward(seconds=20)
        if survives(lambda: asked(dying(world, calls // 2))):  # noqa: B023
            break
    assert calls >= 10
    work_until(world, {Status.QUANTING})
    engine.end_all()
    assert work_until(world, FINAL).status is Status.DONE
    assert engine.names == [only_job(world).id]


# -- an engine in trouble -------------------------------------------------------------------------


def test_runs_of_the_sensors_leave_a_cluster_in_trouble_alone_and_a_person_asks_it(
    world, engine, raw_file
):
    engine.fault = AWAY
    submitted(world)
    engine.fault = None
    before = list(engine.calls)
    assert submitted(world).reason == str(AWAY)
    assert engine.calls == before
    assert asked(world).reason.startswith("whether it was submitted is not clear yet")
    assert engine.calls == [*before, "find"]
    world.now.forward(seconds=15)
    submitted(world)
    assert engine.calls == [*before, "find", "find"]


def test_nothing_is_requested_of_a_cluster_in_trouble_until_it_answers_again(
    world, engine, raw_file
):
    engine.fault = AWAY
    submitted(world)
    engine.calls.clear()
    found = polled(world)
    assert (found.to_submit, engine.calls) == ((), [])
    assert "slurmctld does not answer" in found.problems[0]
    world.now.forward(seconds=15)
    assert (polled(world).to_submit, engine.calls) == ((), ["check"])
    assert board(world)["failures"] == 2
    engine.fault = None
    world.now.forward(seconds=30)
    found = polled(world)
    assert [item.id for item in found.to_submit] == ["x.raw"]
    assert (found.problems, engine.calls) == ((), ["check", "check"])
    assert (board(world)["status"], board(world)["ask_again_at"]) == ("ok", None)
    assert not any("engine" in problem for problem in reports.status(world)["wrong"])


def test_a_cluster_with_open_jobs_that_goes_away_changes_no_job(world, engine, raw_file):
    submitted(world)
    polled(world)
    engine.fault = AWAY
    for _ in range(3):
        world.now.forward(hours=1)
        found = polled(world)
        assert (found.open_jobs, found.to_collect) == (1, ())
    assert only_job(world).state is JobState.RUNNING
    assert stored(world).status is Status.QUANTING
    engine.fault = None
    engine.end_all()
    assert work_until(world, FINAL, seconds=300).status is Status.DONE


def test_another_engine_goes_on_meanwhile(world, engine, raw_file):
    engine.fault = AWAY
    submitted(world)
    backed_up(world, "bruker1", "y.d")
    assert [item.settings_name for item in submitted(world, "y.d").submitted] == ["s", "rawqc"]
    assert stored(world, "y.d").status is Status.QUANTING


# -- slots ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_whatever_gets_lost_no_job_is_started_twice_and_the_slots_are_kept(world, engine, seed):
    dice = random.Random(seed)
    custom_settings(world, "s")
    names = several(world, 5)
    ends = [JobState.SUCCEEDED, JobState.PREEMPTED, JobState.NODE_FAILURE]
    for step in range(400):
        world.now.forward(seconds=dice.choice([5, 20, 40, 90]))
        calm = step > 60
        engine.fault = AWAY if dice.random() < 0.2 and not calm else None
        engine.fates = deque([Fate.ANSWERED if calm else dice.choice(list(Fate))])
        dies_after = dice.randrange(60) if dice.random() < 0.4 and not calm else 10_000
        survives(lambda: work(dying(world, dies_after), slots=2))  # noqa: B023
        assert len(engine.open) <= 2
        for job_id in engine.open:
            if dice.random() < 0.5:
                engine.end(job_id, JobState.SUCCEEDED if calm else dice.choice(ends))
        if {stored(world, name).status for name in names} <= {Status.DONE, Status.QUANTING_FAILED}:
            break
    jobs = [item for name in names for item in world.store.jobs.of(name)]
    assert Counter(engine.names) == Counter(item.id for item in jobs)
    assert all(item.collected_at is not None for item in jobs)
    for name in names:
        last = world.store.jobs.of(name)[-1]
        ended_well = last.state is JobState.SUCCEEDED
        assert stored(world, name).status is (Status.DONE if ended_well else Status.QUANTING_FAILED)
        assert ended_well or last.resubmission == 3


def preempted_while_another_is_on_its_way(world: World, engine: FakeCluster, fate: Fate) -> None:
    """`0.raw` is preempted, and the answer to the submission of `1.raw` gets lost just then."""
    custom_settings(world, "s")
    several(world, 2)
    submitted(world, "0.raw", slots=1)
    engine.end("1", JobState.PREEMPTED)
    found = polled(world, slots=1)
    assert [item.id for item in found.to_collect] == ["0.raw"]
    engine.fates.append(fate)
    submitted(world, "1.raw", slots=1)
    collect(world, "0.raw", run_id="c")


@pytest.mark.parametrize("fate", [Fate.ANSWER_LOST, Fate.LATE, Fate.LOST])
def test_a_job_of_which_nobody_knows_keeps_its_slot_when_another_wants_it(world, engine, fate):
    preempted_while_another_is_on_its_way(world, engine, fate)
    for name in ("0.raw", "1.raw"):
        while stored(world, name).status is not Status.DONE:
            work(world, slots=1)
            assert len(engine.open) <= 1
            engine.end_all()
    assert len(engine.names) == len(set(engine.names)) == 3


@pytest.mark.parametrize("fate", [Fate.ANSWER_LOST, Fate.LATE, Fate.LOST])
def test_fewer_slots_do_not_make_a_job_on_its_way_forgotten(world, engine, raw_file, fate):
    engine.fates.append(fate)
    submitted(world, slots=1)
    for _ in range(3):
        asked(world, slots=0)
        assert stored(world).status in {Status.QUEUED_FOR_QUANTING, Status.QUANTING}
        world.now.forward(seconds=20)
    work_until(world, {Status.QUANTING})
    engine.end_all()
    assert work_until(world, FINAL).status is Status.DONE
    assert engine.names == [only_job(world).id]


def test_a_full_cluster_that_goes_away_leaves_the_files_queued(world, engine):
    preempted_while_another_is_on_its_way(world, engine, Fate.LOST)
    engine.fault = AWAY
    assert asked(world, "1.raw", slots=1).reason == str(AWAY)
    assert stored(world, "1.raw").status is Status.QUEUED_FOR_QUANTING


def test_jobs_that_are_run_again_get_the_next_slots_oldest_first(world, engine):
    custom_settings(world, "s")
    names = several(world, 5)
    for name in names[:3]:
        submitted(world, name, slots=3)
    for number in ("3", "1", "2"):
        world.now.forward(seconds=1)
        engine.end(number, JobState.PREEMPTED)
        for item in polled(world, slots=0).to_collect:
            collect(world, item.id, run_id="c")
    again = [f"{engine.names[number]}-r1" for number in (2, 0, 1)]
    for round_ in range(3):
        for _ in range(3):
            work(world, slots=1)
        assert engine.names[3:] == again[: round_ + 1]
        engine.end_all()
    for name in names:
        while stored(world, name).status is not Status.DONE:
            work(world, slots=1)
            engine.end_all()
    assert len(engine.names) == len(set(engine.names)) == 8


def test_no_run_is_requested_for_jobs_that_are_run_again_while_no_slot_is_free(world, engine):
    custom_settings(world, "s")
    several(world, 2)
    for name in ("0.raw", "1.raw"):
        submitted(world, name, slots=2)
    engine.end("1", JobState.PREEMPTED)
    for item in polled(world, slots=1).to_collect:
        collect(world, item.id, run_id="c")
    assert stored(world, "0.raw").status is Status.QUEUED_FOR_QUANTING
    assert polled(world, slots=1).to_submit == ()
    assert [item.id for item in polled(world, slots=2).to_submit] == ["0.raw"]
    engine.end("2")
    assert [item.id for item in polled(world, slots=1).to_submit] == ["0.raw"]


# -- no connection to the cluster -----------------------------------------------------------------


@pytest.fixture
def skipped(world, engine, raw_file) -> RawFile:
    """The file, after a run that was kept from asking the cluster."""
    outcome = submitted(world, no_cluster=True)
    assert outcome.submitted == ()
    return outcome.raw_file


def test_without_connections_jobs_are_recorded_as_skipped(world, engine, skipped):
    assert (skipped.status, only_job(world).state) == (Status.DONE_NOT_QUANTED, JobState.SKIPPED)
    assert "debug_no_cluster_ssh is set" in (skipped.status_details or "")
    assert only_job(world).command == [str(world.config.locations.software.path / "s")]
    found = polled(world)
    assert (found.open_jobs, found.to_collect, found.to_submit) == (0, (), ())
    world.now.forward(hours=1)
    assert polled(world).to_submit == ()
    assert engine.calls == []
    assert reports.show(world, "x.raw")["jobs"][0]["state"] == "skipped"


def test_what_was_skipped_is_submitted_by_retry(world, engine, skipped):
    retry(world, "x.raw", asked_by="a person")
    work_until(world, {Status.QUANTING})
    engine.end_all()
    assert work_until(world, FINAL).status is Status.DONE
    skipped_job, job = world.store.jobs.of("x.raw")
    assert (skipped_job.attempt, job.attempt, engine.names) == (1, 2, [job.id])


def test_settings_that_change_while_a_retry_is_unclear_are_not_mixed_in(world, engine, skipped):
    retry(world, "x.raw", asked_by="a person")
    engine.fates.append(Fate.LOST)
    work(world)
    new_settings_version(world)
    work_until(world, {Status.QUANTING})
    engine.end_all()
    assert work_until(world, FINAL).status is Status.DONE
    assert [job.settings_version for job in world.store.jobs.of("x.raw")] == [1, 1]


def test_what_was_skipped_is_submitted_when_a_person_asks(world, engine, skipped):
    (job,) = asked(world).submitted
    assert (job.state, job.attempt, engine.names) == (JobState.WAITING, 2, [job.id])
    assert asked(world).submitted == ()


def test_without_connections_another_engine_is_used_as_ever(world, engine):
    backed_up(world, "bruker1", "y.d")
    outcome = submitted(world, "y.d", no_cluster=True)
    assert [item.state for item in outcome.submitted] == [JobState.WAITING]


def test_what_may_be_on_the_cluster_is_not_recorded_as_skipped(world, engine, raw_file):
    engine.fates.append(Fate.LATE)
    submitted(world)
    outcome = asked(world, no_cluster=True)
    assert outcome.raw_file.status is Status.QUEUED_FOR_QUANTING
    assert "may be on the cluster" in outcome.reason
    assert engine.calls == ["submit"]
    work_until(world, {Status.QUANTING})
    assert engine.names == [only_job(world).id]


def test_a_cluster_that_no_instrument_may_connect_to_is_not_asked(world, engine, raw_file):
    engine.fault = AWAY
    submitted(world)
    engine.calls.clear()
    world.now.forward(hours=1)
    options = world.config.options.model_copy(update={"debug_no_cluster_ssh": True})
    given = world.config.model_dump(exclude_unset=True)
    given["options"] = options.model_dump(exclude_unset=True)
    kept = replace(world, config=KrakenConfig.model_validate(given))
    assert [item.id for item in polled(kept).to_submit] == ["x.raw"]
    assert engine.calls == []
    polled(world)
    assert engine.calls == ["check"]


# -- jobs that are run again ----------------------------------------------------------------------


def ends(world: World, engine: FakeCluster, state: JobState, **facts: Any) -> RawFile:
    """The latest job ends, and what follows from it is done, but for its next submission."""
    engine.end(str(len(engine.started)), state, **facts)
    found = polled(world)
    assert [item.id for item in found.to_collect] == ["x.raw"]
    return collect(world, "x.raw", run_id="c").raw_file


@pytest.mark.parametrize("state", [JobState.NODE_FAILURE, JobState.PREEMPTED])
def test_what_is_not_a_jobs_fault_is_run_again_three_times_at_most(world, engine, raw_file, state):
    submitted(world)
    first = only_job(world)
    for number in (1, 2, 3):
        world.now.forward(seconds=1)
        after = ends(world, engine, state, node="n7")
        assert after.status is Status.QUEUED_FOR_QUANTING
        assert after.status_details == (
            f"submitted again: {first.id}-r{number} (try {number + 1}, after {state} on n7)"
        )
        assert [item.id for item in polled(world).to_submit] == ["x.raw"]
        (job,) = submitted(world).submitted
        assert (job.id, job.resubmission) == (f"{first.id}-r{number}", number)
        assert (job.resources, job.command) == (first.resources, first.command)
        assert stored(world).status is Status.QUANTING
    after = ends(world, engine, state, node="n7")
    assert after.status is Status.QUANTING_FAILED
    assert f"[s] {state}" in (after.status_details or "")
    assert "it was submitted again in vain" in (after.status_details or "")
    assert engine.names == [first.id, *(f"{first.id}-r{number}" for number in (1, 2, 3))]
    assert [event["to"] for event in stored(world).history][-8:] == [
        *["quanting", "queued_for_quanting"] * 3,
        *("quanting", "quanting_failed"),
    ]
    assert world.store.jobs.uncollected("cluster") == []


@pytest.mark.parametrize(
    "ran_out",
    [
        (JobState.OUT_OF_MEMORY, "mem", ["3G", "6G", "8G"]),
        (JobState.TIMEOUT, "time", ["01:00:00", "02:00:00", "03:00:00"]),
    ],
)
def test_what_ran_out_is_doubled_up_to_its_limit(world, engine, raw_file, ran_out):
    state, resource, asked_for = ran_out
    submitted(world)
    for _ in range(2):
        world.now.forward(seconds=1)
        assert ends(world, engine, state).status is Status.QUEUED_FOR_QUANTING
        submitted(world)
    assert ends(world, engine, state).status is Status.QUANTING_FAILED
    assert [getattr(spec.resources, resource) for spec in engine.started] == asked_for
    assert f"a slurm_max_{resource}" in (stored(world).status_details or "")


@pytest.mark.parametrize("state", [JobState.OUT_OF_MEMORY, JobState.TIMEOUT])
def test_without_a_limit_what_ran_out_is_a_failure(world, engine, state):
    custom_settings(world, "s", slurm_mem="3G", slurm_time="01:00:00")
    backed_up(world, "thermo1", "x.raw")
    submitted(world)
    after = ends(world, engine, state)
    assert (after.status, len(engine.started)) == (Status.QUANTING_FAILED, 1)
    assert f"[s] {state}" in (after.status_details or "")


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED])
def test_what_failed_or_was_cancelled_is_not_run_again(world, engine, raw_file, state):
    submitted(world)
    assert ends(world, engine, state).status is Status.QUANTING_FAILED
    assert polled(world).to_submit == ()
    assert len(engine.started) == 1


def test_the_result_of_the_last_try_counts_and_what_the_first_left_is_moved_aside(
    world, engine, raw_file
):
    submitted(world)
    leave(world, "half.txt", "from the first try")
    ends(world, engine, JobState.NODE_FAILURE)
    assert not any(output(world).glob("*"))
    aside = output(world).with_name("custom.1.alphakraken.bkp")
    assert (aside / "half.txt").read_text() == "from the first try"
    world.now.forward(seconds=1)
    submitted(world)
    engine.end_all()
    polled(world)
    outcome = collect(world, "x.raw", run_id="c")
    assert (outcome.raw_file.status, outcome.failures) == (Status.DONE, [])
    (result,) = world.store.metrics.of("x.raw")
    shown = reports.show(world, "x.raw")
    first, second = shown["jobs"]
    assert (first["state"], second["state"]) == (JobState.NODE_FAILURE, JobState.SUCCEEDED)
    assert (first["resubmission"], second["resubmission"]) == (0, 1)
    assert result["provenance"]["job"] == second["_id"] == f"{first['_id']}-r1"
    assert shown["metrics"] == [{**result, "current": True}]
    assert all(item["collected_at"] is not None for item in shown["jobs"])


def test_of_two_jobs_only_the_one_that_was_preempted_is_run_again(world, engine, raw_file):
    custom_settings(world, "other", software_type="diann", metrics_type="custom")
    submitted(world)
    engine.end("1")
    ends(world, engine, JobState.PREEMPTED)
    submitted(world)
    engine.end_all()
    assert work_until(world, FINAL).status is Status.DONE
    kept, lost = sorted(engine.names[:2])
    assert engine.names[2:] in ([f"{kept}-r1"], [f"{lost}-r1"])
    assert len(world.store.metrics.of("x.raw")) == 2


def test_a_second_try_that_is_refused_stays_intended_and_goes_on_when_that_is_mended(
    world, engine, raw_file
):
    submitted(world)
    ends(world, engine, JobState.OUT_OF_MEMORY)
    engine.refusal = SubmitFailed("Requested node configuration is not available")
    with pytest.raises(SubmitFailed):
        submitted(world)
    assert stored(world).status is Status.ERROR
    _, again = world.store.jobs.of("x.raw")
    assert (again.state, again.tried_at) == (JobState.INTENDED, None)
    engine.refusal = None
    world.now.forward(minutes=2)
    work_until(world, {Status.QUANTING})
    assert engine.names[1:] == [again.id]
    assert engine.started[1].resources.mem == "6G"
    engine.end_all()
    assert work_until(world, FINAL).status is Status.DONE


def test_a_second_try_that_is_not_wanted_any_more_holds_no_slot(world, engine, raw_file):
    submitted(world)
    ends(world, engine, JobState.OUT_OF_MEMORY)
    engine.refusal = SubmitFailed("Requested node configuration is not available")
    with pytest.raises(SubmitFailed):
        submitted(world)
    engine.refusal = None
    new_settings_version(world)
    retry(world, "x.raw", asked_by="a person")
    work_until(world, {Status.QUANTING})
    assert engine.names[1].endswith("-s-v2-1")
    engine.end_all()
    assert work_until(world, FINAL).status is Status.DONE
    assert world.store.jobs.uncollected("cluster") == []
    assert len(engine.started) == 2


class _OddCluster(FakeCluster):
    """It fails in a way of which nobody has thought, after it was told."""

    def submit(self, spec: JobSpec, *, may_start: Callable[[], None] = lambda: None) -> str:
        try:
            return super().submit(spec, may_start=may_start)
        except AnswerLost as error:
            raise OSError("odd") from error


@pytest.fixture
def odd(world, clock) -> World:
    return replace(world, engines={**world.engines, "cluster": _OddCluster(clock)})


@pytest.mark.parametrize("away", [False, True])
@pytest.mark.parametrize("fate", [Fate.ANSWER_LOST, Fate.LATE, Fate.LOST])
def test_a_job_on_its_way_that_is_not_wanted_any_more_holds_no_slot_for_ever(
    odd, raw_file, fate, away
):
    world, engine = odd, odd.engines["cluster"]
    engine.fates.append(fate)
    with pytest.raises(KrakenError, match="odd"):
        submitted(world)
    assert stored(world).status is Status.ERROR
    assert only_job(world).tried_at is not None
    new_settings_version(world)
    retry(world, "x.raw", asked_by="a person")
    engine.fault = AWAY if away else None
    work(world)
    engine.fault = None
    for _ in range(40):
        work(world)
        assert set(Counter(engine.names).values()) <= {1}
        engine.end_all()
        if stored(world).status is Status.DONE and not world.store.jobs.uncollected("cluster"):
            break
    assert stored(world).status is Status.DONE
    assert world.store.jobs.uncollected("cluster") == []
    assert sorted(engine.names) == sorted(item.id for item in world.store.jobs.of("x.raw"))
    assert len(engine.names) == (1 if fate is Fate.LOST else 2)


def run_again(world: World, engine: FakeCluster, names: list[str]) -> None:
    """Each file's first job is preempted, each second one ends well; until nothing is due."""
    for _ in range(40):
        for job_id in engine.open:
            again = engine.names[int(job_id) - 1].endswith("-r1")
            engine.end(job_id, JobState.SUCCEEDED if again else JobState.PREEMPTED)
        work(world, slots=99)
        if {stored(world, name).status for name in names} == {Status.DONE}:
            return
    raise AssertionError("a file stands still")


def test_a_process_may_die_at_any_moment_while_a_job_is_run_again(world, engine):
    custom_settings(world, "s")
    names = several(world, 26)
    for name in names:
        submitted(world, name, slots=99)
    for calls, name in enumerate(names):
        engine.end(str(calls + 1), JobState.PREEMPTED)
        polled(world)

        def collected_and_submitted(name=name, calls=calls):
            dead = dying(world, calls)
            collect(dead, name, run_id="dies")
            submitted(dead, name, slots=99)

        if survives(collected_and_submitted):
            break
    else:
        raise AssertionError("not one came through")
    run_again(world, engine, names)
    jobs = [item for name in names for item in world.store.jobs.of(name)]
    assert Counter(engine.names) == Counter(item.id for item in jobs)
    assert [len(world.store.jobs.of(name)) for name in names] == [2] * len(names)
    assert all(len(world.store.metrics.of(name)) == 1 for name in names)
    assert world.store.jobs.uncollected("cluster") == []


def test_a_poll_may_die_at_any_moment_and_the_next_one_knows_what_has_ended(
    world, engine, raw_file
):
    submitted(world)
    engine.end_all()
    for calls in range(30):
        if survives(lambda: polled(dying(world, calls))):  # noqa: B023
            break
    assert calls >= 5
    assert [item.id for item in polled(world).to_collect] == ["x.raw"]


# -- jobs that nobody knows -----------------------------------------------------------------------


@pytest.fixture
def forgotten(world, engine, raw_file) -> QuantJob:
    """A job that ran, and that neither the controller nor the accounting know any more."""
    submitted(world)
    engine.jobs["1"] = JobReport(JobState.RUNNING, node="n1", started_at=world.now())
    polled(world)
    del engine.jobs["1"]
    return only_job(world)


@pytest.mark.parametrize(("code", "status"), [("0", Status.DONE), ("3", Status.QUANTING_FAILED)])
def test_the_exit_code_that_the_very_job_left_decides(world, engine, forgotten, code, status):
    leave(world, "kraken.exit_code", f"{code} 1 {forgotten.id}\n")
    world.now.forward(minutes=1)
    assert [item.id for item in polled(world).to_collect] == ["x.raw"]
    assert collect(world, "x.raw", run_id="c").raw_file.status is status
    job = only_job(world)
    assert (job.exit_code, job.node) == (int(code), "n1")
    assert (job.started_at, job.ended_at) == (forgotten.started_at, world.now())
    assert job.elapsed_s == 60


@pytest.mark.parametrize(
    "text", ["0 1 another-job\n", "", "0 1\n", "zero 1 {}\n", "-1 1 {}\n", "0 1 {} more\n"]
)
def test_an_exit_code_that_is_not_the_jobs_own_decides_nothing(world, engine, forgotten, text):
    leave(world, "kraken.exit_code", text.format(forgotten.id))
    assert polled(world).to_collect == ()
    assert only_job(world).state is JobState.UNKNOWN
    assert stored(world).status is Status.QUANTING


def test_an_exit_code_that_can_not_be_read_decides_nothing(world, engine, forgotten):
    (output(world) / "kraken.exit_code").mkdir(parents=True)
    assert polled(world).to_collect == ()
    world.now.forward(minutes=1)
    assert polled(world).to_collect == ()
    assert only_job(world).state is JobState.UNKNOWN


def test_a_job_that_nobody_knows_has_failed_after_ten_minutes(world, engine, forgotten):
    polled(world)
    world.now.forward(minutes=9)
    assert polled(world).to_collect == ()
    world.now.forward(minutes=1)
    assert [item.id for item in polled(world).to_collect] == ["x.raw"]
    after = collect(world, "x.raw", run_id="c").raw_file
    assert after.status is Status.QUANTING_FAILED
    assert "nobody knows the job" in (after.status_details or "")
    assert "left no exit code in its output folder" in (after.status_details or "")


def test_a_job_that_turns_up_again_goes_on(world, engine, forgotten):
    polled(world)
    world.now.forward(minutes=9)
    engine.jobs["1"] = JobReport(JobState.RUNNING)
    polled(world)
    assert (only_job(world).state, only_job(world).unknown_since) == (JobState.RUNNING, None)
    del engine.jobs["1"]
    for _ in range(2):
        world.now.forward(minutes=9)
        assert polled(world).to_collect == ()


def test_a_job_is_not_unknown_while_the_accounting_can_not_be_asked(world, engine, forgotten):
    engine.unasked.add("1")
    for _ in range(3):
        world.now.forward(hours=1)
        assert polled(world).to_collect == ()
    assert only_job(world).state is JobState.RUNNING
    engine.unasked.clear()
    assert polled(world).to_collect == ()
    assert only_job(world).state is JobState.UNKNOWN


@pytest.mark.parametrize("whole_cluster", [False, True])
def test_time_in_which_nobody_could_be_asked_does_not_count(
    world, engine, forgotten, whole_cluster
):
    polled(world)
    assert only_job(world).state is JobState.UNKNOWN
    if whole_cluster:
        engine.fault = AWAY
    else:
        engine.unasked.add("1")
    for _ in range(3):
        world.now.forward(hours=1)
        polled(world)
    engine.unasked.clear()
    engine.fault = None
    world.now.forward(hours=1)
    assert polled(world).to_collect == ()
    world.now.forward(minutes=9)
    assert polled(world).to_collect == ()
    world.now.forward(minutes=1)
    assert [item.id for item in polled(world).to_collect] == ["x.raw"]


# -- a job that is followed -----------------------------------------------------------------------


def test_a_job_that_a_results_log_names_is_followed(world, engine, raw_file):
    leave(world, "log.txt", "begin\nSLURM_JOB_ID: 4711\nslurm_job_id: 12\n")
    engine.jobs["4711"] = JobReport(JobState.RUNNING)
    (job,) = submitted(world, output_exists_mode=OutputExistsMode.ASSOCIATE).submitted
    assert (job.cluster_job_id, stored(world).status) == ("4711", Status.QUANTING)
    polled(world)
    assert only_job(world).state is JobState.RUNNING
    engine.end("4711")
    assert work_until(world, FINAL).status is Status.DONE
    assert (engine.started, (output(world) / "log.txt").exists()) == ([], True)
    assert "submit" not in engine.calls


def test_a_job_that_is_followed_is_not_run_again_whatever_ends_it(world, engine, raw_file):
    leave(world, "log.txt", "slurm_job_id: 4711\n")
    engine.jobs["4711"] = JobReport(JobState.RUNNING)
    submitted(world, output_exists_mode=OutputExistsMode.ASSOCIATE)
    engine.end("4711", JobState.PREEMPTED)
    assert work_until(world, FINAL).status is Status.QUANTING_FAILED
    assert (output(world) / "log.txt").exists()
    assert "submit" not in engine.calls


@pytest.mark.parametrize(
    ("log", "told"),
    [
        ("no such line\n", "None"),
        ("slurm_job_id: 4711;touch pwned\n", "'4711;touch'"),
        ("slurm_job_id: --me\n", "'--me'"),
        ("slurm_job_id: ٤٧١١\n", "names no job to follow"),
        ("", "nothing in it, or no such file"),
    ],
)
def test_a_log_that_names_no_job_is_told(world, engine, raw_file, log, told):
    leave(world, "log.txt", log)
    with pytest.raises(OutputExists, match="names no job to follow"):
        submitted(world, output_exists_mode=OutputExistsMode.ASSOCIATE)
    assert (stored(world).status, stored(world).retry_at) == (Status.ERROR, None)
    assert told in (stored(world).status_details or "")
    assert (engine.calls, world.store.jobs.of("x.raw")) == ([], [])


def test_a_job_of_this_machine_can_not_be_followed(world, engine):
    backed_up(world, "bruker1", "x.d")
    path = output(world, "x.d", "msqc") / "log.txt"
    path.parent.mkdir(parents=True)
    path.write_text("slurm_job_id: 4711\n")
    with pytest.raises(OutputExists, match="no job of this machine writes it"):
        submitted(world, "x.d", output_exists_mode=OutputExistsMode.ASSOCIATE)
    assert world.store.jobs.of("x.d") == []


def test_where_no_result_is_there_is_nothing_to_follow(world, engine, raw_file):
    (job,) = submitted(world, output_exists_mode=OutputExistsMode.ASSOCIATE).submitted
    assert engine.names == [job.id]


# -- what is told of jobs -------------------------------------------------------------------------


def test_alphadias_own_error_codes_are_told(world, engine):
    custom_settings(
        world, "s", software_type="alphadia", software="alphadia-2", metrics_type="alphadia"
    )
    backed_up(world, "thermo1", "x.raw")
    submitted(world)
    lines = [{"name": "exception", "error_code": code} for code in ("NO_PSM_FOUND", "USER_ERROR")]
    events = "".join(json.dumps(line) + "\n" for line in lines)
    leave(world, "quant/x/events.jsonl", events, kind="alphadia")
    after = ends(world, engine, JobState.FAILED)
    assert after.status is Status.QUANTING_FAILED
    assert "[s] NO_PSM_FOUND, USER_ERROR: failed" in (after.status_details or "")
    assert only_job(world).error_codes == ["NO_PSM_FOUND", "USER_ERROR"]
    shown = reports.show(world, "x.raw")
    assert shown["jobs"][0]["error_codes"] == ["NO_PSM_FOUND", "USER_ERROR"]


def test_a_job_that_can_never_start_is_told_with_the_clusters_reason(world, engine, raw_file):
    submitted(world)
    engine.jobs["1"] = JobReport(JobState.WAITING, detail="PartitionTimeLimit")
    polled(world)
    assert board(world)["status"] == "warning"
    (wrong,) = [item for item in reports.status(world)["wrong"] if "engine" in item]
    assert "PartitionTimeLimit" in wrong
    assert only_job(world).id in wrong
    assert only_job(world).detail == "PartitionTimeLimit"
    engine.jobs["1"] = JobReport(JobState.WAITING)
    polled(world)
    assert (board(world)["status"], only_job(world).detail) == ("ok", None)
    assert not any("engine" in item for item in reports.status(world)["wrong"])


def test_what_a_job_used_is_filled_in_when_the_accounting_has_it(world, engine, raw_file):
    submitted(world)
    engine.end("1", started_at=world.now(), ended_at=world.now())
    polled(world)
    assert collect(world, "x.raw", run_id="c").raw_file.status is Status.DONE
    engine.used["1"] = replace(ENDED_WELL, state=JobState.RUNNING)
    polled(world)
    assert only_job(world).peak_memory_bytes is None
    engine.used["1"] = replace(ENDED_WELL, peak_memory_bytes=4711, node="n9")
    polled(world)
    assert (only_job(world).peak_memory_bytes, only_job(world).node) == (4711, "n9")
    assert only_job(world).state is JobState.SUCCEEDED
    engine.calls.clear()
    polled(world)
    assert engine.calls == []


def test_an_accounting_that_never_knows_is_not_asked_for_ever(world, engine, raw_file):
    submitted(world)
    engine.end("1", ended_at=world.now())
    for _ in range(4):
        polled(world)
        world.now.forward(minutes=1)
    assert engine.calls.count("usage") == 4
    for _ in range(3):
        polled(world)
        world.now.forward(minutes=1)
    assert engine.calls.count("usage") == 4
    assert only_job(world).peak_memory_bytes is None
