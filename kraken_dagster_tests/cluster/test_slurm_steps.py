"""The steps on a real Slurm cluster: jobs that end badly, and a cluster that fails meanwhile."""

import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pytest

from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.errors import JobError
from kraken_dagster.model.jobs.job import QuantJob
from kraken_dagster.model.jobs.report import JobState
from kraken_dagster.model.raw_file import RawFile, Status
from kraken_dagster.operations import report as reports
from kraken_dagster.quant.jobs.poll import poll
from kraken_dagster.quant.submit import QuantOutcome, submit_jobs
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.connection import Store
from kraken_dagster_tests.cluster.slurm_cluster import Cluster, processes
from kraken_dagster_tests.cluster.slurm_fixtures import NEEDS_SLURM, Ahead, services_on
from kraken_dagster_tests.support.fakes import custom_settings
from kraken_dagster_tests.support.helpers import acquire, each, finish, tick, wait_until

pytestmark = NEEDS_SLURM
PATIENCE_S = 180
# Files whose names say so fail, or don't end by themselves; but each does at its second try.
PROGRAM = """
echo "trying $RAW_FILE_ID as $SLURM_JOB_NAME"
case "$SLURM_JOB_NAME:$RAW_FILE_ID" in
*-r1:*) ;;
*:fails*) echo 'last words'; exit 7 ;;
*:stays*) echo half > half.txt; exec sleep 600 ;;
*:gated*) until [ -e "$SETTINGS_PATH.gate" ]; do sleep 0.2; done ;;
esac
printf 'ms1_scans\\tms2_scans\\n%s\\t5\\n' "$(wc -c < "$RAW_FILE_PATH")" \\
  > "$OUTPUT_PATH/msqc_results.tsv"
"""


@pytest.fixture
def services(
    config: KrakenConfig, store: Store, cluster: Cluster, cluster_folder: Path
) -> Services:
    """The instruments, with the cluster as their engine, and settings for their files."""
    services = services_on(cluster, cluster_folder, config, store, Ahead(), timeout_s=5)
    resources = {"slurm_cpus_per_task": 1, "slurm_mem": "20M", "slurm_time": "01:00:00"}
    custom_settings(
        services, "metrics", PROGRAM, metrics_type="msqc", slurm_max_time="01:30:00", **resources
    )
    return services


def backed_up(services: Services, *names: str) -> None:
    """Files that were acquired, watched and backed up, before now."""
    for name in names:
        acquire(services, "thermo1", name, size_bytes=5000)
    finish(services, "thermo1")
    for name in names:
        back_up(services, name, run_id="backup", options=BackupOptions())
    services.now.is_real_now()  # type: ignore[attr-defined]


def submitted(services: Services, name: str) -> QuantOutcome:
    return submit_jobs(services, name, run_id="q", slots=each(9), by_hand=False)


def stored(services: Services, name: str) -> RawFile:
    return services.store.raw_files.get(name)


def only_job(services: Services, name: str) -> QuantJob:
    (found,) = services.store.jobs.of(name)
    return found


def cluster_id(services: Services, name: str) -> str:
    found = only_job(services, name).cluster_job_id
    assert found is not None
    return found


def open_gate(services: Services) -> None:
    settings = services.config.locations.settings
    assert settings is not None
    (settings.path / "metrics.gate").touch()


def work(services: Services) -> None:
    """A tick at a time at which no engine is left alone any more."""
    found = services.store.health.engine("cluster") or {}
    wait = (found.get("ask_again_at") or services.now()) - services.now()
    services.now.forward(seconds=max(0, wait.total_seconds()))  # type: ignore[attr-defined]
    with suppress(JobError):
        tick(services, slots=9)


def work_until(services: Services, names: Iterable[str], *statuses: Status) -> None:
    def there() -> bool:
        if all(stored(services, name).status in statuses for name in names):
            return True
        work(services)
        return False

    wait_until(there, f"{names} are {statuses}", timeout_s=PATIENCE_S, every_s=0.3)


