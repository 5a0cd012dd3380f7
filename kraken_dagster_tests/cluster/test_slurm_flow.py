"""Many files at once, from the instrument through Dagster and a real Slurm cluster to metrics."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.engines.factory import make_engines
from kraken_dagster.model.jobs.report import JobState
from kraken_dagster.model.raw_file import FALLBACK_PROJECT, Status
from kraken_dagster.model.settings import Settings
from kraken_dagster.operations.doctor.checks import examine
from kraken_dagster.runtime.services import utc_now
from kraken_dagster.store.connection import Store
from kraken_dagster_tests.cluster.slurm_cluster import Cluster
from kraken_dagster_tests.cluster.slurm_fixtures import NEEDS_SLURM, config_on
from kraken_dagster_tests.support.dagster_bench import Bench, hastened, raw_file
from kraken_dagster_tests.support.helpers import wait_until

pytestmark = [
    *NEEDS_SLURM,
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
    pytest.mark.filterwarnings("ignore::dagster.PreviewWarning"),
]
# Enough to see that jobs run side by side; the number is a laboratory's busy hour.
FILES = int(os.environ.get("KRAKEN_TEST_FILES", "12"))
PROGRAM = """#!/bin/sh
# Waits for the file `gate`, then writes a table in msqc's form.
until [ -e "$1" ]; do sleep 0.2; done
printf 'ms1_scans\\tms2_scans\\n%s\\t5\\n' "$(wc -c < "$2")" > "$3/msqc_results.tsv"
"""


@pytest.fixture
def bench(
    config: KrakenConfig, store: Store, cluster: Cluster, cluster_folder: Path
) -> Iterator[Bench]:
    """The three instruments of the tests, their roots on the cluster's disk, and its engine."""
    on_cluster = config_on(cluster, cluster_folder, config, slots=FILES)
    _install_program(cluster_folder, store)
    with dg.DagsterInstance.ephemeral() as instance:
        options = {"copy_slots": FILES, "engine": "cluster"}
        yield Bench(hastened(on_cluster, **options), store, instance)


def _install_program(folder: Path, store: Store) -> None:
    program = folder / "software" / "metrics"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    settings = Settings(
        name="metrics",
        software="metrics",
        metrics_type="msqc",
        config_params=f"{folder}/gate RAW_FILE_PATH OUTPUT_PATH",
        slurm_cpus_per_task=1,
        slurm_mem="20M",
        slurm_time="01:00:00",
    )
    store.catalog.add_settings(settings, now=utc_now())
    store.catalog.assign(FALLBACK_PROJECT, settings, scope="*", now=utc_now())


def _on_the_cluster(cluster: Cluster) -> list[str]:
    """Kraken's jobs that have not ended, by the names that Slurm has of them."""
    words = ("squeue", "--noheader", "--format=%j", f"--user={cluster.user}")
    return cluster.as_root(*words).split()


def _run_all(bench: Bench, sensor: str) -> int:
    """One tick, and the runs that it requested, each to its end; their number."""
    requests = list(bench.tick(sensor).run_requests or ())
    assert all(bench.run(request).success for request in requests)
    return len(requests)


def _names(bench: Bench) -> list[str]:
    names = [f"sample_{number:03}.raw" for number in range(FILES)]
    for number, name in enumerate(names):
        raw_file(bench.services.instrument_folder("thermo1"), name, b"x" * (1000 + number))
    return names


def _statuses(bench: Bench, names: list[str]) -> set[Status]:
    return {bench.status(name) for name in names}


def _assert_done_once(bench: Bench, cluster: Cluster, names: list[str]) -> None:
    assert _statuses(bench, names) == {Status.DONE}
    for number, name in enumerate(names):
        [job] = bench.store.jobs.of(name)
        [result] = bench.store.metrics.of(name)
        assert (job.state, job.exit_code, job.node) == (JobState.SUCCEEDED, 0, cluster.node)
        assert result["ms1_scans"] == 1000 + number
        assert cluster.jobs_by_name(job.id) == [job.cluster_job_id]


