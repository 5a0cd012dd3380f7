"""Several code locations on one MongoDB: who asks the cluster, and whose job is whose."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.engines.local import LocalJobs
from kraken_dagster.fs.processes.pid_namespace import pid_namespace
from kraken_dagster.model.errors import SchedulerAway
from kraken_dagster.model.jobs.job import JobSpec
from kraken_dagster.model.jobs.report import JobReport, JobState
from kraken_dagster.model.raw_file import Status
from kraken_dagster.monitoring.code_locations import code_locations, sign_of_life
from kraken_dagster.operations import report as reports
from kraken_dagster.operations.retry import retry
from kraken_dagster.quant.jobs.poll import Poll, poll
from kraken_dagster.quant.jobs.whose_turn import turn_of
from kraken_dagster.quant.submit import submit_jobs
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.instances import Instance
from kraken_dagster_tests.support.fakes import MemoryEngine, custom_settings
from kraken_dagster_tests.support.helpers import backed_up, each

# Waits for the file `gate` in its output folder, for a minute at most.
WAITING = "for i in $(seq 1200); do [ -e gate ] && exit 0; sleep 0.05; done; exit 99"


class Cluster(MemoryEngine):
    """Counts its questions; `fault` is the way to it of one host only."""

    def __init__(self, shared: "Cluster | None" = None) -> None:
        super().__init__()
        self.asked = 0
        self.away = False
        if shared is not None:
            self.started, self.open = shared.started, shared.open

    def states(self, ids: Sequence[str]) -> dict[str, JobReport]:
        self.check()
        self.asked += bool(ids)
        return super().states(ids)

    def check(self) -> None:
        if self.away:
            raise SchedulerAway("no way to it")


@pytest.fixture
def shared(config: KrakenConfig) -> KrakenConfig:
    given = config.model_dump(exclude_unset=True)
    given["engines"] = {"cluster": {"type": "slurm", "host": "h", "user": "u"}, "local": {}}
    given["engines"]["local"] = {"type": "local"}
    given["defaults"] = {"engine": "cluster"}
    return KrakenConfig.model_validate(given)


@pytest.fixture
def hosts(make_services, shared) -> tuple[Services, Services]:
    """One that serves thermo1, and one that serves the others; each has a way to one cluster."""
    whole = make_services(shared)
    custom_settings(whole, "s", metrics_type="custom")
    first = Cluster()
    engines = [{"cluster": first}, {"cluster": Cluster(first)}]
    served = [{"thermo1"}, {"bruker1", "sciex1"}]
    one, two = (
        replace(
            whole,
            config=whole.config.only(names, location=f"host_{number}"),
            engines={**given, "local": LocalJobs(shared.home / f"jobs{number}")},
        )
        for number, (names, given) in enumerate(zip(served, engines, strict=True), 1)
    )
    return one, two


def tick(services: Services) -> Poll:
    services.now.forward(seconds=20)
    return poll(services, slots=dict.fromkeys(services.config.engines, 9))


def asked(*hosts: Services) -> list[int]:
    return [host.engines["cluster"].asked for host in hosts]


def submitted(services: Services, instrument_id: str, name: str) -> None:
    backed_up(services, instrument_id, name)
    submit_jobs(services, name, run_id="q", slots=each(9), by_hand=False)


def test_one_location_asks_the_cluster_for_all_and_the_others_read_what_it_found(hosts):
    one, two = hosts
    submitted(one, "thermo1", "x.raw")
    submitted(two, "bruker1", "y.d")
    for _ in range(5):
        tick(one), tick(two)
    assert asked(one, two) == [5, 0]
    assert turn_of(two, "cluster") == "host_1"
    one.engines["cluster"].open.clear()
    assert [item.id for item in tick(one).to_collect] == ["x.raw"]
    assert [item.id for item in tick(two).to_collect] == ["y.d"]
    assert asked(one, two) == [6, 0]


def test_who_gets_no_answer_gives_up_its_turn_after_one_failure(hosts):
    one, two = hosts
    submitted(one, "thermo1", "x.raw")
    submitted(two, "bruker1", "y.d")
    tick(one)
    one.engines["cluster"].away = True
    assert "no way to it" in tick(one).problems[0]
    tick(two)
    assert (asked(two), turn_of(one, "cluster")) == ([1], "host_2")
    health = two.store.health.engine("cluster")
    assert health["status"] == "warning"
    assert "the code location 'host_1' can't ask it: no way to it" in health["status_details"]
    for _ in range(5):
        tick(one), tick(two)
    assert asked(one, two) == [1, 6]
    two.engines["cluster"].away = True
    one.engines["cluster"].away = False
    one.now.forward(minutes=5)
    tick(two), tick(one)
    assert asked(one, two) == [2, 6]
    one.now.forward(minutes=20)
    tick(one)
    assert one.store.health.engine("cluster")["status"] == "ok"


def test_the_turn_of_a_location_that_is_gone_passes_on(hosts):
    one, two = hosts
    submitted(two, "bruker1", "y.d")
    tick(one)
    two.now.forward(minutes=5)
    tick(two)
    assert asked(one, two) == [1, 1]


def local(services: Services, script: str, instrument_id: str, name: str) -> str:
    """A job of this machine; its id."""
    custom_settings(services, "here", script, software_type="skyline", job_engine="local")
    backed_up(services, instrument_id, name)
    submit_jobs(services, name, run_id="q", slots=each(9), by_hand=False)
    return next(job.id for job in services.store.jobs.of(name) if job.engine == "local")


def state(services: Services, job: str) -> JobState:
    return services.store.jobs.get(job).state


def test_a_job_of_another_location_is_never_judged_from_here(hosts):
    one, two = hosts
    job = local(one, WAITING, "thermo1", "x.raw")
    assert one.store.jobs.get(job).location == "host_1"
    for _ in range(3):
        tick(two)
        two.now.forward(minutes=11)
    assert state(two, job) is JobState.WAITING
    tick(one)
    assert state(one, job) is JobState.RUNNING
    moved = replace(two, config=one.config.whole.only({"thermo1"}, location="host_2"))
    tick(moved)
    assert state(moved, job) is JobState.RUNNING
    one.engines["local"].cancel(job)
    tick(one)
    assert state(one, job) is JobState.CANCELLED
    assert [item.id for item in tick(moved).to_collect] == ["x.raw"]


_IN_ANOTHER_NAMESPACE = """
import sys
from pathlib import Path
from kraken_dagster.engines.local import LocalJobs
from kraken_dagster.model.jobs.job import JobSpec
LocalJobs(Path(sys.argv[1])).submit(JobSpec("job", ("/bin/sleep", "600"), {}, sys.argv[2]))
"""


def test_jobs_of_a_container_that_was_started_anew_are_dead_and_run_again(tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    container = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    words = [sys.executable, "-c", _IN_ANOTHER_NAMESPACE, str(folder), str(tmp_path / "output")]
    subprocess.run([*container, *words], check=True, timeout=60)  # its end ends the job
    report = LocalJobs(folder).states(["job"])["job"]
    assert report.state is JobState.NODE_FAILURE
    assert "was started anew" in str(report.detail)
    LocalJobs(folder).cancel("job")


def test_a_job_of_an_older_kraken_or_of_this_boot_is_judged_as_ever(tmp_path: Path) -> None:
    jobs = LocalJobs(tmp_path / "jobs")
    jobs.submit(JobSpec("job", ("/bin/sleep", "600"), {}, str(tmp_path / "output")))
    place = tmp_path / "jobs" / "job" / "namespace"
    assert place.read_text() == pid_namespace()
    assert jobs.states(["job"])["job"].state is JobState.RUNNING
    place.unlink()
    assert jobs.states(["job"])["job"].state is JobState.RUNNING
    jobs.cancel("job")
    assert jobs.states(["job"])["job"].state is JobState.CANCELLED


def test_a_job_of_a_location_that_never_comes_back_is_given_up_when_a_person_says_so(hosts):
    one, two = hosts
    sign_of_life(one, interval_s=20, environment={})
    job = local(one, WAITING, "thermo1", "x.raw")
    moved = replace(two, config=one.config.whole.only({"thermo1"}, location="host_2"))
    one.engines["local"].cancel(job)
    one.engines["cluster"].open.clear()
    tick(moved)
    moved.now.forward(minutes=30)
    [told] = [item["told"] for item in code_locations(moved) if item["location"] == "host_1"]
    assert "'host_1' on" in told
    assert "is silent since" in told
    assert told in reports.status(moved)["wrong"]
    assert retry(moved, "x.raw", asked_by="me")[0].status is Status.QUEUED_FOR_QUANTING
    assert "'host_1' is silent" in str(moved.store.jobs.get(job).detail)


def test_of_two_locations_under_one_name_the_second_waits_until_the_first_is_silent(hosts):
    one, two = hosts
    assert sign_of_life(one, interval_s=30, environment={}) is None
    assert sign_of_life(one, interval_s=30, environment={}) is None
    name = Instance.location_name("host_1")
    known = one.store.instances.get(name)
    one.store.instances.seen(known.model_copy(update={"namespace": "of another container"}))
    refusal = sign_of_life(one, interval_s=30, environment={})
    assert "'host_1' gave a sign of life from another process space" in refusal
    assert one.store.instances.get(name).namespace == "of another container"
    assert sign_of_life(two, interval_s=30, environment={}) is None
    one.now.forward(seconds=91)
    assert sign_of_life(one, interval_s=30, environment={}) is None
    assert {item["location"]: item["lives"] for item in code_locations(two)} == {
        "host_1": True,
        "host_2": False,
    }
