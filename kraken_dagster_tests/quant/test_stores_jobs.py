"""A job whose stores are away where it runs has not failed, and is tried again."""

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from kraken_dagster.engines.job_script import BEGUN_FILE, EXIT_CODE_FILE, rendered, with_exports
from kraken_dagster.fs.stores.marker import MARKER_NAME, Role, marker_line
from kraken_dagster.model.jobs.job import (
    EXIT_ENDED_BADLY_AWAY,
    EXIT_ENDED_WELL_AWAY,
    EXIT_STORE_AWAY,
    JobSpec,
)
from kraken_dagster.model.jobs.report import JobReport, JobState
from kraken_dagster.model.raw_file import Status
from kraken_dagster.quant.jobs.poll import poll
from kraken_dagster.quant.submit import submit_jobs
from kraken_dagster.runtime.stores import root_of
from kraken_dagster_tests.support.fakes import MemoryEngine, custom_settings
from kraken_dagster_tests.support.helpers import (
    backed_up,
    each,
    tick,
    tick_until_idle,
    wait_for_jobs,
)

LINE = marker_line(Role.OUTPUT, "0123456789abcdef")
OTHER = marker_line(Role.BACKUP, "fedcba9876543210")
SITE = '#!/bin/bash\n#SBATCH --nodes=1\ntouch "$OUTPUT_PATH/ran"\nexit 3\n'


@pytest.fixture
def spec(tmp_path) -> JobSpec:
    for name, line in (("output's", LINE), ("backup", OTHER)):
        (tmp_path / name / "x").mkdir(parents=True)
        (tmp_path / name / MARKER_NAME).write_text(f"{line}\n# told\n")
    output = str(tmp_path / "output's" / "x")
    stores = ((str(tmp_path / "output's"), LINE), (str(tmp_path / "backup"), OTHER))
    command = ("/bin/sh", "-c", "touch ran; exit 3")
    return JobSpec("job-1", command, {"OUTPUT_PATH": output}, output, stores=stores)


def run(script: bytes) -> int:
    return subprocess.run(["/bin/bash", "-s"], input=script, capture_output=True).returncode


@pytest.mark.parametrize("store", ["output's", "backup"])
@pytest.mark.parametrize("own", [True, False])
def test_a_job_script_begins_nothing_where_a_store_is_away(spec, tmp_path, own, store):
    script = rendered(spec) if own else with_exports(SITE, spec)
    (tmp_path / store / MARKER_NAME).write_text(LINE.replace("0123", "9999") + "\n")
    before = sorted(tmp_path.rglob("*"))
    assert run(script) == EXIT_STORE_AWAY
    assert sorted(tmp_path.rglob("*")) == before
    shutil.rmtree(tmp_path / store)
    assert run(script) == EXIT_STORE_AWAY
    assert not (tmp_path / store).exists()


@pytest.mark.parametrize("own", [True, False])
def test_a_job_script_whose_stores_are_there_ends_as_its_program_does(spec, own):
    script = rendered(spec) if own else with_exports(SITE, spec)
    assert run(script) == 3
    folder = Path(spec.output_path)
    assert (folder / "ran").exists()
    assert (folder / BEGUN_FILE).read_text() == "job-1\n"
    assert (folder / EXIT_CODE_FILE).exists() is own


@pytest.mark.parametrize(
    ("own", "ends_with", "reported"),
    [
        (True, 0, EXIT_ENDED_WELL_AWAY),
        (True, 4, EXIT_STORE_AWAY),
        (False, 0, EXIT_ENDED_WELL_AWAY),
        (False, 4, EXIT_ENDED_BADLY_AWAY),
    ],
)
def test_a_job_script_tells_that_the_output_has_gone_while_it_ran(
    spec, tmp_path, own, ends_with, reported
):
    marker = tmp_path / "output's" / MARKER_NAME
    program = f'rm "$1"; exit {ends_with}'
    spec = replace(spec, command=("/bin/sh", "-c", program, "sh", str(marker)))
    site = f'#!/bin/bash\nrm "$OUTPUT_PATH/../{MARKER_NAME}"\nexit {ends_with}\n'
    assert run(rendered(spec) if own else with_exports(site, spec)) == reported
    assert not (Path(spec.output_path) / EXIT_CODE_FILE).exists()


class Away(MemoryEngine):
    """A cluster on whose nodes a store is away, as long as `away`."""

    away = True

    def states(self, ids):
        found = super().states(ids)
        if not self.away:
            return found
        ended = JobReport(JobState.FAILED, EXIT_STORE_AWAY, node="n1", ended_at=self.ended_at())
        return dict.fromkeys(found, ended)


def test_a_job_that_found_no_store_is_tried_again_with_growing_pauses_and_never_fails(services):
    services.engines["local"] = engine = Away()
    engine.ended_at = services.now
    custom_settings(services, "s", metrics_type="custom")
    backed_up(services, "thermo1", "a.raw")
    for _ in range(16):
        tick(services)
        services.now.forward(minutes=40)
        record = services.store.raw_files.get("a.raw")
        assert record.status in (Status.QUANTING, Status.QUEUED_FOR_QUANTING), record.status_details
    tries = services.store.jobs.of("a.raw")
    assert len(tries) > 4
    assert all(job.is_open or job.met_no_store for job in tries)


def test_the_pause_is_told_in_one_line(services):
    services.engines["local"] = engine = Away()
    engine.ended_at = services.now
    custom_settings(services, "s", metrics_type="custom")
    backed_up(services, "thermo1", "a.raw")
    submit_jobs(services, "a.raw", run_id="q", slots=each(5), by_hand=False)
    found = poll(services, slots=each(5))
    assert found.to_collect == ()
    (reported,) = found.problems
    assert "away, or full, on n1" in reported
    services.now.forward(minutes=2)
    assert len(poll(services, slots=each(5)).to_collect) == 1


def test_a_program_that_ends_with_that_code_itself_has_failed(services):
    custom_settings(services, "s", f"exit {EXIT_STORE_AWAY}", metrics_type="custom")
    backed_up(services, "thermo1", "a.raw")
    tick_until_idle(services)
    record = services.store.raw_files.get("a.raw")
    assert record.status is Status.QUANTING_FAILED
    assert f"exit code {EXIT_STORE_AWAY}" in (record.status_details or "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_job_of_this_machine_on_a_full_output_waits_until_there_is_room(services):
    program = "printf 'ms1_scans\\n5\\n' > \"$OUTPUT_PATH/msqc_results.tsv\""
    custom_settings(services, "search", program, metrics_type="msqc")
    backed_up(services, "thermo1", "a.raw")
    root = root_of(services, Role.OUTPUT)
    marker = (root / MARKER_NAME).read_text()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "small", root], check=True)
    try:
        (root / MARKER_NAME).write_text(marker)
        subprocess.run(["dd", "if=/dev/zero", f"of={root}/ballast", "bs=512"], capture_output=True)
        submit_jobs(services, "a.raw", run_id="q", slots=each(5), by_hand=False)
        for _ in range(3):
            wait_for_jobs(services)
            tick(services)
            services.now.forward(minutes=31)
            record = services.store.raw_files.get("a.raw")
            assert record.status is not Status.QUANTING_FAILED, record.status_details
        (root / "ballast").unlink()
        for _ in range(8):  # with a pause between a try and the next, in which nothing is due
            wait_for_jobs(services)
            tick(services)
            services.now.forward(minutes=31)
        assert services.store.raw_files.get("a.raw").status is Status.DONE
    finally:
        subprocess.run(["umount", "-l", root], check=True)
