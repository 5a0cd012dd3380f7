"""Makes the engines that instruments.yaml names."""

from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path

from kraken_dagster.config.engines import Engine as EngineEntry
from kraken_dagster.config.engines import SlurmEngine
from kraken_dagster.engines.local import LocalJobs
from kraken_dagster.model.ports import Engine


class _Engines(MutableMapping[str, Engine]):
    """Each is made when it is first asked for: few commands ask one, and SSH is slow to import."""

    def __init__(self, entries: Mapping[str, EngineEntry], home: Path) -> None:
        self._entries, self._home = entries, home
        self._made: dict[str, Engine] = {}

    def __getitem__(self, name: str) -> Engine:
        if name not in self._made:
            self._made[name] = _make(self._entries[name], self._home / "jobs" / name)
        return self._made[name]

    def __setitem__(self, name: str, engine: Engine) -> None:
        self._made[name] = engine

    def __delitem__(self, name: str) -> None:
        raise NotImplementedError(f"{name}: an engine is removed from instruments.yaml")

    def __iter__(self) -> Iterator[str]:
        return iter({**self._entries, **self._made})

    def __len__(self) -> int:
        return len({**self._entries, **self._made})


def make_engines(entries: Mapping[str, EngineEntry], home: Path) -> MutableMapping[str, Engine]:
    """One for each name; nothing is connected yet. Jobs of this machine are kept below `home`."""
    return _Engines(entries, home)


def _make(entry: EngineEntry, folder: Path) -> Engine:
    if not isinstance(entry, SlurmEngine):
        return LocalJobs(folder)
    from kraken_dagster.engines.slurm import slurm  # noqa: PLC0415

    return slurm(entry)
