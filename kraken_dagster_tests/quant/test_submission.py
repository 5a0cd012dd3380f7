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
from kraken_dagster.config.instruments import OutputExistsMode
from kraken_dagster.config.schema import KrakenConfig
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
from kraken_dagster.model.jobs.job import JobSpec, QuantJob
from kraken_dagster.model.jobs.report import JobReport, JobState
from kraken_dagster.model.raw_file import FINAL, RawFile, Status
from kraken_dagster.operations import file_report
from kraken_dagster.operations import report as reports
from kraken_dagster.operations.retry import retry
from kraken_dagster.quant.collect import collect
from kraken_dagster.quant.jobs.poll import Poll, poll
from kraken_dagster.quant.submit import QuantOutcome, submit_jobs
from kraken_dagster.runtime.services import Services
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
        self.reported: Callable[[JobSpec], None] = lambda spec: None
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
            self.reported(spec)
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


def dying(services: Services, calls: int) -> Services:
    """A world whose process dies right after the `calls`th call of MongoDB or of an engine."""
    store: Any = Stumbling(services.store, calls)
    engines: dict[str, Any] = {}
    for name, engine in services.engines.items():
        engines[name] = _DyingEngine(engine, 0)
        engines[name]._left = store._left
    return replace(services, store=store, engines=engines)


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
def services(make_services, on_cluster, engine) -> Services:
    services = make_services(on_cluster)
    return replace(services, engines={"cluster": engine, "local": MemoryEngine()})


@pytest.fixture
def raw_file(services) -> RawFile:
    """A backed up file with settings that say what their job may have."""
    resources = {"slurm_mem": "3G", "slurm_time": "01:00:00"}
    limits = {"slurm_max_mem": "8G", "slurm_max_time": "03:00:00"}
    custom_settings(services, "s", **resources, **limits)
    return backed_up(services, "thermo1", "x.raw")


def several(services: Services, count: int) -> list[str]:
    """The names of files that are backed up, oldest acquisition first."""
    names = [f"{number}.raw" for number in range(count)]
    begin = services.now() - timedelta(hours=5)
    for number, name in enumerate(names):
        moment = begin + timedelta(minutes=number)
        Bench(services, "thermo1").write(name, created_at=moment)
    finish(services, "thermo1")
    for name in names:
        back_up(services, name, run_id="backup", options=BackupOptions())
    return names


def submitted(
    services: Services, name: str = "x.raw", *, slots: int = 9, **options: Any
) -> QuantOutcome:
    given = {"run_id": "q", "slots": each(slots), "by_hand": False}
    return submit_jobs(services, name, **{**given, **options})


def asked(services: Services, name: str = "x.raw", **options: Any) -> QuantOutcome:
    """By a person, whom the engine's trouble doesn't keep from asking."""
    return submitted(services, name, by_hand=True, **options)


def polled(services: Services, slots: int = 9) -> Poll:
    return poll(services, slots=dict.fromkeys(services.config.engines, slots))


def work(services: Services, *, slots: int = 9, seconds: float = 16) -> None:
    """A tick some time later; what goes wrong with a file is the file's."""
    services.now.forward(seconds=seconds)
    with suppress(JobError, LeaseHeld):
        tick(services, slots=slots)


def work_until(
    services: Services, statuses: Iterable[Status], name: str = "x.raw", *, seconds: float = 16
) -> RawFile:
    for _ in range(40):
        found = services.store.raw_files.get(name)
        if found.status in set(statuses):
            return found
        work(services, seconds=seconds)
    raise AssertionError(f"{name} stays {found.status}: {found.status_details}")


def stored(services: Services, name: str = "x.raw") -> RawFile:
    return services.store.raw_files.get(name)


def only_job(services: Services, name: str = "x.raw") -> QuantJob:
    (found,) = services.store.jobs.of(name)
    return found


def health(services: Services) -> dict[str, Any]:
    found = services.store.health.engine("cluster")
    assert found is not None
    return found


def output(services: Services, name: str = "x.raw", kind: str = "custom") -> Path:
    root = services.config.locations.output.path
    return root / f"_FALLBACK/{stored(services, name).year_month}/out_{name}/{kind}"


def leave(services: Services, name: str, text: str, kind: str = "custom") -> None:
    """A file in the result's folder."""
    path = output(services, kind=kind) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def new_settings_version(services: Services) -> None:
    """Version 2 of the settings, in place of version 1."""
    unassign(services, "s")
    custom_settings(services, "s", version=2)


# -- handing a job over ---------------------------------------------------------------------------


def test_the_moment_of_the_try_is_in_mongodb_before_the_cluster_is_told(services, engine, raw_file):
    known: list[QuantJob] = []
    engine.reported = lambda spec: known.append(services.store.jobs.get(spec.name))
    submitted(services)
    assert [(item.state, item.tried_at) for item in known] == [(JobState.INTENDED, services.now())]
    assert (only_job(services).state, only_job(services).cluster_job_id) == (JobState.WAITING, "1")
    assert engine.calls == ["submit"]


@pytest.mark.parametrize("fate", [Fate.ANSWER_LOST, Fate.LATE, Fate.LOST])
def test_after_a_lost_answer_the_file_waits_with_the_reason(services, engine, raw_file, fate):
    engine.fates.append(fate)
    outcome = submitted(services)
    assert outcome.submitted == ()
    assert stored(services).status is Status.QUEUED_FOR_QUANTING
    assert stored(services).status_details == "the connection broke in mid-submission."
    assert (health(services)["status"], health(services)["failures"]) == ("error", 1)
    assert health(services)["ask_again_at"] == services.now() + timedelta(seconds=15)
    assert "the connection broke in mid-submission" in "".join(reports.status(services)["wrong"])
    assert only_job(services).state is JobState.INTENDED
    assert only_job(services).tried_at == services.now()
    assert only_job(services).cluster_job_id is None


