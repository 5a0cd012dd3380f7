"""What is wrong with a configuration that no single field of it can tell."""

from collections.abc import Iterator
from pathlib import Path

from kraken_dagster.config.code_locations import location_problems
from kraken_dagster.config.engines import SlurmEngine
from kraken_dagster.config.instruments import PurgeProof
from kraken_dagster.config.quality_rules import unknown_instruments
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.errors import SettingsRefused
from kraken_dagster.model.metric_values import BUILT_IN_TYPES, TYPE_CUSTOM, TYPE_RAW
from kraken_dagster.store.uri import EXPECTED, is_understood

Problem = tuple[tuple[str, ...], str]


def problems(config: KrakenConfig) -> list[Problem]:
    """Pairs of the key that is wrong and what was expected."""
    return [
        *_of_mongodb(config),
        *_of_engines(config),
        *_of_metrics(config),
        *unknown_instruments(config.qc, config.all_instruments),
        *location_problems(config.code_locations, config.instruments),
        *_of_instruments(config),
    ]


def _of_mongodb(config: KrakenConfig) -> Iterator[Problem]:
    if config.mongodb.uri and not is_understood(config.mongodb.uri):
        yield ("mongodb", "uri"), f"expected {EXPECTED}"  # it may hold a password


def _of_engines(config: KrakenConfig) -> Iterator[Problem]:
    for name, engine in config.engines.items():
        if isinstance(engine, SlurmEngine):
            try:
                engine.resources.options()
            except SettingsRefused as error:
                yield ("engines", name), str(error)


def _of_metrics(config: KrakenConfig) -> Iterator[Problem]:
    taken = (BUILT_IN_TYPES - {TYPE_CUSTOM}) | {TYPE_RAW}
    for name, function in config.metrics.items():
        if name in taken:
            reported = f"a type of Kraken's own, found {function!r}; choose another name"
            yield ("metrics", name), reported


def _of_instruments(config: KrakenConfig) -> Iterator[Problem]:
    folders: dict[str, Path] = {}
    for instrument_id in config.instruments:
        entry, key = config.instrument(instrument_id), ("instruments", instrument_id)
        if entry.engine not in config.engines:
            reported = f"expected one of {sorted(config.engines)}, found {entry.engine!r}"
            yield (*key, "engine"), reported
        if entry.purge_proof is PurgeProof.LOCAL_AND_OFFSITE and config.offsite is None:
            yield (*key, "purge_proof"), "`local_and_offsite` needs the section `offsite`"
        path = entry.path
        assert path is not None
        for reported in (*_of_folder(path, folders), *_of_stores(path, config)):
            yield (*key, "path"), reported
        folders[instrument_id] = path


def _of_folder(path: Path, others: dict[str, Path]) -> Iterator[str]:
    """A folder within another's would be taken for an acquisition there."""
    for owner, other in others.items():
        if path == other:
            yield f"the folder of {owner!r} already: {path}"
        elif path in other.parents or other in path.parents:
            yield f"expected a folder apart from that of {owner!r}, {other}; found {path}"


def _of_stores(path: Path, config: KrakenConfig) -> Iterator[str]:
    roots = {"backup": config.locations.backup.path, "output": config.locations.output.path}
    for name, root in roots.items():
        if path == root or path in root.parents or root in path.parents:
            yield f"must not share a folder with locations.{name}: {root}"
