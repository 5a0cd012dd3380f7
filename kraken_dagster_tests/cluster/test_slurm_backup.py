"""Jobs on a real Slurm cluster whose user owns the backup: whatever they try on their raw file, and
what is found where they go to the backup itself."""

import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.jobs.report import JobState
from kraken_dagster.model.raw_file import RawFile, Status
from kraken_dagster.operations.doctor.jobs import jobs_there
from kraken_dagster.quant.collect import collect
from kraken_dagster.quant.jobs.poll import poll
from kraken_dagster.quant.submit import submit_jobs
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.connection import Store
from kraken_dagster_tests.backup.copying.copying_cases import content
from kraken_dagster_tests.cluster.slurm_cluster import Cluster
from kraken_dagster_tests.cluster.slurm_fixtures import NEEDS_SLURM, services_on
from kraken_dagster_tests.engines.test_working_folder import ALTER
from kraken_dagster_tests.retention.retention_cases import INSTRUMENTS
from kraken_dagster_tests.support.fakes import custom_settings
from kraken_dagster_tests.support.helpers import backed_up, each, mark_stores, wait_until

pytestmark = NEEDS_SLURM
PATIENCE_S = 180.0


@pytest.fixture
def on_cluster(
    config: KrakenConfig, store: Store, clock: Callable, cluster: Cluster, cluster_folder: Path
) -> Services:
    """The three instruments, and their roots on the cluster's disk."""
    services = services_on(cluster, cluster_folder, config, store, clock)
    os.chown(services.config.locations.backup.path, 0, 0)
    mark_stores(services)
    return services


def own_all(services: Services, cluster: Cluster) -> None:
    """The cluster's user owns every file, as where Kraken and the jobs are one user."""
    for name in ("backup", "output", "settings", "software"):
        path = getattr(services.config.locations, name).path
        owner = f"{cluster.user}:"
        subprocess.run(["chown", "-R", owner, path], check=True)


def run(services: Services, cluster: Cluster, raw_file: RawFile, script: str) -> RawFile:
    """The file after a job of the cluster ran that script on it."""
    custom_settings(services, "search", script, metrics_type="custom", slurm_mem="40M")
    own_all(services, cluster)
    submit_jobs(services, raw_file.id, run_id="q", slots=each(4))

    def collected() -> bool:
        found = poll(services, slots=each(4))
        return raw_file.id in [item.id for item in found.to_collect] and found.open_jobs == 0

    wait_until(collected, "its jobs have ended", timeout_s=PATIENCE_S, every_s=0.5)
    collect(services, raw_file.id, run_id="c")
    return services.store.raw_files.get(raw_file.id)


@pytest.mark.parametrize(("instrument_id", "name"), INSTRUMENTS.items())
def test_whatever_a_job_tries_on_its_raw_file_the_owner_s_backup_is_as_it_was(
    on_cluster: Services, cluster: Cluster, instrument_id: str, name: str
) -> None:
    services = on_cluster
    raw_file = backed_up(services, instrument_id, name)
    folder = services.backup_folder(raw_file)
    before = content(folder)
    program = f'python3 -c {shlex.quote(ALTER)} "$RAW_FILE_PATH" > "$OUTPUT_PATH/tried"'
    after = run(services, cluster, raw_file, program)
    (job,) = [job for job in services.store.jobs.of(name) if job.settings_name == "search"]
    assert job.state is JobState.SUCCEEDED
    assert "remove" in (services.result_folder(job) / "tried").read_text()
    assert content(folder) == before
    assert (after.status is Status.ERROR, after.is_backed_up) == (False, True)


@pytest.mark.parametrize("how", ["truncate", "rename", "delete"])
@pytest.mark.parametrize(("instrument_id", "name"), INSTRUMENTS.items())
def test_an_owner_who_goes_to_the_backup_itself_is_found_and_told(
    on_cluster: Services, cluster: Cluster, instrument_id: str, name: str, how: str
) -> None:
    services = on_cluster
    raw_file = backed_up(services, instrument_id, name)
    main = services.backup_folder(raw_file) / services.rules(instrument_id).main_file(name)
    does = {"truncate": ': > "$f"', "rename": 'mv "$f" "$f.x"', "delete": 'rm -f "$f"'}[how]
    script = f'f=\'{main}\'\nchmod u+w "$f" "${{f%/*}}"\n{does}'
    after = run(services, cluster, raw_file, script)
    assert (after.status, after.is_backed_up) == (Status.ERROR, False)
    (reported,) = [str(event["reason"]) for event in after.history if event["to"] == "error"]
    assert "-search-" in reported
    assert "ran on it" in reported


def test_what_the_cluster_s_user_could_do_to_the_backup_is_told(
    on_cluster: Services, cluster: Cluster
) -> None:
    """It may not write to what root owns, and may to what is its own."""
    config = on_cluster.config
    words = [item.found for item in jobs_there(config, "cluster", on_cluster.engines["cluster"])]
    assert words == ["its user can't write to the backup, so jobs work on it directly"]
    own_all(on_cluster, cluster)
    (found,) = jobs_there(config, "cluster", on_cluster.engines["cluster"])
    assert found.level == "ok"
    assert f"its user can write to the backup, '{config.locations.backup.path}'" in found.found
