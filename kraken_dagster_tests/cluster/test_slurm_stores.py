"""Stores that are away on a real cluster: on its head node, on a node, or when a program ends.

The cluster knows the output by another path than Kraken, a link that a test takes away.
"""

import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.fs.stores.marker import MARKER_NAME
from kraken_dagster.model.errors import JobError, StoreAway
from kraken_dagster.model.jobs.job import (
    EXIT_ENDED_BADLY_AWAY,
    EXIT_ENDED_WELL_AWAY,
    EXIT_STORE_AWAY,
    QuantJob,
)
from kraken_dagster.model.raw_file import Status
from kraken_dagster.quant.submit import QuantOutcome, submit_jobs
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.connection import Store
from kraken_dagster_tests.cluster.slurm_cluster import Cluster
from kraken_dagster_tests.cluster.slurm_fixtures import NEEDS_SLURM, Ahead, services_on
from kraken_dagster_tests.support.fakes import custom_settings
from kraken_dagster_tests.support.helpers import backed_up, each, tick, wait_until

pytestmark = NEEDS_SLURM
PATIENCE_S = 180.0
RESULT = "printf 'ms1_scans\\n5\\n' > \"$OUTPUT_PATH/msqc_results.tsv\""


class There:
    """The cluster, and the output as it sees it."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder
        self.output = folder / "output_there"
        self.bring_back()

    def take_away(self) -> None:
        self.output.unlink()

    def bring_back(self) -> None:
        self.output.unlink(missing_ok=True)
        self.output.symlink_to(self.folder / "output")

    def put_another_there(self) -> None:
        """One with the same folders and without a marker."""
        other = self.folder / "other"
        subprocess.run(["cp", "-a", self.folder / "output", other], check=True)
        (other / MARKER_NAME).unlink()
        self.output.unlink()
        self.output.symlink_to(other)

    def set_node(self, *state: str) -> None:
        self.cluster.as_root("scontrol", "update", f"NodeName={self.cluster.node}", *state)


@pytest.fixture
def there(cluster: Cluster, cluster_folder: Path) -> There:
    return There(cluster, cluster_folder)


@pytest.fixture
def make_services(config: KrakenConfig, store: Store, there: There) -> Callable[..., Services]:
    """Makes a world in which a.raw is backed up, and settings run this program on it."""

    def made(program: str, **engine: str) -> Services:
        services = services_on(there.cluster, there.folder, config, store, Ahead(), **engine)
        output = services.config.locations.output.model_copy(update={"cluster": str(there.output)})
        locations = services.config.locations.model_copy(update={"output": output})
        services = replace(
            services, config=services.config.model_copy(update={"locations": locations})
        )
        resources = {"slurm_cpus_per_task": 1, "slurm_mem": "20M", "slurm_time": "01:00:00"}
        custom_settings(services, "metrics", program, metrics_type="msqc", **resources)
        backed_up(services, "thermo1", "a.raw")
        services.now.is_real_now()  # type: ignore[attr-defined]
        return services

    return made


def submitted(services: Services) -> QuantOutcome:
    return submit_jobs(services, "a.raw", run_id="q", slots=each(9))


def jobs(services: Services) -> list[QuantJob]:
    return services.store.jobs.of("a.raw")


def ends_with(services: Services, cluster: Cluster, code: str) -> None:
    """The cluster tells this exit code of the first job, and Kraken takes it for no failure."""
    found = jobs(services)[0].cluster_job_id
    assert found is not None
    cluster.wait_for(found, "FAILED")
    assert f" ExitCode={code} " in cluster.as_root("scontrol", "-o", "show", "job", found)
    for _ in range(3):
        tick(services)
        record = services.store.raw_files.get("a.raw")
        assert record.status not in (Status.QUANTING_FAILED, Status.ERROR), record.status_details


def work_until_done(services: Services) -> None:
    def done() -> bool:
        services.now.forward(minutes=2)  # type: ignore[attr-defined]
        with suppress(JobError):
            tick(services)
        assert services.store.raw_files.get("a.raw").status is not Status.QUANTING_FAILED
        return services.store.raw_files.get("a.raw").status is Status.DONE

    wait_until(done, "a.raw is done", timeout_s=PATIENCE_S, every_s=0.5)


def test_nothing_is_submitted_where_the_head_node_has_no_output(make_services, there) -> None:
    services = make_services(RESULT)
    there.take_away()
    with pytest.raises(StoreAway, match="no marker of it on the head node"):
        submitted(services)
    assert not there.output.exists()
    assert services.store.raw_files.get("a.raw").status is Status.QUEUED_FOR_QUANTING
    there.bring_back()
    work_until_done(services)


@pytest.mark.parametrize(
    ("lose", "code"),
    [
        (There.take_away, "0:53"),  # of Slurm itself, which can't open the job's log
        (There.put_another_there, f"{EXIT_STORE_AWAY}:0"),
    ],
)
def test_a_job_whose_node_has_no_output_is_tried_again(make_services, there, lose, code) -> None:
    services = make_services(RESULT)
    there.set_node("State=DRAIN", "Reason=so that the job waits")
    assert len(submitted(services).submitted) == 1
    lose(there)
    there.set_node("State=RESUME")
    ends_with(services, there.cluster, code)
    there.bring_back()
    work_until_done(services)
    assert len(jobs(services)) == 2


@pytest.mark.parametrize(
    ("code", "reported", "own"),
    [
        (0, EXIT_ENDED_WELL_AWAY, True),
        (4, EXIT_STORE_AWAY, True),
        (4, EXIT_ENDED_BADLY_AWAY, False),
    ],
)
def test_an_output_that_goes_while_a_job_runs_fails_nothing(
    make_services, there, code, reported, own
) -> None:
    goes = f'case "$SLURM_JOB_NAME" in *-r1) ;; *) rm {there.output}; exit {code} ;; esac'
    script = there.folder / "site.sh"
    script.write_text(f"#!/bin/bash\n{RESULT}\n{goes}\n")
    engine = {} if own else {"job_script": str(script)}
    services = make_services(f"{RESULT}\n{goes}", **engine)
    assert len(submitted(services).submitted) == 1
    ends_with(services, there.cluster, f"{reported}:0")
    there.bring_back()
    work_until_done(services)
    assert len(jobs(services)) == (1 if code == 0 else 2)
