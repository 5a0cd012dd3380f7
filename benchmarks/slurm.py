"""What it costs to submit to a real Slurm cluster, and to ask it for all open jobs.

Needs the test cluster (`make slurm`, as root). Prints submissions a second over the held connection
and over a new connection for each, in turns within one run; then a poll of 10, 100 and 1,000 open
jobs. All jobs are cancelled at the end.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from kraken_dagster.config.engines import SlurmEngine
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.engines.slurm import Slurm
from kraken_dagster.engines.ssh import HeadNode, Login, Ssh
from kraken_dagster.model.jobs.job import JobSpec, QuantJob
from kraken_dagster.model.jobs.report import JobState
from kraken_dagster.model.jobs.resources import Resources
from kraken_dagster.quant.jobs.poll import poll
from kraken_dagster.runtime.services import Services, utc_now
from kraken_dagster.store.connection import connect
from kraken_dagster.store.embedded.server import ensure_running
from kraken_dagster_tests.cluster.slurm_cluster import DEFAULT_BASE, Cluster, cluster_in
from kraken_dagster_tests.support.helpers import mark_stores

SUBMISSIONS, TURNS = 10, 5


def engine_entry(cluster: Cluster) -> SlurmEngine:
    return SlurmEngine(
        type="slurm",
        host=cluster.host,
        port=cluster.port,
        user=cluster.user,
        key_file=cluster.key_file,
        known_hosts=cluster.known_hosts,
    )


def connection(cluster: Cluster) -> Ssh:
    heads = (HeadNode(cluster.host, cluster.port),)
    return Ssh(Login(heads, cluster.user, cluster.key_file, cluster.known_hosts))


class Submitter:
    """Submits jobs that sleep, each with a name of its own."""

    def __init__(self, cluster: Cluster, folder: str) -> None:
        self.cluster, self.folder, self.submitted = cluster, folder, 0
        self.held = Slurm(engine_entry(cluster), connection(cluster))

    def spec(self) -> JobSpec:
        self.submitted += 1
        output = f"{self.folder}/{self.submitted}"
        return JobSpec(
            name=f"benchmark-{os.getpid()}-{self.submitted}",
            command=("sleep", "3600"),
            environment={"OUTPUT_PATH": output},
            output_path=output,
            resources=Resources(cpus=1, mem="10M", time="01:00:00"),
        )

    def over_held(self) -> str:
        return self.held.submit(self.spec())

    def over_new(self) -> str:
        ssh = connection(self.cluster)
        try:
            return Slurm(engine_entry(self.cluster), ssh).submit(self.spec())
        finally:
            ssh.close()


def rate(submit: Callable[[], str]) -> float:
    began = time.perf_counter()
    for _ in range(SUBMISSIONS):
        submit()
    return SUBMISSIONS / (time.perf_counter() - began)


def some_services(cluster: Cluster, slurm: Slurm, uri: str, folder: Path) -> Services:
    config = KrakenConfig.model_validate(
        {
            "locations": {name: str(folder) for name in ("backup", "output")}
            | {"instruments": str(folder / "i")},
            "engines": {"cluster": engine_entry(cluster).model_dump()},
            "defaults": {"engine": "cluster"},
            "instruments": {"thermo1": {"type": "thermo"}},
        }
    )
    store = connect(f"{uri}benchmark_slurm")
    store.prepare()
    services = Services(config=config, store=store, engines={"cluster": slurm})
    mark_stores(services)
    return services


def open_jobs(services: Services, submitter: Submitter, count: int) -> None:
    """Has `count` jobs on the cluster and as many records of them."""
    there = len(services.store.jobs.uncollected("cluster"))
    for number in range(there, count):
        spec = submitter.spec()
        record = QuantJob(
            id=spec.name,
            raw_file=f"{number}.raw",
            instrument_id="thermo1",
            settings_name="s",
            settings_version=1,
            software_type="custom",
            software="sleep",
            metrics_type="custom",
            engine="cluster",
            attempt=1,
            state=JobState.INTENDED,
            output_path=spec.output_path,
            relative_output_path=str(number),
            command=list(spec.command),
            environment=dict(spec.environment),
            created_at=utc_now(),
        )
        services.store.jobs.intend(record)
        services.store.jobs.submitted(record, submitter.held.submit(spec))


def tick(services: Services) -> float:
    began = time.perf_counter()
    poll(services, slots={"cluster": 0})
    return time.perf_counter() - began


class Polled(NamedTuple):
    """Seconds until the states of all open jobs are known, and of a command that does nothing."""

    together: float
    one_by_one: float
    bare: float


def polled(count: int, rounds: int) -> list[Polled]:
    """Open jobs asked for together, and each for itself, over the same held connection.

    Raises:
        OSError: there is no test cluster.
    """
    cluster = cluster_in(Path(os.environ.get("KRAKEN_SLURM_BASE", DEFAULT_BASE)))
    folder = cluster.ssh("mktemp -d").stdout.strip()
    submitter, ssh = Submitter(cluster, folder), connection(cluster)
    try:
        ids = [submitter.over_held() for _ in range(count)]
        asked = submitter.held.states

        def each() -> None:
            for number in ids:
                asked([number])

        ways = (lambda: asked(ids), each, lambda: ssh.run("true"))
        ssh.run("true")
        return [Polled(*(seconds(way) for way in ways)) for _ in range(rounds)]
    finally:
        ssh.close()
        cluster.ssh(f"scancel --user={cluster.user}; rm -rf {folder}")


def seconds(way: Callable[[], object]) -> float:
    began = time.perf_counter()
    way()
    return time.perf_counter() - began


def main() -> None:
    counts = [int(word) for word in sys.argv[1:]] or [10, 100, 1000]
    cluster = cluster_in(Path(os.environ.get("KRAKEN_SLURM_BASE", DEFAULT_BASE)))
    folder = cluster.ssh("mktemp -d").stdout.strip()
    submitter = Submitter(cluster, folder)
    try:
        submitter.over_held()
        rates = [(rate(submitter.over_held), rate(submitter.over_new)) for _ in range(TURNS)]
        held, new = (statistics.median(each) for each in zip(*rates, strict=True))
        print(f"submissions/s: {held:.0f} over the held connection, {new:.1f} over new ones")
        print(f"ratio {statistics.median(a / b for a, b in rates):.1f}")
        with tempfile.TemporaryDirectory() as name:
            server = ensure_running(Path(name) / "mongodb")
            try:
                services = some_services(cluster, submitter.held, server.uri, Path(name))
                first = 0.0
                for count in counts:
                    open_jobs(services, submitter, count)
                    tick(services)  # what changed since they were submitted is written down
                    seconds = statistics.median(tick(services) for _ in range(5))
                    first = first or seconds
                    print(
                        f"{count} open jobs: {seconds * 1000:.0f} ms; ratio {seconds / first:.1f}"
                    )
            finally:
                server.stop()
    finally:
        cluster.ssh(f"scancel --user={cluster.user}; rm -rf {folder}")


if __name__ == "__main__":
    main()
