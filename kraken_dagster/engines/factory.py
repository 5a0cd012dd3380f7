"""Makes the engines that instruments.yaml names."""

from collections.abc import Mapping
from pathlib import Path

from kraken_dagster.config.engines import Engine as EngineEntry
from kraken_dagster.config.engines import SlurmEngine
from kraken_dagster.engines.local import LocalJobs
from kraken_dagster.engines.slurm import slurm
from kraken_dagster.model.ports import Engine


def make_engines(entries: Mapping[str, EngineEntry], home: Path) -> dict[str, Engine]:
    """One for each name; nothing is connected yet. Jobs of this machine are kept below `home`."""
    return {
        name: slurm(entry) if isinstance(entry, SlurmEngine) else LocalJobs(home / "jobs" / name)
        for name, entry in entries.items()
    }