def _tick_until_all_are_done(bench: Bench, cluster: Cluster, names: list[str]) -> None:
    """No tick costs the controller more than one question."""

    def done() -> bool:
        before = cluster.job_info_rpcs(cluster.user)
        requests = list(bench.tick("cluster_jobs").run_requests or ())
        assert cluster.job_info_rpcs(cluster.user) - before <= 1
        assert all(bench.run(request).success for request in requests)
        return _statuses(bench, names) == {Status.DONE}

    wait_until(done, "every file is done", timeout_s=400, every_s=0.2)


def test_all_jobs_are_open_at_once_and_nothing_waits_for_them(
    bench: Bench, cluster: Cluster, cluster_folder: Path
) -> None:
    names = _names(bench)
    for request in bench.requested("thermo1"):
        assert bench.run(request).success
    assert _statuses(bench, names) == {Status.QUANTING}
    assert len(_on_the_cluster(cluster)) == FILES
    assert bench.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])) == []
    before = cluster.job_info_rpcs(cluster.user)
    assert bench.tick("cluster_jobs").run_requests == []
    assert cluster.job_info_rpcs(cluster.user) - before == 1
    (cluster_folder / "gate").touch()
    _tick_until_all_are_done(bench, cluster, names)
    _assert_done_once(bench, cluster, names)
    reported = bench.materialised("thermo1", "quant_result")
    assert {reported[name]["metrics node"] for name in names} == {cluster.node}


def test_no_more_jobs_are_on_the_cluster_than_its_slots_of_dagster(
    bench: Bench, cluster: Cluster, cluster_folder: Path
) -> None:
    slots = max(2, FILES // 5)
    bench.instance.event_log_storage.set_concurrency_slots("cluster_slots", slots)
    names = _names(bench)
    for request in bench.requested("thermo1"):
        assert bench.run(request).success
    assert len(_on_the_cluster(cluster)) == slots
    assert _run_all(bench, "cluster_jobs") == 0
    bench.instance.event_log_storage.set_concurrency_slots("cluster_slots", slots + 1)
    assert _run_all(bench, "cluster_jobs") == 1
    assert len(_on_the_cluster(cluster)) == slots + 1
    (cluster_folder / "gate").touch()
    _tick_until_all_are_done(bench, cluster, names)
    _assert_done_once(bench, cluster, names)


def _findings(bench: Bench, config: KrakenConfig | None = None) -> list[tuple[str, str]]:
    """What the doctor says of the cluster, but for the backup's safety: level and text."""
    config = config or bench.config
    services = replace(
        bench.services, config=config, engines=make_engines(config.engines, config.home)
    )
    found = examine(config, lambda: services)
    reported = [item for item in found if item.what == "engine cluster"]
    return [
        (item.level, item.found) for item in reported if "write to the backup" not in item.found
    ]


def _with_engine(config: KrakenConfig, **changes: Any) -> KrakenConfig:
    engine = config.engines["cluster"].model_copy(update=changes)
    return config.model_copy(update={"engines": {"cluster": engine}})


def test_the_doctor_looks_at_the_cluster(bench: Bench, cluster: Cluster) -> None:
    assert [level for level, _ in _findings(bench)] == ["ok"]
    assert "the controller answer: slurm" in _findings(bench)[0][1]
    assert "sbatch would take a job: 'sbatch: Job" in _findings(bench)[0][1]
    refused = _with_engine(bench.config, directives=["--constraint=none"])
    [_, (level, reported)] = _findings(bench, refused)
    assert (level, "Invalid feature specification" in reported) == ("error", True)

    [_, (level, reported)] = _findings(bench, _with_engine(bench.config, partition="nowhere"))
    assert (level, "'nowhere'" in reported) == ("error", True)

    bench.config.locations.output.path.chmod(0o500)
    os.chown(bench.config.locations.output.path, 0, 0)
    [_, (level, reported)] = _findings(bench)
    assert level == "error"
    assert f"can't write locations.output there: '{bench.config.locations.output.path}'" in reported

    nowhere = bench.config.home / "no_known_hosts"
    [(level, reported)] = _findings(bench, _with_engine(bench.config, known_hosts=nowhere))
    assert (level, "ssh-keyscan" in reported) == ("error", True)

    cluster.stop_sshd()
    [(level, reported)] = _findings(bench)
    assert (level, cluster.host in reported) == ("error", True)