def assert_done_once(services: Services, cluster: Cluster, *names: str) -> None:
    """Each file has its metrics, of a job that the cluster had once."""
    for name in names:
        assert (stored(services, name).status, stored(services, name).status_details) == (
            Status.DONE,
            None,
        )
        for job in services.store.jobs.of(name):
            assert cluster.jobs_by_name(job.id) == [job.cluster_job_id]
        (result,) = services.store.metrics.of(name)
        assert (result["ms1_scans"], result["ms2_scans"]) == (5000, 5)
        assert result["provenance"]["node"] == cluster.node


def sbatch_is_under_way(name: str) -> bool:
    def command(pid: int) -> bytes:
        with suppress(OSError):
            return Path(f"/proc/{pid}/cmdline").read_bytes()
        return b""

    known = f"--job-name={name}".encode()
    return any(item.name == "sbatch" and known in command(item.pid) for item in processes())


def waits_after_a_lost_answer(services: Services, name: str) -> None:
    """The file was submitted, and nobody knows what became of that."""
    assert stored(services, name).status is Status.QUEUED_FOR_QUANTING
    job = only_job(services, name)
    assert (job.state, job.cluster_job_id) == (JobState.INTENDED, None)
    assert job.tried_at is not None
    known = services.store.health.engine("cluster")
    assert known is not None
    assert known["status"] == "error"


def test_every_end_is_told_and_what_is_not_a_jobs_fault_is_run_again(
    services: Services, cluster: Cluster
) -> None:
    names = ("good.raw", "fails.raw", "stays_cancelled.raw", "stays_long.raw", "stays_lost.raw")
    good, fails, cancelled, long, lost = names
    backed_up(services, *names)
    for name in names:
        assert len(submitted(services, name).submitted) == 1
    for name in (cancelled, long, lost):
        left = services.result_folder(only_job(services, name)) / "half.txt"
        wait_until(left.exists, f"the job of {name} runs", timeout_s=PATIENCE_S)
    cluster.as_root("scancel", cluster_id(services, cancelled))
    cluster.end_now(cluster_id(services, long))
    for name in (good, fails, cancelled):  # all that there is to lose is `lost`
        cluster.wait_for(cluster_id(services, name), "COMPLETED", "FAILED", "CANCELLED")
    cluster.lose_node()
    poll(services, slots={"cluster": 9})
    states = {name: only_job(services, name).state for name in names}
    assert states == {
        good: JobState.SUCCEEDED,
        fails: JobState.FAILED,
        cancelled: JobState.CANCELLED,
        long: JobState.TIMEOUT,
        lost: JobState.NODE_FAILURE,
    }
    cluster.restore_node()
    work_until(services, names, Status.DONE, Status.QUANTING_FAILED)
    assert_done_once(services, cluster, good, long, lost)
    assert stored(services, fails).status is Status.QUANTING_FAILED
    reported = stored(services, fails).status_details or ""
    assert reported.startswith("error while processing: [metrics] failed with exit code 7: FAILED")
    assert reported.endswith("its log ends with 'last words'")
    assert stored(services, cancelled).status is Status.QUANTING_FAILED
    reported = stored(services, cancelled).status_details or ""
    assert reported.startswith("error while processing: [metrics] cancelled")
    assert "Next: find out who cancelled it" in reported
    assert [len(services.store.jobs.of(name)) for name in names] == [1, 1, 1, 2, 2]
    for name, time in ((long, "01:30:00"), (lost, "01:00:00")):
        _, again = services.store.jobs.of(name)
        assert again.resources.time == time
        assert any(
            f"submitted again: {again.id} (" in (event["reason"] or "")
            for event in stored(services, name).history
        )
        folder = services.result_folder(again)
        aside = folder.with_name(f"{folder.name}.1.alphakraken.bkp")
        assert (aside / "half.txt").read_text() == "half\n"
        assert not (folder / "half.txt").exists()
    assert services.store.jobs.uncollected("cluster") == []


def test_a_controller_that_hangs_in_mid_submission_gets_the_job_once(
    services: Services, cluster: Cluster
) -> None:
    backed_up(services, "x.raw")
    cluster.pause_controller()
    assert submitted(services, "x.raw").submitted == ()
    waits_after_a_lost_answer(services, "x.raw")
    cluster.resume_controller()
    work_until(services, ["x.raw"], Status.DONE)
    assert_done_once(services, cluster, "x.raw")