def test_a_reason_that_stays_the_same_is_in_the_history_once(services, engine, raw_file):
    engine.fault = AWAY
    for _ in range(5):
        asked(services)
    reasons = [event["reason"] for event in stored(services).history]
    assert reasons.count(str(AWAY)) == 1


def test_a_cluster_that_stays_away_is_asked_less_and_less_often(services, engine, raw_file):
    engine.fault = AWAY
    submitted(services)
    waits = []
    for _ in range(8):
        waits.append((health(services)["ask_again_at"] - services.now()).total_seconds())
        services.now.time = health(services)["ask_again_at"]
        polled(services)
    assert waits == [15, 30, 60, 120, 240, 300, 300, 300]
    assert engine.calls == ["submit", *["check"] * 8]


def test_a_job_is_submitted_again_only_when_it_was_missing_for_long_enough(
    services, engine, raw_file
):
    engine.fates.append(Fate.LOST)
    submitted(services)
    for seconds in (20, 20, SETTLES_S - 21):  # missing since the first of these looks
        services.now.forward(seconds=seconds)
        assert "not clear yet" in asked(services).reason
    assert engine.calls.count("submit") == 1
    services.now.forward(seconds=1)
    assert asked(services).raw_file.status is Status.QUANTING
    assert (engine.calls.count("submit"), engine.names) == (2, [only_job(services).id])


def test_a_look_that_got_no_answer_is_none(services, engine, raw_file):
    engine.fates.append(Fate.LOST)
    submitted(services)
    engine.fault = AWAY
    for _ in range(3):
        services.now.forward(minutes=5)
        assert asked(services).reason == str(AWAY)
    engine.fault = None
    assert "not clear yet" in asked(services).reason
    assert engine.calls.count("submit") == 1


def test_every_try_is_looked_for_anew(services, engine, raw_file):
    engine.fates.extend([Fate.LOST, Fate.LATE])
    submitted(services)
    asked(services)
    services.now.forward(seconds=SETTLES_S)
    assert "connection broke" in asked(services).reason
    services.now.forward(seconds=1)
    assert "not clear yet" in asked(services).reason
    services.now.forward(seconds=LATE_S)
    assert asked(services).raw_file.status is Status.QUANTING
    assert engine.names == [only_job(services).id]


def test_a_job_that_turns_up_late_is_taken_for_what_it_is(services, engine, raw_file):
    engine.fates.append(Fate.LATE)
    submitted(services)
    assert "not clear yet" in asked(services).reason
    assert engine.started == []
    services.now.forward(seconds=LATE_S)
    outcome = asked(services)
    assert [item.cluster_job_id for item in outcome.submitted] == ["1"]
    engine.end_all()
    assert work_until(services, FINAL).status is Status.DONE
    assert engine.names == [only_job(services).id]


def test_a_job_that_the_cluster_has_forgotten_is_known_by_what_it_left(services, engine, raw_file):
    engine.fates.append(Fate.LOST)
    submitted(services)
    leave(services, "kraken.job_id", "4711 another-job\n")
    assert "not clear yet" in asked(services).reason
    leave(services, "kraken.job_id", f"4711 {only_job(services).id}\n")
    (found,) = asked(services).submitted
    assert (found.state, found.cluster_job_id) == (JobState.WAITING, "4711")
    assert engine.started == []


@pytest.mark.parametrize("refusal", [SubmitFailed("no such partition"), SettingsRefused("mem")])
def test_a_refused_job_is_taken_back_and_submitted_when_that_is_mended(
    services, engine, raw_file, refusal
):
    engine.refusal = refusal
    with pytest.raises(type(refusal)):
        submitted(services)
    assert (stored(services).status, stored(services).status_details) == (
        Status.ERROR,
        str(refusal),
    )
    assert (stored(services).retry_at is not None) == refusal.transient
    assert services.store.jobs.uncollected("cluster") == []
    assert services.store.health.engine("cluster") is None
    engine.refusal = None
    retry(services, "x.raw", asked_by="a person")
    work_until(services, {Status.QUANTING})
    assert engine.names == [only_job(services).id]


def test_a_refusal_after_which_the_cluster_goes_away_is_no_end(services, engine, raw_file):
    engine.refusal = SubmitFailed("no such partition")
    asks, engine.find = engine.find, MemoryEngine.find  # type: ignore[method-assign]

    def find(name: str) -> str | None:
        raise AWAY

    engine.find = find  # type: ignore[method-assign]
    assert submitted(services).reason == str(AWAY)
    assert stored(services).status is Status.QUEUED_FOR_QUANTING
    assert only_job(services).tried_at is not None
    engine.find, engine.refusal = asks, None  # type: ignore[method-assign]
    work_until(services, {Status.QUANTING})
    assert engine.names == [only_job(services).id]


