"""What catching up costs a file whose backup and result are there: proven, and associated.

Small files of three vendors. All five assets of every file are materialised, first by a run for
each of a few files, then by one run for all files of an instrument. Prints CPU-seconds a file (to
create the run, and of its worker's process; not the database servers', nor what the daemon does
between), files a minute, and the ratio of both ways. Dagster's storage is SQLite, or the
PostgreSQL that KRAKEN_BENCHMARK_POSTGRES names as a URL; that needs dagster-postgres.

    python benchmarks/catchup.py [FILES]
"""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import dagster as dg
import yaml
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.origin import JobPythonOrigin
from dagster._grpc.types import ExecuteRunArgs

from kraken_dagster.backup.source import members_of
from kraken_dagster.catchup.catchup import CatchupOptions
from kraken_dagster.catchup.defs import CATCHUP_TAGS
from kraken_dagster.catchup.register import register_all
from kraken_dagster.config.loader import CONFIG_VARIABLE, load_config
from kraken_dagster.model.files.file_ids import partition_key
from kraken_dagster.model.files.vendors import backup_mapping
from kraken_dagster.model.raw_file import FALLBACK_PROJECT, RawFile, Status
from kraken_dagster.model.settings import Settings
from kraken_dagster.orchestration.partitions import ASSETS, add_partitions, asset_key
from kraken_dagster.quant.output_folder import planned_folder
from kraken_dagster.runtime.services import Services, utc_now
from kraken_dagster.simulation import search_program
from kraken_dagster.store.connection import connect
from kraken_dagster.store.embedded.server import ensure_running
from kraken_dagster_tests.support.helpers import database_uri, mark_stores

INSTRUMENTS = {"thermo1": "thermo", "bruker1": "bruker", "sciex1": "sciex"}
MEMBERS = {
    "thermo1": ("{}.raw",),
    "bruker1": ("{}.d/analysis.tdf_bin", "{}.d/analysis.tdf"),
    "sciex1": ("{}.wiff", "{}.wiff.scan"),
}
REPOSITORY = ReconstructableRepository.for_module("kraken_dagster.definitions", "defs")._replace(
    executable_path=sys.executable, entry_point=[sys.executable, "-m", "dagster"]
)
SINGLE = 4  # files of each instrument that have a run each
SEARCH = Settings(
    name="search",
    software_type="custom",
    software="search",
    metrics_type="alphadia",
    config_params="RAW_FILE_PATH OUTPUT_PATH",
)


def write_files(home: Path, count: int) -> None:
    """Files of ten hours ago, and one of now, beside which they are old."""
    ago = time.time() - 10 * 3600
    for instrument, members in MEMBERS.items():
        folder = home / "instruments" / instrument
        folder.mkdir(parents=True)
        for number in range(count):
            for member in members:
                path = folder / member.format(f"f_{number:06d}")
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(f"{path.name} {number}".encode() * 20)
                os.utime(path, (ago, ago))
        for member in members:
            path = folder / member.format("young")
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"young" * 40)


def write_config(home: Path, uri: str) -> Path:
    config = {
        "home": str(home),
        "mongodb": {"uri": uri},
        "locations": {name: str(home / name) for name in ("instruments", "backup", "output")}
        | {name: str(home / name) for name in ("settings", "software")},
        "defaults": {"copy_slots": 4},
        "instruments": {name: {"type": vendor} for name, vendor in INSTRUMENTS.items()},
    }
    for name in ("backup", "output", "settings", "software", "dagster"):
        (home / name).mkdir()
    (home / "software" / "search").write_text("#!/bin/sh\n")
    (home / "software" / "search").chmod(0o755)
    dagster: dict[str, object] = {"telemetry": {"enabled": False}}
    if url := os.environ.get("KRAKEN_BENCHMARK_POSTGRES"):
        dagster["storage"] = {"postgres": {"postgres_url": url}}
    (home / "dagster" / "dagster.yaml").write_text(yaml.safe_dump(dagster))
    path = home / "instruments.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def leave_backup_and_result(services: Services, raw_file: RawFile, result: Path) -> None:
    folder, instrument = (
        services.backup_folder(raw_file),
        services.instrument(raw_file.instrument_id),
    )
    names = (
        members_of(services, raw_file, instrument)
        if instrument.type != "sciex"
        else [member.format(raw_file.id.removesuffix(".wiff")) for member in MEMBERS["sciex1"]]
    )
    source = services.instrument_folder(raw_file.instrument_id)
    mapping = backup_mapping(instrument.type, raw_file.id, raw_file.original_name, names)
    for member, target in mapping.items():
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / member, folder / target)
    output = services.config.locations.output.path / planned_folder(raw_file, SEARCH)
    output.mkdir(parents=True)
    for path in result.iterdir():
        os.link(path, output / path.name)


