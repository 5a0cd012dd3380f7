"""What `kraken doctor` can tell of a configuration alone: no mount, MongoDB or cluster is asked."""

from collections.abc import Callable, Iterator
from pathlib import Path

import yaml
from dagster import DagsterError
from dagster_shared.check import CheckError
from yaml import YAMLError

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.metrics.limited import require_loadable
from kraken_dagster.model.errors import OwnFunctionError
from kraken_dagster.operations.doctor.finding import Finding
from kraken_dagster.orchestration.dagster_internals import (
    dagster_instance_config,
    location_origins_from_yaml_paths,
)

_LONGEST = 300
_MANY_INSTRUMENTS = 20


def examine_offline(config: KrakenConfig, config_path: Path) -> list[Finding]:
    """Every check that needs nothing but the configuration and what is installed."""
    return [
        *_configuration(config),
        *_of_dagster(config_path),
        *_dagster_storage(config, config_path),
        *_metrics(config),
    ]


def left_out(config: KrakenConfig) -> Finding:
    """What an examination without mounts, MongoDB and clusters says nothing of."""
    engines = [f"engine {name}" for name in config.engines]
    what = ", ".join(["backup", "output", "MongoDB", "clocks", *engines, *config.instruments])
    return Finding("skipped", "--offline", f"not looked at: {what}")


def _configuration(config: KrakenConfig) -> Iterator[Finding]:
    names = ", ".join(config.instruments) or "no instruments"
    yield Finding("ok", "configuration", f"read: {names}")
    if config.simulation is not None:
        speed = config.simulation.speed
        yield Finding("warning", "simulation", f"the instruments are simulated, clock x{speed:g}")
    if not config.mongodb.uri and config.simulation is None and len(config.instruments) > 1:
        yield Finding(
            "warning",
            "MongoDB",
            "several instruments on the embedded server, which its authors call beta; set "
            "mongodb.uri to a real MongoDB for production",
        )


def _of_dagster(config_path: Path) -> Iterator[Finding]:
    """The site's own files for Dagster, where there are any."""
    checks: dict[str, Callable[[Path], object]] = {
        "dagster.yaml": lambda path: dagster_instance_config(str(path.parent)),
        "workspace.yaml": lambda path: location_origins_from_yaml_paths([str(path)]),
    }
    for name, read in checks.items():
        path = config_path.parent / name
        if not path.exists():
            continue
        try:
            read(path)
        except (DagsterError, CheckError, YAMLError, OSError, UnicodeDecodeError) as error:
            reported = " ".join(str(error).split())
            reported = reported if len(reported) <= _LONGEST else f"{reported[:_LONGEST]}..."
            advice = "mend it, or delete it: Kraken brings one of its own"
            yield Finding("error", name, f"Dagster can't use {path}: {reported}; {advice}")
        else:
            yield Finding("ok", name, f"{path}: Dagster can read it")


def _dagster_storage(config: KrakenConfig, config_path: Path) -> Iterator[Finding]:
    """SQLite's one writer at a time is too few for the ticks of many instruments."""
    if len(config.instruments) < _MANY_INSTRUMENTS:
        return
    try:
        values = yaml.safe_load((config_path.parent / "dagster.yaml").read_text(encoding="utf-8"))
    except (OSError, YAMLError, UnicodeDecodeError):
        values = None
    if not isinstance(values, dict) or "storage" not in values:
        yield Finding(
            "warning",
            "Dagster's storage",
            f"SQLite, for {len(config.instruments)} instruments, which is too slow from "
            f"{_MANY_INSTRUMENTS} on; put it on PostgreSQL: copy `storage` from the dagster.yaml "
            "that `kraken init --postgres` writes",
        )


def _metrics(config: KrakenConfig) -> Iterator[Finding]:
    """Whether the site's own functions can be loaded, which runs their modules."""
    for metrics_type, name in config.metrics.items():
        what = f"metrics {metrics_type}"
        try:
            require_loadable(metrics_type, name, limits=config.reading_limits)
            yield Finding("ok", what, f"{name} can be called")
        except OwnFunctionError as error:
            yield Finding("error", what, str(error))
