"""What a tick of a watcher costs over a folder of many files of which five are new.

CPU-seconds of this process and its children, without the database server's, for a small and a big
folder, each with few and with many documents of other files in MongoDB; and the ratios.

    python benchmarks/watcher_tick.py [FILES] [DOCUMENTS]
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import dagster as dg
from cpu_time import cpu
from dagster._core.definitions.partitions.context import partition_loading_context

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.definitions import build_defs
from kraken_dagster.model.raw_file import InstrumentFileStatus, RawFile, Status
from kraken_dagster.runtime.services import utc_now
from kraken_dagster.store.connection import Store, connect
from kraken_dagster.store.embedded.server import ensure_running
from kraken_dagster_tests.support.helpers import database_uri

NEW = 5
AT_ONCE = 5000


def config_of(folder: Path, uri: str) -> KrakenConfig:
    for name in ("instruments/thermo1", "backup", "output"):
        (folder / name).mkdir(parents=True)
    return KrakenConfig.model_validate(
        {
            "mongodb": {"uri": uri},
            "home": folder / "home",
            "locations": {name: str(folder / name) for name in ("instruments", "backup", "output")},
            "instruments": {"thermo1": {"type": "thermo"}},
        }
    )


def write(folder: Path, names: list[str]) -> None:
    for name in names:
        (folder / name).write_bytes(b"x")


def know(store: Store, names: list[str], sizes: int = 1) -> None:
    """Documents of files that have ended."""
    now = utc_now()
    for start in range(0, len(names), AT_ONCE):
        store.raw_files.register_many(
            [
                RawFile(
                    id=name,
                    original_name=name,
                    instrument_id="thermo1",
                    status=Status.DONE_NOT_QUANTED,
                    instrument_file_status=InstrumentFileStatus.INITIAL,
                    created_at=now,
                    created_at_=now,
                    updated_at_=now,
                    acquisition={"ended_size": sizes, "looked_at": now},
                )
                for name in names[start : start + AT_ONCE]
            ],
            reason="benchmark",
        )


def ticks(folder: Path, uri: str, *, files: int, documents: int) -> float:
    """CPU-seconds of a tick, the median of five, each with five new files."""
    config = config_of(folder, uri)
    store = connect(uri)
    store.prepare()
    standing = [f"standing_{number:06d}.raw" for number in range(files)]
    write(folder / "instruments" / "thermo1", standing)
    know(store, standing)
    know(store, [f"gone_{number:06d}.raw" for number in range(documents - files)])
    repository = build_defs(config).get_repository_def()
    used = []
    with dg.DagsterInstance.ephemeral() as instance:
        for turn in range(6):
            new = [f"new_{turn}_{number}.raw" for number in range(NEW)]
            write(folder / "instruments" / "thermo1", new)
            context = dg.build_sensor_context(
                instance=instance,
                repository_def=repository,
                sensor_name="thermo1_watcher",
                resources=repository.get_top_level_resources(),
            )
            before = cpu()
            with context, partition_loading_context(dynamic_partitions_store=instance):
                repository.get_sensor_def("thermo1_watcher").evaluate_tick(context)
            used.append(cpu() - before)
            time.sleep(0.01)  # the next look is at another millisecond
    store.close()
    return sorted(used[1:])[2]


def main() -> None:
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    documents = int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
    found: dict[tuple[int, int], float] = {}
    with tempfile.TemporaryDirectory() as name:
        server = ensure_running(Path(name) / "mongodb")
        try:
            for standing, known in ((files // 10, files), (files, files), (files, documents)):
                folder = Path(name) / f"{standing}_{known}"
                folder.mkdir()
                uri = database_uri(server.uri, f"benchmark_{standing}_{known}")
                used = ticks(folder, uri, files=standing, documents=known)
                found[standing, known] = used
                print(f"{standing} files, {known} documents: {used:.3f} CPU-s a tick", flush=True)
        finally:
            server.stop()
    few, many, full = found.values()
    print(f"10 times the files: {many / few:.1f} times; all the documents: {full / many:.2f} times")


if __name__ == "__main__":
    main()