@pytest.mark.parametrize("fate", list(Fate))
def test_a_process_may_die_at_any_moment_while_it_submits(services, engine, fate):
    custom_settings(services, "s")
    names = several(services, 24)
    for calls, name in enumerate(names):
        engine.fates = deque([fate])
        if survives(lambda: asked(dying(services, calls), name, slots=99)):  # noqa: B023
            break
    else:
        raise AssertionError("not one came through")
    engine.fates.clear()
    waiting = set(names)
    for _ in range(6):
        services.now.forward(seconds=20)
        for name in sorted(waiting):
            if asked(services, name, slots=99).raw_file.status is Status.QUANTING:
                waiting.remove(name)
    engine.end_all()
    services.now.forward(minutes=5)
    tick(services, slots=99)
    assert {stored(services, name).status for name in names} == {Status.DONE}
    assert sorted(engine.names) == sorted(only_job(services, name).id for name in names)
    assert services.store.jobs.uncollected("cluster") == []


@pytest.mark.parametrize("fate", list(Fate))
def test_every_process_may_die_while_it_submits_and_looks_again(services, engine, raw_file, fate):
    engine.fates.append(fate)
    for calls in range(60):
        services.now.forward(seconds=20)
        if survives(lambda: asked(dying(services, calls // 2))):  # noqa: B023
            break
    assert calls >= 10
    work_until(services, {Status.QUANTING})
    engine.end_all()
    assert work_until(services, FINAL).status is Status.DONE
    assert engine.names == [only_job(services).id]


# -- an engine in trouble -------------------------------------------------------------------------


def test_runs_of_the_sensors_leave_a_cluster_in_trouble_alone_and_a_person_asks_it(
    services, engine, raw_file
):
    engine.fault = AWAY
    submitted(services)
    engine.fault = None
    before = list(engine.calls)
    assert submitted(services).reason == str(AWAY)
    assert engine.calls == before
    assert asked(services).reason.startswith("whether it was submitted is not clear yet")
    assert engine.calls == [*before, "find"]
    services.now.forward(seconds=15)
    submitted(services)
    assert engine.calls == [*before, "find", "find"]


def test_nothing_is_requested_of_a_cluster_in_trouble_until_it_answers_again(
    services, engine, raw_file
):
    engine.fault = AWAY
    submitted(services)
    engine.calls.clear()
    found = polled(services)
    assert (found.to_submit, engine.calls) == ((), [])
    assert "slurmctld does not answer" in found.problems[0]
    services.now.forward(seconds=15)
    assert (polled(services).to_submit, engine.calls) == ((), ["check"])
    assert health(services)["failures"] == 2
    engine.fault = None
    services.now.forward(seconds=30)
    found = polled(services)
    assert [item.id for item in found.to_submit] == ["x.raw"]
    assert (found.problems, engine.calls) == ((), ["check", "check"])
    assert (health(services)["status"], health(services)["ask_again_at"]) == ("ok", None)
    assert not any("engine" in problem for problem in reports.status(services)["wrong"])


def test_a_cluster_with_open_jobs_that_goes_away_changes_no_job(services, engine, raw_file):
    submitted(services)
    polled(services)
    engine.fault = AWAY
    for _ in range(3):
        services.now.forward(hours=1)
        found = polled(services)
        assert (found.open_jobs, found.to_collect) == (1, ())
    assert only_job(services).state is JobState.RUNNING
    assert stored(services).status is Status.QUANTING
    engine.fault = None
    engine.end_all()
    assert work_until(services, FINAL, seconds=300).status is Status.DONE


def test_another_engine_goes_on_meanwhile(services, engine, raw_file):
    engine.fault = AWAY
    submitted(services)
    backed_up(services, "bruker1", "y.d")
    assert [item.settings_name for item in submitted(services, "y.d").submitted] == ["s", "rawqc"]
    assert stored(services, "y.d").status is Status.QUANTING


# -- slots ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_whatever_gets_lost_no_job_is_started_twice_and_the_slots_are_kept(services, engine, seed):
    dice = random.Random(seed)
    custom_settings(services, "s")
    names = several(services, 5)
    ends = [JobState.SUCCEEDED, JobState.PREEMPTED, JobState.NODE_FAILURE]
    for step in range(400):
        services.now.forward(seconds=dice.choice([5, 20, 40, 90]))
        calm = step > 60
        engine.fault = AWAY if dice.random() < 0.2 and not calm else None
        engine.fates = deque([Fate.ANSWERED if calm else dice.choice(list(Fate))])
        dies_after = dice.randrange(60) if dice.random() < 0.4 and not calm else 10_000
        survives(lambda: work(dying(services, dies_after), slots=2))  # noqa: B023
        assert len(engine.open) <= 2
        for job_id in engine.open:
            if dice.random() < 0.5:
                engine.end(job_id, JobState.SUCCEEDED if calm else dice.choice(ends))
        if {stored(services, name).status for name in names} <= {
            Status.DONE,
            Status.QUANTING_FAILED,
        }:
            break
    jobs = [item for name in names for item in services.store.jobs.of(name)]
    assert Counter(engine.names) == Counter(item.id for item in jobs)
    assert all(item.collected_at is not None for item in jobs)
    for name in names:
        last = services.store.jobs.of(name)[-1]
        ended_well = last.state is JobState.SUCCEEDED
        assert stored(services, name).status is (
            Status.DONE if ended_well else Status.QUANTING_FAILED
        )
        assert ended_well or last.resubmission == 3


def preempted_while_another_is_on_its_way(
    services: Services, engine: FakeCluster, fate: Fate
) -> None:
    """`0.raw` is preempted, and the answer to the submission of `1.raw` gets lost just then."""
    custom_settings(services, "s")
    several(services, 2)
    submitted(services, "0.raw", slots=1)
    engine.end("1", JobState.PREEMPTED)
    found = polled(services, slots=1)
    assert [item.id for item in found.to_collect] == ["0.raw"]
    engine.fates.append(fate)
    submitted(services, "1.raw", slots=1)
    collect(services, "0.raw", run_id="c")


@pytest.mark.parametrize("fate", [Fate.ANSWER_LOST, Fate.LATE, Fate.LOST])
def test_a_job_of_which_nobody_knows_keeps_its_slot_when_another_wants_it(services, engine, fate):
    preempted_while_another_is_on_its_way(services, engine, fate)
    for name in ("0.raw", "1.raw"):
        while stored(services, name).status is not Status.DONE:
            work(services, slots=1)
            assert len(engine.open) <= 1
            engine.end_all()
    assert len(engine.names) == len(set(engine.names)) == 3


@pytest.mark.parametrize("fate", [Fate.ANSWER_LOST, Fate.LATE, Fate.LOST])
def test_fewer_slots_do_not_make_a_job_on_its_way_forgotten(services, engine, raw_file, fate):
    engine.fates.append(fate)
    submitted(services, slots=1)
    for _ in range(3):
        asked(services, slots=0)
        assert stored(services).status in {Status.QUEUED_FOR_QUANTING, Status.QUANTING}
        services.now.forward(seconds=20)
    work_until(services, {Status.QUANTING})
    engine.end_all()
    assert work_until(services, FINAL).status is Status.DONE
    assert engine.names == [only_job(services).id]


def test_a_full_cluster_that_goes_away_leaves_the_files_queued(services, engine):
    preempted_while_another_is_on_its_way(services, engine, Fate.LOST)
    engine.fault = AWAY
    assert asked(services, "1.raw", slots=1).reason == str(AWAY)
    assert stored(services, "1.raw").status is Status.QUEUED_FOR_QUANTING


def test_jobs_that_are_run_again_get_the_next_slots_oldest_first(services, engine):
    custom_settings(services, "s")
    names = several(services, 5)
    for name in names[:3]:
        submitted(services, name, slots=3)
    for number in ("3", "1", "2"):
        services.now.forward(seconds=1)
        engine.end(number, JobState.PREEMPTED)
        for item in polled(services, slots=0).to_collect:
            collect(services, item.id, run_id="c")
    again = [f"{engine.names[number]}-r1" for number in (2, 0, 1)]
    for round_ in range(3):
        for _ in range(3):
            work(services, slots=1)
        assert engine.names[3:] == again[: round_ + 1]
        engine.end_all()
    for name in names:
        while stored(services, name).status is not Status.DONE:
            work(services, slots=1)
            engine.end_all()
    assert len(engine.names) == len(set(engine.names)) == 8


def test_no_run_is_requested_for_jobs_that_are_run_again_while_no_slot_is_free(services, engine):
    custom_settings(services, "s")
    several(services, 2)
    for name in ("0.raw", "1.raw"):
        submitted(services, name, slots=2)
    engine.end("1", JobState.PREEMPTED)
    for item in polled(services, slots=1).to_collect:
        collect(services, item.id, run_id="c")
    assert stored(services, "0.raw").status is Status.QUEUED_FOR_QUANTING
    assert polled(services, slots=1).to_submit == ()
    assert [item.id for item in polled(services, slots=2).to_submit] == ["0.raw"]
    engine.end("2")
    assert [item.id for item in polled(services, slots=1).to_submit] == ["0.raw"]


# -- no connection to the cluster -----------------------------------------------------------------


@pytest.fixture
def skipped(services, engine, raw_file) -> RawFile:
    """The file, after a run that was kept from asking the cluster."""
    outcome = submitted(services, no_cluster=True)
    assert outcome.submitted == ()
    return outcome.raw_file


def test_without_connections_jobs_are_recorded_as_skipped(services, engine, skipped):
    assert (skipped.status, only_job(services).state) == (Status.DONE_NOT_QUANTED, JobState.SKIPPED)
    assert "debug_no_cluster_ssh is set" in (skipped.status_details or "")
    assert only_job(services).command == [str(services.config.locations.software.path / "s")]
    found = polled(services)
    assert (found.open_jobs, found.to_collect, found.to_submit) == (0, (), ())
    services.now.forward(hours=1)
    assert polled(services).to_submit == ()
    assert engine.calls == []
    assert file_report.show(services, "x.raw")["jobs"][0]["state"] == "skipped"


def test_what_was_skipped_is_submitted_by_retry(services, engine, skipped):
    retry(services, "x.raw", asked_by="a person")
    work_until(services, {Status.QUANTING})
    engine.end_all()
    assert work_until(services, FINAL).status is Status.DONE
    skipped_job, job = services.store.jobs.of("x.raw")
    assert (skipped_job.attempt, job.attempt, engine.names) == (1, 2, [job.id])


def test_settings_that_change_while_a_retry_is_unclear_are_not_mixed_in(services, engine, skipped):
    retry(services, "x.raw", asked_by="a person")
    engine.fates.append(Fate.LOST)
    work(services)
    new_settings_version(services)
    work_until(services, {Status.QUANTING})
    engine.end_all()
    assert work_until(services, FINAL).status is Status.DONE
    assert [job.settings_version for job in services.store.jobs.of("x.raw")] == [1, 1]


def test_what_was_skipped_is_submitted_when_a_person_asks(services, engine, skipped):
    (job,) = asked(services).submitted
    assert (job.state, job.attempt, engine.names) == (JobState.WAITING, 2, [job.id])
    assert asked(services).submitted == ()


def test_without_connections_another_engine_is_used_as_ever(services, engine):
    backed_up(services, "bruker1", "y.d")
    outcome = submitted(services, "y.d", no_cluster=True)
    assert [item.state for item in outcome.submitted] == [JobState.WAITING]


def test_what_may_be_on_the_cluster_is_not_recorded_as_skipped(services, engine, raw_file):
    engine.fates.append(Fate.LATE)
    submitted(services)
    outcome = asked(services, no_cluster=True)
    assert outcome.raw_file.status is Status.QUEUED_FOR_QUANTING
    assert "may be on the cluster" in outcome.reason
    assert engine.calls == ["submit"]
    work_until(services, {Status.QUANTING})
    assert engine.names == [only_job(services).id]


def test_a_cluster_that_no_instrument_may_connect_to_is_not_asked(services, engine, raw_file):
    engine.fault = AWAY
    submitted(services)
    engine.calls.clear()
    services.now.forward(hours=1)
    options = services.config.options.model_copy(update={"debug_no_cluster_ssh": True})
    given = services.config.model_dump(exclude_unset=True)
    given["options"] = options.model_dump(exclude_unset=True)
    kept = replace(services, config=KrakenConfig.model_validate(given))
    assert [item.id for item in polled(kept).to_submit] == ["x.raw"]
    assert engine.calls == []
    polled(services)
    assert engine.calls == ["check"]


# -- jobs that are run again ----------------------------------------------------------------------


def ends(services: Services, engine: FakeCluster, state: JobState, **facts: Any) -> RawFile:
    """The latest job ends, and what follows from it is done, but for its next submission."""
    engine.end(str(len(engine.started)), state, **facts)
    found = polled(services)
    assert [item.id for item in found.to_collect] == ["x.raw"]
    return collect(services, "x.raw", run_id="c").raw_file


@pytest.mark.parametrize("state", [JobState.NODE_FAILURE, JobState.PREEMPTED])
def test_what_is_not_a_jobs_fault_is_run_again_three_times_at_most(
    services, engine, raw_file, state
):
    submitted(services)
    first = only_job(services)
    for number in (1, 2, 3):
        services.now.forward(seconds=1)
        after = ends(services, engine, state, node="n7")
        assert after.status is Status.QUEUED_FOR_QUANTING
        assert after.status_details == (
            f"submitted again: {first.id}-r{number} (try {number + 1}, after {state} on n7)"
        )
        assert [item.id for item in polled(services).to_submit] == ["x.raw"]
        (job,) = submitted(services).submitted
        assert (job.id, job.resubmission) == (f"{first.id}-r{number}", number)
        assert (job.resources, job.command) == (first.resources, first.command)
        assert stored(services).status is Status.QUANTING
    after = ends(services, engine, state, node="n7")
    assert after.status is Status.QUANTING_FAILED
    assert f"[s] {state}" in (after.status_details or "")
    assert "it was submitted again in vain" in (after.status_details or "")
    assert engine.names == [first.id, *(f"{first.id}-r{number}" for number in (1, 2, 3))]
    assert [event["to"] for event in stored(services).history][-8:] == [
        *["quanting", "queued_for_quanting"] * 3,
        *("quanting", "quanting_failed"),
    ]
    assert services.store.jobs.uncollected("cluster") == []


@pytest.mark.parametrize(
    "ran_out",
    [
        (JobState.OUT_OF_MEMORY, "mem", ["3G", "6G", "8G"]),
        (JobState.TIMEOUT, "time", ["01:00:00", "02:00:00", "03:00:00"]),
    ],
)
def test_what_ran_out_is_doubled_up_to_its_limit(services, engine, raw_file, ran_out):
    state, resource, asked_for = ran_out
    submitted(services)
    for _ in range(2):
        services.now.forward(seconds=1)
        assert ends(services, engine, state).status is Status.QUEUED_FOR_QUANTING
        submitted(services)
    assert ends(services, engine, state).status is Status.QUANTING_FAILED
    assert [getattr(spec.resources, resource) for spec in engine.started] == asked_for
    assert f"a slurm_max_{resource}" in (stored(services).status_details or "")


@pytest.mark.parametrize("state", [JobState.OUT_OF_MEMORY, JobState.TIMEOUT])
def test_without_a_limit_what_ran_out_is_a_failure(services, engine, state):
    custom_settings(services, "s", slurm_mem="3G", slurm_time="01:00:00")
    backed_up(services, "thermo1", "x.raw")
    submitted(services)
    after = ends(services, engine, state)
    assert (after.status, len(engine.started)) == (Status.QUANTING_FAILED, 1)
    assert f"[s] {state}" in (after.status_details or "")


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED])
def test_what_failed_or_was_cancelled_is_not_run_again(services, engine, raw_file, state):
    submitted(services)
    assert ends(services, engine, state).status is Status.QUANTING_FAILED
    assert polled(services).to_submit == ()
    assert len(engine.started) == 1


def test_the_result_of_the_last_try_counts_and_what_the_first_left_is_moved_aside(
    services, engine, raw_file
):
    submitted(services)
    leave(services, "half.txt", "from the first try")
    ends(services, engine, JobState.NODE_FAILURE)
    assert not any(output(services).glob("*"))
    aside = output(services).with_name("custom.1.alphakraken.bkp")
    assert (aside / "half.txt").read_text() == "from the first try"
    services.now.forward(seconds=1)
    submitted(services)
    engine.end_all()
    polled(services)
    outcome = collect(services, "x.raw", run_id="c")
    assert (outcome.raw_file.status, outcome.failures) == (Status.DONE, [])
    (result,) = services.store.metrics.of("x.raw")
    shown = file_report.show(services, "x.raw")
    first, second = shown["jobs"]
    assert (first["state"], second["state"]) == (JobState.NODE_FAILURE, JobState.SUCCEEDED)
    assert (first["resubmission"], second["resubmission"]) == (0, 1)
    assert result["provenance"]["job"] == second["_id"] == f"{first['_id']}-r1"
    assert shown["metrics"] == [{**result, "current": True}]
    assert all(item["collected_at"] is not None for item in shown["jobs"])


def test_of_two_jobs_only_the_one_that_was_preempted_is_run_again(services, engine, raw_file):
    custom_settings(services, "other", software_type="diann", metrics_type="custom")
    submitted(services)
    engine.end("1")
    ends(services, engine, JobState.PREEMPTED)
    submitted(services)
    engine.end_all()
    assert work_until(services, FINAL).status is Status.DONE
    kept, lost = sorted(engine.names[:2])
    assert engine.names[2:] in ([f"{kept}-r1"], [f"{lost}-r1"])
    assert len(services.store.metrics.of("x.raw")) == 2


def test_a_second_try_that_is_refused_stays_intended_and_goes_on_when_that_is_mended(
    services, engine, raw_file
):
    submitted(services)
    ends(services, engine, JobState.OUT_OF_MEMORY)
    engine.refusal = SubmitFailed("Requested node configuration is not available")
    with pytest.raises(SubmitFailed):
        submitted(services)
    assert stored(services).status is Status.ERROR
    _, again = services.store.jobs.of("x.raw")
    assert (again.state, again.tried_at) == (JobState.INTENDED, None)
    engine.refusal = None
    services.now.forward(minutes=2)
    work_until(services, {Status.QUANTING})
    assert engine.names[1:] == [again.id]
    assert engine.started[1].resources.mem == "6G"
    engine.end_all()
    assert work_until(services, FINAL).status is Status.DONE


def test_a_second_try_that_is_not_wanted_any_more_holds_no_slot(services, engine, raw_file):
    submitted(services)
    ends(services, engine, JobState.OUT_OF_MEMORY)
    engine.refusal = SubmitFailed("Requested node configuration is not available")
    with pytest.raises(SubmitFailed):
        submitted(services)
    engine.refusal = None
    new_settings_version(services)
    retry(services, "x.raw", asked_by="a person")
    work_until(services, {Status.QUANTING})
    assert engine.names[1].endswith("-s-v2-1")
    engine.end_all()
    assert work_until(services, FINAL).status is Status.DONE
    assert services.store.jobs.uncollected("cluster") == []
    assert len(engine.started) == 2


class _OddCluster(FakeCluster):
    """It fails in a way of which nobody has thought, after it was told."""

    def submit(self, spec: JobSpec, *, may_start: Callable[[], None] = lambda: None) -> str:
        try:
            return super().submit(spec, may_start=may_start)
        except AnswerLost as error:
            raise OSError("odd") from error


@pytest.fixture
def odd(services, clock) -> Services:
    return replace(services, engines={**services.engines, "cluster": _OddCluster(clock)})


@pytest.mark.parametrize("away", [False, True])
@pytest.mark.parametrize("fate", [Fate.ANSWER_LOST, Fate.LATE, Fate.LOST])
def test_a_job_on_its_way_that_is_not_wanted_any_more_holds_no_slot_for_ever(
    odd, raw_file, fate, away
):
    services, engine = odd, odd.engines["cluster"]
    engine.fates.append(fate)
    with pytest.raises(KrakenError, match="odd"):
        submitted(services)
    assert stored(services).status is Status.ERROR
    assert only_job(services).tried_at is not None
    new_settings_version(services)
    retry(services, "x.raw", asked_by="a person")
    engine.fault = AWAY if away else None
    work(services)
    engine.fault = None
    for _ in range(40):
        work(services)
        assert set(Counter(engine.names).values()) <= {1}
        engine.end_all()
        if stored(services).status is Status.DONE and not services.store.jobs.uncollected(
            "cluster"
        ):
            break
    assert stored(services).status is Status.DONE
    assert services.store.jobs.uncollected("cluster") == []
    assert sorted(engine.names) == sorted(item.id for item in services.store.jobs.of("x.raw"))
    assert len(engine.names) == (1 if fate is Fate.LOST else 2)


def run_again(services: Services, engine: FakeCluster, names: list[str]) -> None:
    """Each file's first job is preempted, each second one ends well; until nothing is due."""
    for _ in range(40):
        for job_id in engine.open:
            again = engine.names[int(job_id) - 1].endswith("-r1")
            engine.end(job_id, JobState.SUCCEEDED if again else JobState.PREEMPTED)
        work(services, slots=99)
        if {stored(services, name).status for name in names} == {Status.DONE}:
            return
    raise AssertionError("a file stands still")


def test_a_process_may_die_at_any_moment_while_a_job_is_run_again(services, engine):
    custom_settings(services, "s")
    names = several(services, 26)
    for name in names:
        submitted(services, name, slots=99)
    for calls, name in enumerate(names):
        engine.end(str(calls + 1), JobState.PREEMPTED)
        polled(services)

        def collected_and_submitted(name=name, calls=calls):
            dead = dying(services, calls)
            collect(dead, name, run_id="dies")
            submitted(dead, name, slots=99)

        if survives(collected_and_submitted):
            break
    else:
        raise AssertionError("not one came through")
    run_again(services, engine, names)
    jobs = [item for name in names for item in services.store.jobs.of(name)]
    assert Counter(engine.names) == Counter(item.id for item in jobs)
    assert [len(services.store.jobs.of(name)) for name in names] == [2] * len(names)
    assert all(len(services.store.metrics.of(name)) == 1 for name in names)
    assert services.store.jobs.uncollected("cluster") == []


def test_a_poll_may_die_at_any_moment_and_the_next_one_knows_what_has_ended(
    services, engine, raw_file
):
    submitted(services)
    engine.end_all()
    for calls in range(30):
        if survives(lambda: polled(dying(services, calls))):  # noqa: B023
            break
    assert calls >= 5
    assert [item.id for item in polled(services).to_collect] == ["x.raw"]


# -- jobs that nobody knows -----------------------------------------------------------------------


@pytest.fixture
def forgotten(services, engine, raw_file) -> QuantJob:
    """A job that ran, and that neither the controller nor the accounting know any more."""
    submitted(services)
    engine.jobs["1"] = JobReport(JobState.RUNNING, node="n1", started_at=services.now())
    polled(services)
    del engine.jobs["1"]
    return only_job(services)


@pytest.mark.parametrize(("code", "status"), [("0", Status.DONE), ("3", Status.QUANTING_FAILED)])
def test_the_exit_code_that_the_very_job_left_decides(services, engine, forgotten, code, status):
    leave(services, "kraken.exit_code", f"{code} 1 {forgotten.id}\n")
    services.now.forward(minutes=1)
    assert [item.id for item in polled(services).to_collect] == ["x.raw"]
    assert collect(services, "x.raw", run_id="c").raw_file.status is status
    job = only_job(services)
    assert (job.exit_code, job.node) == (int(code), "n1")
    assert (job.started_at, job.ended_at) == (forgotten.started_at, services.now())
    assert job.elapsed_s == 60


@pytest.mark.parametrize(
    "text", ["0 1 another-job\n", "", "0 1\n", "zero 1 {}\n", "-1 1 {}\n", "0 1 {} more\n"]
)
def test_an_exit_code_that_is_not_the_jobs_own_decides_nothing(services, engine, forgotten, text):
    leave(services, "kraken.exit_code", text.format(forgotten.id))
    assert polled(services).to_collect == ()
    assert only_job(services).state is JobState.UNKNOWN
    assert stored(services).status is Status.QUANTING


def test_an_exit_code_that_can_not_be_read_decides_nothing(services, engine, forgotten):
    (output(services) / "kraken.exit_code").mkdir(parents=True)
    assert polled(services).to_collect == ()
    services.now.forward(minutes=1)
    assert polled(services).to_collect == ()
    assert only_job(services).state is JobState.UNKNOWN


def test_a_job_that_nobody_knows_has_failed_after_ten_minutes(services, engine, forgotten):
    polled(services)
    services.now.forward(minutes=9)
    assert polled(services).to_collect == ()
    services.now.forward(minutes=1)
    assert [item.id for item in polled(services).to_collect] == ["x.raw"]
    after = collect(services, "x.raw", run_id="c").raw_file
    assert after.status is Status.QUANTING_FAILED
    assert "nobody knows the job" in (after.status_details or "")
    assert "left no exit code in its output folder" in (after.status_details or "")


def test_a_job_that_turns_up_again_goes_on(services, engine, forgotten):
    polled(services)
    services.now.forward(minutes=9)
    engine.jobs["1"] = JobReport(JobState.RUNNING)
    polled(services)
    assert (only_job(services).state, only_job(services).unknown_since) == (JobState.RUNNING, None)
    del engine.jobs["1"]
    for _ in range(2):
        services.now.forward(minutes=9)
        assert polled(services).to_collect == ()


def test_a_job_is_not_unknown_while_the_accounting_can_not_be_asked(services, engine, forgotten):
    engine.unasked.add("1")
    for _ in range(3):
        services.now.forward(hours=1)
        assert polled(services).to_collect == ()
    assert only_job(services).state is JobState.RUNNING
    engine.unasked.clear()
    assert polled(services).to_collect == ()
    assert only_job(services).state is JobState.UNKNOWN


@pytest.mark.parametrize("whole_cluster", [False, True])
def test_time_in_which_nobody_could_be_asked_does_not_count(
    services, engine, forgotten, whole_cluster
):
    polled(services)
    assert only_job(services).state is JobState.UNKNOWN
    if whole_cluster:
        engine.fault = AWAY
    else:
        engine.unasked.add("1")
    for _ in range(3):
        services.now.forward(hours=1)
        polled(services)
    engine.unasked.clear()
    engine.fault = None
    services.now.forward(hours=1)
    assert polled(services).to_collect == ()
    services.now.forward(minutes=9)
    assert polled(services).to_collect == ()
    services.now.forward(minutes=1)
    assert [item.id for item in polled(services).to_collect] == ["x.raw"]


# -- a job that is followed -----------------------------------------------------------------------


def test_a_job_that_a_results_log_names_is_followed(services, engine, raw_file):
    leave(services, "log.txt", "begin\nSLURM_JOB_ID: 4711\nslurm_job_id: 12\n")
    engine.jobs["4711"] = JobReport(JobState.RUNNING)
    (job,) = submitted(services, output_exists_mode=OutputExistsMode.ASSOCIATE).submitted
    assert (job.cluster_job_id, stored(services).status) == ("4711", Status.QUANTING)
    polled(services)
    assert only_job(services).state is JobState.RUNNING
    engine.end("4711")
    assert work_until(services, FINAL).status is Status.DONE
    assert (engine.started, (output(services) / "log.txt").exists()) == ([], True)
    assert "submit" not in engine.calls


def test_a_job_that_is_followed_is_not_run_again_whatever_ends_it(services, engine, raw_file):
    leave(services, "log.txt", "slurm_job_id: 4711\n")
    engine.jobs["4711"] = JobReport(JobState.RUNNING)
    submitted(services, output_exists_mode=OutputExistsMode.ASSOCIATE)
    engine.end("4711", JobState.PREEMPTED)
    assert work_until(services, FINAL).status is Status.QUANTING_FAILED
    assert (output(services) / "log.txt").exists()
    assert "submit" not in engine.calls


@pytest.mark.parametrize(
    ("log", "reported"),
    [
        ("no such line\n", "None"),
        ("slurm_job_id: 4711;touch pwned\n", "'4711;touch'"),
        ("slurm_job_id: --me\n", "'--me'"),
        ("slurm_job_id: ٤٧١١\n", "names no job to follow"),
        ("", "nothing in it, or no such file"),
    ],
)
def test_a_log_that_names_no_job_is_told(services, engine, raw_file, log, reported):
    leave(services, "log.txt", log)
    with pytest.raises(OutputExists, match="names no job to follow"):
        submitted(services, output_exists_mode=OutputExistsMode.ASSOCIATE)
    assert (stored(services).status, stored(services).retry_at) == (Status.ERROR, None)
    assert reported in (stored(services).status_details or "")
    assert (engine.calls, services.store.jobs.of("x.raw")) == ([], [])


def test_a_job_of_this_machine_can_not_be_followed(services, engine):
    backed_up(services, "bruker1", "x.d")
    path = output(services, "x.d", "msqc") / "log.txt"
    path.parent.mkdir(parents=True)
    path.write_text("slurm_job_id: 4711\n")
    with pytest.raises(OutputExists, match="no job of this machine writes it"):
        submitted(services, "x.d", output_exists_mode=OutputExistsMode.ASSOCIATE)
    assert services.store.jobs.of("x.d") == []


def test_where_no_result_is_there_is_nothing_to_follow(services, engine, raw_file):
    (job,) = submitted(services, output_exists_mode=OutputExistsMode.ASSOCIATE).submitted
    assert engine.names == [job.id]


# -- what is told of jobs -------------------------------------------------------------------------


def test_alphadias_own_error_codes_are_told(services, engine):
    custom_settings(
        services, "s", software_type="alphadia", software="alphadia-2", metrics_type="alphadia"
    )
    backed_up(services, "thermo1", "x.raw")
    submitted(services)
    lines = [{"name": "exception", "error_code": code} for code in ("NO_PSM_FOUND", "USER_ERROR")]
    events = "".join(json.dumps(line) + "\n" for line in lines)
    leave(services, "quant/x/events.jsonl", events, kind="alphadia")
    after = ends(services, engine, JobState.FAILED)
    assert after.status is Status.QUANTING_FAILED
    assert "[s] NO_PSM_FOUND, USER_ERROR: failed" in (after.status_details or "")
    assert only_job(services).error_codes == ["NO_PSM_FOUND", "USER_ERROR"]
    shown = file_report.show(services, "x.raw")
    assert shown["jobs"][0]["error_codes"] == ["NO_PSM_FOUND", "USER_ERROR"]


def test_a_job_that_can_never_start_is_told_with_the_clusters_reason(services, engine, raw_file):
    submitted(services)
    engine.jobs["1"] = JobReport(JobState.WAITING, detail="PartitionTimeLimit")
    polled(services)
    assert health(services)["status"] == "warning"
    (wrong,) = [item for item in reports.status(services)["wrong"] if "engine" in item]
    assert "PartitionTimeLimit" in wrong
    assert only_job(services).id in wrong
    assert only_job(services).detail == "PartitionTimeLimit"
    engine.jobs["1"] = JobReport(JobState.WAITING)
    polled(services)
    assert (health(services)["status"], only_job(services).detail) == ("ok", None)
    assert not any("engine" in item for item in reports.status(services)["wrong"])


def test_what_a_job_used_is_filled_in_when_the_accounting_has_it(services, engine, raw_file):
    submitted(services)
    engine.end("1", started_at=services.now(), ended_at=services.now())
    polled(services)
    assert collect(services, "x.raw", run_id="c").raw_file.status is Status.DONE
    engine.used["1"] = replace(ENDED_WELL, state=JobState.RUNNING)
    polled(services)
    assert only_job(services).peak_memory_bytes is None
    engine.used["1"] = replace(ENDED_WELL, peak_memory_bytes=4711, node="n9")
    polled(services)
    assert (only_job(services).peak_memory_bytes, only_job(services).node) == (4711, "n9")
    assert only_job(services).state is JobState.SUCCEEDED
    engine.calls.clear()
    polled(services)
    assert engine.calls == []


def test_an_accounting_that_never_knows_is_not_asked_for_ever(services, engine, raw_file):
    submitted(services)
    engine.end("1", ended_at=services.now())
    for _ in range(4):
        polled(services)
        services.now.forward(minutes=1)
    assert engine.calls.count("usage") == 4
    for _ in range(3):
        polled(services)
        services.now.forward(minutes=1)
    assert engine.calls.count("usage") == 4
    assert only_job(services).peak_memory_bytes is None
