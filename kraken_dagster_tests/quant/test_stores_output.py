"""The output away, full or unreadable when jobs are submitted or results are collected.

A job that succeeded never becomes one that failed by that, and no search is run twice. The mounts
are real.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from kraken_dagster.fs.stores.marker import MARKER_NAME, Role
from kraken_dagster.model.errors import InputMissing, StoreAway
from kraken_dagster.model.jobs.report import JobState
from kraken_dagster.model.raw_file import Status
from kraken_dagster.monitoring.disk_usage import measure_file_systems
from kraken_dagster.operations.retry import retry
from kraken_dagster.quant.collect import collect, results_of
from kraken_dagster.quant.jobs.poll import poll
from kraken_dagster.quant.submit import submit_jobs
from kraken_dagster.runtime.stores import root_of
from kraken_dagster_tests.file_systems.test_stores import empty_mount
from kraken_dagster_tests.support.fakes import custom_settings
from kraken_dagster_tests.support.helpers import (
    backed_up,
    each,
    tick_until_idle,
    wait_for_jobs,
    wait_until,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
NAME = "a.raw"
PROGRAM = """
echo run >> "$0.runs"
printf 'ms1_scans\\n5\\n' > "$OUTPUT_PATH/msqc_results.tsv"
"""


class Output:
    def __init__(self, point: Path, disk: Path) -> None:
        self.point, self.disk, self.mounted = point, disk, False
        disk.mkdir()
        shutil.move(point / MARKER_NAME, disk)
        self.mount()

    def mount(self) -> None:
        subprocess.run(["mount", "--bind", self.disk, self.point], check=True)
        self.mounted = True

    def unmount(self) -> None:
        if self.mounted:
            subprocess.run(["umount", "-l", self.point], check=True)
        self.mounted = False


@pytest.fixture
def output(services, tmp_path) -> Iterator[Output]:
    found = Output(root_of(services, Role.OUTPUT), tmp_path / "disk")
    try:
        yield found
    finally:
        found.unmount()
    assert list(found.point.rglob("*")) == []


@pytest.fixture
def program(services) -> Path:
    custom_settings(services, "search", PROGRAM, metrics_type="msqc")
    assert services.config.locations.software is not None
    return services.config.locations.software.path / "search.runs"


def runs(program: Path) -> int:
    return program.read_text().count("run") if program.exists() else 0


def submitted(services) -> None:
    backed_up(services, "thermo1", NAME)
    submit_jobs(services, NAME, run_id="q", slots=each(5), by_hand=False)
    wait_for_jobs(services)


def polled(services):
    return poll(services, slots=each(5))


def status(services):
    return services.store.raw_files.get(NAME)


def test_a_result_is_collected_once_the_output_is_back(services, output, program):
    submitted(services)
    output.unmount()
    found = polled(services)
    assert found.to_collect == ()
    (reported,) = found.problems
    assert "output store is away" in reported
    before = status(services)
    for step in (lambda: collect(services, NAME, run_id="c"), lambda: results_of(services, NAME)):
        with pytest.raises(StoreAway):
            step()
    after = status(services)
    assert (after.status, after.failures, after.retry_at) == (Status.QUANTING, 0, None)
    assert after.history == before.history
    output.mount()
    tick_until_idle(services)
    assert status(services).status is Status.DONE
    assert services.store.metrics.of(NAME)[0]["ms1_scans"] == 5
    assert runs(program) == 1


def test_an_output_whose_folder_is_gone_is_away_too(services, program):
    submitted(services)
    root = root_of(services, Role.OUTPUT)
    root.rename(root.with_name("elsewhere"))
    with pytest.raises(StoreAway):
        collect(services, NAME, run_id="c")
    root.with_name("elsewhere").rename(root)
    tick_until_idle(services)
    assert (status(services).status, runs(program)) == (Status.DONE, 1)


def test_nothing_is_submitted_while_the_output_is_away(services, output, program):
    backed_up(services, "thermo1", NAME)
    output.unmount()
    for _ in range(3):
        services.now.forward(minutes=31)
        with suppress(StoreAway):
            submit_jobs(services, NAME, run_id="q", slots=each(5), by_hand=False)
        assert polled(services).to_submit == ()
    assert status(services).status in (Status.COPYING_DONE, Status.QUEUED_FOR_QUANTING)
    assert services.store.jobs.of(NAME) == []
    output.mount()
    tick_until_idle(services)
    assert (status(services).status, runs(program)) == (Status.DONE, 1)


def test_nothing_is_submitted_while_the_backup_is_away(services, program):
    backed_up(services, "thermo1", NAME)
    root = root_of(services, Role.BACKUP)
    root.rename(root.with_name("elsewhere"))
    with suppress(StoreAway):
        submit_jobs(services, NAME, run_id="q", slots=each(5), by_hand=False)
    found = polled(services)
    assert found.to_submit == ()
    assert all("backup store is away" in reported for reported in found.problems)
    assert all(job.tried_at is None for job in services.store.jobs.of(NAME))
    assert runs(program) == 0
    root.with_name("elsewhere").rename(root)
    tick_until_idle(services)
    assert (status(services).status, runs(program)) == (Status.DONE, 1)


def test_a_retry_takes_the_result_that_stands_there(services, output, program):
    """As after an older version, which called such a job failed."""
    submitted(services)
    (result,) = output.disk.rglob("msqc_results.tsv")
    result.rename(result.with_name("hidden"))
    polled(services)
    collect(services, NAME, run_id="c")
    assert status(services).status is Status.QUANTING_FAILED
    result.with_name("hidden").rename(result)
    retry(services, NAME, asked_by="me")
    tick_until_idle(services)
    assert (status(services).status, runs(program)) == (Status.DONE, 1)
    latest = services.store.jobs.of(NAME)[-1]
    assert (latest.state, latest.followed) == (JobState.SUCCEEDED, True)
    assert "can be read after all" in str(latest.detail)


def test_a_retry_runs_again_what_is_not_complete(services, output, program):
    submitted(services)
    (result,) = output.disk.rglob("msqc_results.tsv")
    result.unlink()
    polled(services)
    collect(services, NAME, run_id="c")
    assert status(services).status is Status.QUANTING_FAILED
    retry(services, NAME, asked_by="me")
    tick_until_idle(services)
    assert (status(services).status, runs(program)) == (Status.DONE, 2)


def test_one_line_says_which_store_is_away(services, output):
    assert measure_file_systems(services) == []
    output.unmount()
    services.now.forward(minutes=2)
    (reported,) = measure_file_systems(services)
    assert "output store is away" in reported
    known = services.store.health.file_system("output")
    assert (known["status"], "init-store output" in known["status_details"]) == ("error", True)
    output.mount()
    services.now.forward(minutes=2)
    assert measure_file_systems(services) == []
    assert services.store.health.file_system("output")["status"] == "ok"


GATED = """
echo run >> "$0.runs"
printf 'ms1_scans\\n5\\n' > "$OUTPUT_PATH/msqc_results.tsv"
touch "$0.ready"
until [ -e "$0.gate" ]; do sleep 0.05; done
"""


def gated(services, *, then: str) -> Path:
    """A program whose result is written, and that waits for a file before it ends."""
    custom_settings(services, "search", GATED + then, metrics_type="msqc")
    assert services.config.locations.software is not None
    backed_up(services, "thermo1", NAME)
    submit_jobs(services, NAME, run_id="q", slots=each(5), by_hand=False)
    path = services.config.locations.software.path / "search"
    wait_until(path.with_name("search.ready").exists, "the program waits")
    return path


def ended(services, path: Path) -> None:
    path.with_name("search.gate").touch()
    wait_for_jobs(services)


def test_a_result_is_taken_although_the_output_was_away_when_its_job_ended(services, output):
    path = gated(services, then="exit 0")
    output.unmount()
    ended(services, path)
    assert polled(services).to_collect == ()
    assert status(services).status is Status.QUANTING
    output.mount()
    tick_until_idle(services)
    assert status(services).status is Status.DONE
    assert runs(path.with_name("search.runs")) == 1
    (job,) = services.store.jobs.of(NAME)
    assert (job.state, job.exit_code) == (JobState.SUCCEEDED, 0)


def test_a_job_whose_result_went_below_the_mount_point_is_run_again(services, output):
    path = gated(services, then="exit 0")
    output.unmount()
    ended(services, path)
    (result,) = output.disk.rglob("msqc_results.tsv")
    result.unlink()
    output.mount()
    polled(services)
    services.now.forward(minutes=2)
    tick_until_idle(services)
    assert status(services).status is Status.DONE
    assert runs(path.with_name("search.runs")) == 2


def test_a_program_that_failed_while_its_output_was_away_is_run_again(services, output):
    path = gated(services, then='[ "$(grep -c run "$0.runs")" -gt 1 ] || exit 3')
    output.unmount()
    ended(services, path)
    output.mount()
    polled(services)
    (job,) = services.store.jobs.of(NAME)
    assert (job.met_no_store, "went away while it ran" in str(job.detail)) == (True, True)
    services.now.forward(minutes=2)
    tick_until_idle(services)
    assert status(services).status is Status.DONE
    assert runs(path.with_name("search.runs")) == 2


def test_a_program_that_fails_on_a_full_output_is_run_again_when_there_is_room(services):
    root = root_of(services, Role.OUTPUT)
    marker = (root / MARKER_NAME).read_text()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "small", root], check=True)
    try:
        (root / MARKER_NAME).write_text(marker)
        fills = 'head -c "$(cat "$0.bytes")" /dev/zero > "$OUTPUT_PATH/matrix" || exit 4\n'
        custom_settings(services, "search", fills + PROGRAM, metrics_type="msqc")
        path = services.config.locations.software.path / "search"
        path.with_name("search.bytes").write_text("9999999")
        submitted(services)
        (reported,) = polled(services).problems
        assert "the output is full" in reported
        assert status(services).status is Status.QUANTING
        path.with_name("search.bytes").write_text("9")
        for item in root.rglob("matrix"):
            item.unlink()
        services.now.forward(minutes=2)
        tick_until_idle(services)
        assert status(services).status is Status.DONE
    finally:
        subprocess.run(["umount", "-l", root], check=True)


def test_a_job_makes_no_folder_where_the_output_went_after_it_was_looked_for(services, output):
    """The engine is told the stores that were there, and finds none of them."""
    custom_settings(services, "search", PROGRAM, metrics_type="msqc")
    engine = services.engines["local"]

    class Late:
        def __getattr__(self, name):
            return getattr(engine, name)

        def submit(self, spec, *, may_start):
            output.unmount()
            return engine.submit(spec, may_start=may_start)

    services.engines["local"] = Late()
    submitted(services)
    assert list(output.point.iterdir()) == []
    services.engines["local"] = engine
    output.mount()
    polled(services)
    (job,) = services.store.jobs.of(NAME)
    assert job.met_no_store
    services.now.forward(minutes=2)
    tick_until_idle(services)
    assert status(services).status is Status.DONE


def test_a_job_of_this_machine_waits_for_a_program_whose_share_is_away(services):
    custom_settings(
        services, "search", 'echo done > "$OUTPUT_PATH/result.txt"', metrics_type="custom"
    )
    backed_up(services, "thermo1", "a.raw")
    programs = services.config.locations.software.path
    with empty_mount(programs):
        with pytest.raises(InputMissing, match=r"program .* can't be found"):
            submit_jobs(services, "a.raw", run_id="q", slots=each(2), by_hand=False)
        waiting = services.store.raw_files.get("a.raw")
        assert (waiting.status, waiting.retry_at is None) == (Status.ERROR, False)
        assert services.store.jobs.of("a.raw") == []
    tick_until_idle(services)
    assert services.store.raw_files.get("a.raw").status is Status.DONE
