"""Makes the engines that instruments.yaml names."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from kraken_dagster.config.engines import Engine as EngineEntry
from kraken_dagster.config.engines import SlurmEngine
from kraken_dagster.engines.local import LocalJobs
from kraken_dagster.model.ports import Engine


class _Engines(Mapping[str, Engine]):
    """Each is made when it is first asked for: few commands ask one, and SSH is slow to import."""

    def __init__(self, entries: Mapping[str, EngineEntry], home: Path) -> None:
        self._entries, self._home = entries, home
        self._made: dict[str, Engine] = {}

    def __getitem__(self, name: str) -> Engine:
        if name not in self._made:
            self._made[name] = _make(self._entries[name], self._home / "jobs" / name)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def make_engines(entries: Mapping[str, EngineEntry], home: Path) -> Mapping[str, Engine]:
    """One for each name; nothing is connected yet. Jobs of this machine are kept below `home`."""
    return _Engines(entries, home)


def _make(entry: EngineEntry, folder: Path) -> Engine:
    if not isinstance(entry, SlurmEngine):
        return LocalJobs(folder)
    from kraken_dagster.engines.slurm import slurm  # noqa: PLC0415

    return slurm(entry)