def test_a_controller_that_is_down_loses_no_job_and_gets_none_twice(
    services: Services, cluster: Cluster
) -> None:
    backed_up(services, "gated.raw", "x.raw")
    submitted(services, "gated.raw")
    cluster.wait_for(cluster_id(services, "gated.raw"), "RUNNING")
    poll(services, slots={"cluster": 9})
    cluster.kill_controller()
    assert submitted(services, "x.raw").submitted == ()
    waits_after_a_lost_answer(services, "x.raw")
    work(services)
    assert only_job(services, "gated.raw").state is JobState.RUNNING
    assert stored(services, "gated.raw").status is Status.QUANTING
    waits_after_a_lost_answer(services, "x.raw")
    cluster.start_controller()
    open_gate(services)
    work(services)  # the first look that finds nothing
    assert only_job(services, "x.raw").cluster_job_id is None
    services.now.forward(seconds=30)  # type: ignore[attr-defined]
    work_until(services, ["gated.raw", "x.raw"], Status.DONE)
    assert_done_once(services, cluster, "gated.raw", "x.raw")


def test_a_connection_that_is_cut_in_mid_submission_costs_no_second_job(
    services: Services, cluster: Cluster
) -> None:
    backed_up(services, "x.raw")
    outcomes: list[QuantOutcome] = []
    cluster.pause_controller()
    run = threading.Thread(target=lambda: outcomes.append(submitted(services, "x.raw")))
    run.start()
    try:

        def under_way() -> bool:
            jobs = services.store.jobs.of("x.raw")
            return not run.is_alive() or any(sbatch_is_under_way(job.id) for job in jobs)

        wait_until(under_way, "sbatch waits for its answer", timeout_s=PATIENCE_S, every_s=0.01)
        cluster.kill_sshd_sessions()
    finally:
        run.join(timeout=PATIENCE_S)
    assert [outcome.submitted for outcome in outcomes] == [()]
    waits_after_a_lost_answer(services, "x.raw")
    cluster.resume_controller()
    work_until(services, ["x.raw"], Status.DONE)
    assert_done_once(services, cluster, "x.raw")


def test_a_job_that_the_controller_forgot_while_the_accounting_was_away_is_not_lost(
    services: Services, cluster: Cluster
) -> None:
    if not cluster.has_accounting:
        pytest.skip("a cluster without accounting")
    backed_up(services, "x.raw")
    submitted(services, "x.raw")
    cluster.wait_for(cluster_id(services, "x.raw"), "COMPLETED")
    cluster.stop_accounting()
    cluster.purge_from_controller(cluster_id(services, "x.raw"))
    for _ in range(2):
        services.now.forward(minutes=20)  # type: ignore[attr-defined]
        found = poll(services, slots={"cluster": 9})
        assert (found.open_jobs, found.to_collect) == (1, ())
        assert only_job(services, "x.raw").state is JobState.WAITING
        assert stored(services, "x.raw").status is Status.QUANTING
    cluster.start_accounting()
    work_until(services, ["x.raw"], Status.DONE)
    assert_done_once(services, cluster, "x.raw")
    assert only_job(services, "x.raw").exit_code == 0


def test_a_job_that_can_never_start_is_told_with_the_clusters_reason(
    services: Services, cluster: Cluster
) -> None:
    custom_settings(
        services,
        "too_long",
        software_type="diann",
        slurm_partition="short",
        slurm_time="01:00:00",
    )
    backed_up(services, "gated.raw")
    assert len(submitted(services, "gated.raw").submitted) == 2

    def reported() -> bool:
        poll(services, slots={"cluster": 9})
        known = services.store.health.engine("cluster") or {}
        return known["status"] == "warning"

    wait_until(reported, "the engine is in want of a person", timeout_s=PATIENCE_S, every_s=0.3)
    (wrong,) = [item for item in reports.status(services)["wrong"] if "engine" in item]
    assert "waits for Partition" in wrong  # of its limits, or of its configuration
    assert "-too_long-v1-1" in wrong
    assert stored(services, "gated.raw").status is Status.QUANTING
