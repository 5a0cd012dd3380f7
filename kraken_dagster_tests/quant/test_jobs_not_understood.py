"""Jobs of which the engine says something that isn't understood, or nothing: none ends by that."""

from collections.abc import Mapping, Sequence

import pytest

from kraken_dagster.engines.job_script import EXIT_CODE_FILE
from kraken_dagster.engines.slurm_output import parse_squeue
from kraken_dagster.model.jobs.job import QuantJob
from kraken_dagster.model.jobs.report import JobReport, JobState
from kraken_dagster.model.raw_file import Status
from kraken_dagster.quant.collect import collect
from kraken_dagster.quant.jobs.poll import poll
from kraken_dagster.quant.submit import submit_jobs
from kraken_dagster.runtime.services import Services
from kraken_dagster_tests.support.fakes import MemoryEngine, custom_settings
from kraken_dagster_tests.support.helpers import backed_up, each

RUNNING_FOR_SACCT = JobReport(JobState.UNKNOWN, detail="sacct says RUNNING", accounted=True)
MISSING = JobReport(JobState.UNKNOWN, detail="neither squeue nor sacct know the job")


def listed(state: str) -> JobReport:
    """What squeue of a newer Slurm says."""
    return parse_squeue(f"7|{state}|0|None|2026-03-01T12:00:00|N/A|n1|\n")["7"]


class Telling(MemoryEngine):
    """An engine that says what it is told to say of every job."""

    def __init__(self) -> None:
        super().__init__()
        self.says = JobReport(JobState.RUNNING)

    def states(self, ids: Sequence[str]) -> Mapping[str, JobReport]:
        return dict.fromkeys(ids, self.says)


class Bench:
    def __init__(self, services: Services) -> None:
        self.services, self.engine = services, Telling()
        services.engines["local"] = self.engine
        custom_settings(services, "s", metrics_type="custom")
        backed_up(services, "thermo1", "a.raw")
        submit_jobs(services, "a.raw", run_id="q", slots=each(5), by_hand=False)

    @property
    def job(self) -> QuantJob:
        [job] = self.services.store.jobs.of("a.raw")
        return job

    def poll(self, says: JobReport, *, minutes: float = 1) -> QuantJob:
        self.engine.says = says
        self.services.now.forward(minutes=minutes)
        poll(self.services, slots=each(5))
        return self.job


@pytest.fixture
def bench(services: Services) -> Bench:
    return Bench(services)


@pytest.mark.parametrize("says", [listed("EXPEDITING"), listed("EXPED+"), RUNNING_FOR_SACCT])
def test_time_ends_no_job_that_somebody_lists(bench: Bench, says: JobReport) -> None:
    for minutes in (1, 11, 60, 60 * 24 * 7):
        job = bench.poll(says, minutes=minutes)
        assert (job.state, job.unknown_since) == (JobState.UNKNOWN, None)
    reported = collect(bench.services, "a.raw", run_id="c")
    assert reported.raw_file.status is Status.QUANTING
    assert reported.reason == f"{job.id} is unknown: {says.detail}"
    health = bench.services.store.health.engine("local") or {}
    assert f"is unknown: {says.detail}" in health["status_details"]
    assert bench.poll(JobReport(JobState.SUCCEEDED, 0)).state is JobState.SUCCEEDED


def test_the_time_in_which_a_job_was_listed_is_none_in_which_it_was_missing(bench: Bench) -> None:
    assert bench.poll(MISSING).unknown_since is not None
    assert bench.poll(listed("EXPEDITING"), minutes=9).unknown_since is None
    assert bench.poll(MISSING, minutes=60).state is JobState.UNKNOWN
    assert bench.poll(MISSING, minutes=9).state is JobState.UNKNOWN
    assert bench.poll(MISSING, minutes=1).state is JobState.FAILED


def test_an_exit_code_ends_a_job_that_only_the_accounting_has(bench: Bench) -> None:
    folder = bench.services.result_folder(bench.job)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / EXIT_CODE_FILE).write_text(f"0 7 {bench.job.id}\n")
    # One that is listed may run again, and what is in its folder be of the run before.
    assert bench.poll(listed("EXPEDITING")).state is JobState.UNKNOWN
    assert bench.poll(RUNNING_FOR_SACCT).state is JobState.SUCCEEDED


def test_another_state_that_is_not_known_is_told_too(bench: Bench) -> None:
    for state in ("EXPEDITING", "TELEPORTING"):
        assert bench.poll(listed(state)).told_state == f"unknown: {state}"