def measured(
    home: Path, job: dg.JobDefinition, instrument: str, keys: list[str]
) -> tuple[float, float]:
    """CPU-seconds and seconds of a run over these files, which follow on each other.

    What the daemon does to create it, and its worker, started as the code server starts it.
    """
    before, began = cpu_seconds(), time.monotonic()
    job_origin = JobPythonOrigin(job.name, repository_origin=REPOSITORY.get_python_origin())
    tags = {
        "dagster/asset_partition_range_start": keys[0],
        "dagster/asset_partition_range_end": keys[-1],
        **CATCHUP_TAGS,
    }
    mode = {"config": {"output_exists_mode": "ASSOCIATE"}}
    with dg.DagsterInstance.get() as instance:
        run = instance.create_run_for_job(
            job,
            asset_selection=frozenset(asset_key(instrument, name) for name in ASSETS),
            tags=tags,
            run_config={"ops": {f"{instrument}__quant_job": mode}},
            job_code_origin=job_origin,
        )
        arguments = ExecuteRunArgs(
            job_origin=job_origin,
            run_id=run.run_id,
            instance_ref=instance.get_ref(),
            set_exit_code_on_failure=True,
        ).get_command_args()
    with (home / "runs.log").open("ab") as log:
        subprocess.run(arguments, stdout=log, stderr=log, check=True)
    return cpu_seconds() - before, time.monotonic() - began


def cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(item.ru_utime + item.ru_stime for item in used)


def prepared(home: Path, uri: str, path: Path) -> Services:
    """A laboratory with a search for each vendor, and a result that any job could have left."""
    store = connect(uri)
    store.prepare()
    store.catalog.add_settings(SEARCH, now=utc_now())
    for built_in in store.catalog.assigned(FALLBACK_PROJECT):
        store.catalog.unassign(built_in.id)
    for vendor in INSTRUMENTS.values():
        store.catalog.assign(FALLBACK_PROJECT, SEARCH, scope=vendor, now=utc_now())
    services = Services(config=load_config(path), store=store, engines={})
    mark_stores(services)
    raw = home / "raw"
    raw.write_bytes(b"raw" * 1000)
    search_program.main([str(raw), str(home / "result")])
    return services


class Costs(NamedTuple):
    """CPU-seconds a file."""

    a_run_each: float
    in_one_run: float


def benchmark(home: Path, uri: str, count: int) -> Costs:
    """Of `count` files on each instrument; what else was measured goes to standard error."""
    write_files(home, count)
    path = write_config(home, uri)
    services = prepared(home, uri, path)
    store = services.store
    keys: dict[str, list[str]] = {}
    registering = time.process_time()
    for instrument in INSTRUMENTS:
        register_all(services, instrument, CatchupOptions())
    registering = time.process_time() - registering
    os.environ |= {"DAGSTER_HOME": str(home / "dagster"), CONFIG_VARIABLE: str(path)}
    with dg.DagsterInstance.get() as instance:
        for instrument in INSTRUMENTS:
            files = store.raw_files.in_status(instrument, {Status.MONITORING_DONE})
            files.sort(key=lambda item: item.id)
            for item in files:
                leave_backup_and_result(services, item, home / "result")
            keys[instrument] = [partition_key(item.id) for item in files]
            add_partitions(instance, instrument, keys[instrument])
    job = REPOSITORY.get_definition().get_job("__ASSET_JOB")
    singles = [measured(home, job, name, [key]) for name in keys for key in keys[name][:SINGLE]]
    single = sum(cpu for cpu, _ in singles) / len(singles)
    rate_limit = 60 * len(singles) / sum(seconds for _, seconds in singles)
    say(f"a run each:  {single:.3f} CPU-s a file, {rate_limit:.0f} files a minute")
    cpu = seconds = files_done = 0.0
    for name, some in keys.items():
        used, took = measured(home, job, name, some[SINGLE:])
        cpu, seconds = cpu + used, seconds + took
        files_done += len(some) - SINGLE
        say(f"  {name}: {used / (len(some) - SINGLE):.4f} CPU-s a file")
    done = sum(len(store.raw_files.in_status(item, {Status.DONE})) for item in INSTRUMENTS)
    many, total = cpu / files_done, sum(map(len, keys.values()))
    say(f"registering: {registering / total:.4f} CPU-s a file")
    say(f"in one run:  {many:.4f} CPU-s a file, {60 * files_done / seconds:.0f} files a minute")
    say(f"ratio {single / many:.0f}; {done} of {total} files are done")
    return Costs(single, many)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as name:
        server = ensure_running(Path(name) / "mongodb")
        try:
            benchmark(
                Path(name), database_uri(server.uri, "benchmark"), -(-count // len(INSTRUMENTS))
            )
        finally:
            log = Path(name) / "runs.log"
            if os.environ.get("KRAKEN_KEEP_LOG") and log.exists():
                shutil.copyfile(log, os.environ["KRAKEN_KEEP_LOG"])
            server.stop()


if __name__ == "__main__":
    main()
