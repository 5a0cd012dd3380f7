"""Two instances with a MongoDB each, over one set of folders and one cluster.

The first submitted jobs and is gone. The second follows them, whether they run or wait, and submits
what is missing. The first comes back and takes what has come of all of them.
"""

import os
from collections.abc import Iterator
from dataclasses import replace

import pymongo
import pytest

from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.config.instruments import OutputExistsMode
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.engines.factory import make_engines
from kraken_dagster.model.raw_file import Status
from kraken_dagster.quant.submit import submit_jobs
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.connection import connect
from kraken_dagster_tests.cluster.slurm_cluster import Cluster
from kraken_dagster_tests.cluster.slurm_fixtures import NEEDS_SLURM
from kraken_dagster_tests.cluster.test_slurm_steps import (
    PROGRAM,
    Ahead,
    assert_done_once,
    backed_up,
    cluster_id,
    only_job,
    open_gate,
    stored,
    submitted,
    work_until,
)
from kraken_dagster_tests.cluster.test_slurm_steps import services as first  # noqa: F401 a fixture
from kraken_dagster_tests.support.fakes import custom_settings
from kraken_dagster_tests.support.helpers import acquire, database_uri, each, finish

pytestmark = NEEDS_SLURM
RUNS, WAITS, NEW = "gated_runs.raw", "waits.raw", "new.raw"


@pytest.fixture
def second(first: Services, mongodb_uri: str, server_uri: str) -> Iterator[Services]:  # noqa: F811
    """A stand-in: the same folders, cluster and settings, and an empty database."""
    name = f"kraken_test_b_{os.getpid()}"
    uri = database_uri(mongodb_uri, name)
    store = connect(uri)
    store.prepare()
    services = replace(first, store=store, now=Ahead())
    resources = {"slurm_cpus_per_task": 1, "slurm_mem": "20M", "slurm_time": "01:00:00"}
    custom_settings(services, "metrics", PROGRAM, metrics_type="msqc", **resources)
    yield services
    store.close()
    with pymongo.MongoClient(server_uri) as client:
        client.drop_database(name)


def _alone(services: Services) -> Services:
    """The same, with jobs that want the whole node, and wait while another runs."""
    given = services.config.model_dump(exclude_unset=True)
    given["engines"]["cluster"]["directives"] = ["--exclusive"]
    config = KrakenConfig.model_validate(given)
    return replace(services, config=config, engines=make_engines(config.engines, config.home))


def _associate(services: Services, name: str) -> None:
    submit_jobs(
        services,
        name,
        run_id="q",
        slots=each(9),
        output_exists_mode=OutputExistsMode.ASSOCIATE,
        by_hand=False,
    )


def test_no_job_is_submitted_twice_and_no_file_copied_twice(
    first: Services,  # noqa: F811
    second: Services,
    cluster: Cluster,
) -> None:
    backed_up(first, RUNS, WAITS)
    submitted(first, RUNS)
    cluster.wait_for(cluster_id(first, RUNS), "RUNNING")
    submitted(_alone(first), WAITS)
    cluster.wait_for(cluster_id(first, WAITS), "PENDING")

    acquire(second, "thermo1", NEW, size_bytes=5000)
    finish(second, "thermo1")
    second.now.is_real_now()  # type: ignore[attr-defined]
    for name in (RUNS, WAITS, NEW):
        outcome = back_up(second, name, run_id="b", options=BackupOptions())
        assert outcome.copied_bytes == (5000 if name == NEW else 0)
        _associate(second, name)
    for name in (RUNS, WAITS):
        assert cluster_id(second, name) == cluster_id(first, name)
        assert only_job(second, name).id != only_job(first, name).id
    open_gate(first)
    work_until(second, (RUNS, WAITS, NEW), Status.DONE)
    assert_done_once(second, cluster, NEW)

    first.now.ahead = second.now.ahead  # type: ignore[attr-defined]
    work_until(first, (RUNS, WAITS), Status.DONE)
    finish(first, "thermo1")
    assert back_up(first, NEW, run_id="b", options=BackupOptions()).copied_bytes == 0
    _associate(first, NEW)
    work_until(first, (RUNS, WAITS, NEW), Status.DONE)
    assert_done_once(first, cluster, RUNS, WAITS)
    job = only_job(first, NEW)
    assert (job.followed, cluster.jobs_by_name(job.id)) == (True, [])
    for name in (RUNS, WAITS, NEW):
        (mine,), (theirs,) = first.store.metrics.of(name), second.store.metrics.of(name)
        assert (mine["ms1_scans"], theirs["ms1_scans"]) == (5000, 5000)
    assert stored(first, NEW).backup_base_path == stored(second, NEW).backup_base_path
