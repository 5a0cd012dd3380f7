"""What catching up costs a file whose backup and result are there: proven, and associated.

Small files of three vendors. All five assets of every file are materialised, first by a run and a
process for each of a few files, then by one run for all files of an instrument. Prints CPU-seconds
a file (of the runs' processes; not the database servers'), files a minute, and the ratio of both
ways. Dagster's storage is SQLite, which can't write events in batches, or the PostgreSQL that
KRAKEN_BENCHMARK_POSTGRES names as a URL; that needs dagster-postgres.

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

import dagster as dg
import yaml

from kraken_dagster.clients.config_file import load_config
from kraken_dagster.clients.embedded import ensure_running
from kraken_dagster.clients.store.connection import connect
from kraken_dagster.definitions import build_defs
from kraken_dagster.domain.raw_file import FALLBACK_PROJECT, RawFile, Status, partition_key
from kraken_dagster.domain.settings import Settings
from kraken_dagster.domain.vendors import backup_mapping
from kraken_dagster.partitions import ASSETS, CATCHUP, TAG_STEP, add_partitions, asset_key
from kraken_dagster.simulation import standin
from kraken_dagster.steps.catchup import CatchupOptions, register_all
from kraken_dagster.steps.outputs import planned_folder
from kraken_dagster.steps.source import members_of
from kraken_dagster.steps.world import World, utc_now

INSTRUMENTS = {"thermo1": "thermo", "bruker1": "bruker", "sciex1": "sciex"}
MEMBERS = {
    "thermo1": ("{}.raw",),
    "bruker1": ("{}.d/analysis.tdf_bin", "{}.d/analysis.tdf"),
    "sciex1": ("{}.wiff", "{}.wiff.scan"),
}
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


def leave_backup_and_result(world: World, raw_file: RawFile, result: Path) -> None:
    folder, instrument = world.backup_folder(raw_file), world.instrument(raw_file.instrument_id)
    names = (
        members_of(world, raw_file, instrument)
        if instrument.type != "sciex"
        else [member.format(raw_file.id.removesuffix(".wiff")) for member in MEMBERS["sciex1"]]
    )
    source = world.instrument_folder(raw_file.instrument_id)
    mapping = backup_mapping(instrument.type, raw_file.id, raw_file.original_name, names)
    for member, target in mapping.items():
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / member, folder / target)
    output = world.config.locations.output.path / planned_folder(raw_file, SEARCH)
    output.mkdir(parents=True)
    for path in result.iterdir():
        os.link(path, output / path.name)


def run(config: Path, instrument: str, first: str, last: str) -> None:
    """What a run's worker does: loads the definitions, and executes the run."""
    repository = build_defs(load_config(config)).get_repository_def()
    job = repository.get_job("__ASSET_JOB")
    tags = {
        "dagster/asset_partition_range_start": first,
        "dagster/asset_partition_range_end": last,
        TAG_STEP: CATCHUP,
    }
    mode = {"config": {"output_exists_mode": "ASSOCIATE"}}
    with dg.DagsterInstance.get() as instance:
        result = job.execute_in_process(
            instance=instance,
            asset_selection=[asset_key(instrument, name) for name in ASSETS],
            tags=tags,
            run_config={"ops": {f"{instrument}__quant_job": mode}},
            raise_on_error=False,
        )
    sys.exit(0 if result.success else 1)


def measured(home: Path, instrument: str, keys: list[str]) -> tuple[float, float]:
    """CPU-seconds and seconds of a run over these files, which follow on each other."""
    command = [sys.executable, __file__, "--run", str(home / "instruments.yaml"), instrument]
    environment = {**os.environ, "DAGSTER_HOME": str(home / "dagster")}
    environment.setdefault("DAGSTER_EVENT_BATCH_SIZE", "500")
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with (home / "runs.log").open("ab") as log:
        subprocess.run(
            [*command, keys[0], keys[-1]], env=environment, stdout=log, stderr=log, check=True
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.monotonic() - began


def benchmark(home: Path, uri: str, count: int) -> None:
    write_files(home, count)
    config = load_config(write_config(home, uri))
    store = connect(uri)
    store.prepare()
    store.catalog.add_settings(SEARCH, now=utc_now())
    for built_in in store.catalog.assigned(FALLBACK_PROJECT):
        store.catalog.unassign(built_in.id)
    for vendor in INSTRUMENTS.values():
        store.catalog.assign(FALLBACK_PROJECT, SEARCH, scope=vendor, now=utc_now())
    world = World(config=config, store=store, engines={})
    raw = home / "raw"
    raw.write_bytes(b"raw" * 1000)
    standin.main([str(raw), str(home / "result")])
    keys: dict[str, list[str]] = {}
    registering = time.process_time()
    for instrument in INSTRUMENTS:
        register_all(world, instrument, CatchupOptions())
    registering = time.process_time() - registering
    os.environ["DAGSTER_HOME"] = str(home / "dagster")
    with dg.DagsterInstance.get() as instance:
        for instrument in INSTRUMENTS:
            files = store.raw_files.in_status(instrument, {Status.MONITORING_DONE})
            files.sort(key=lambda item: item.id)
            for item in files:
                leave_backup_and_result(world, item, home / "result")
            keys[instrument] = [partition_key(item.id) for item in files]
            add_partitions(instance, instrument, keys[instrument])
    singles = [measured(home, name, [key]) for name in keys for key in keys[name][:SINGLE]]
    single = sum(cpu for cpu, _ in singles) / len(singles)
    pace = 60 * len(singles) / sum(seconds for _, seconds in singles)
    print(f"a run each:  {single:.3f} CPU-s a file, {pace:.0f} files a minute", flush=True)
    cpu = seconds = files_done = 0.0
    for name, some in keys.items():
        used, took = measured(home, name, some[SINGLE:])
        cpu, seconds = cpu + used, seconds + took
        files_done += len(some) - SINGLE
        print(f"  {name}: {used / (len(some) - SINGLE):.4f} CPU-s a file", flush=True)
    done = sum(len(store.raw_files.in_status(item, {Status.DONE})) for item in INSTRUMENTS)
    many, total = cpu / files_done, sum(map(len, keys.values()))
    print(f"registering: {registering / total:.4f} CPU-s a file")
    print(f"in one run:  {many:.4f} CPU-s a file, {60 * files_done / seconds:.0f} files a minute")
    print(f"ratio {single / many:.0f}; {done} of {total} files are done")


def main() -> None:
    if sys.argv[1:2] == ["--run"]:
        run(Path(sys.argv[2]), *sys.argv[3:6])
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as name:
        server = ensure_running(Path(name) / "mongodb")
        try:
            benchmark(Path(name), f"{server.uri}benchmark", -(-count // len(INSTRUMENTS)))
        finally:
            log = Path(name) / "runs.log"
            if os.environ.get("KRAKEN_KEEP_LOG") and log.exists():
                shutil.copyfile(log, os.environ["KRAKEN_KEEP_LOG"])
            server.stop()


if __name__ == "__main__":
    main()
