"""Dagster's sensors of the instruments: which are on, and switching them on or off.

The code locations are loaded for it, as Dagster's own commands do: of a sensor that was never
switched Dagster's storage knows nothing.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg

from kraken_dagster.config.loader import CONFIG_VARIABLE
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.errors import ConfigError
from kraken_dagster.operations.dagster_home import prepare_dagster
from kraken_dagster.operations.site_files import beside
from kraken_dagster.orchestration.dagster_internals import (
    WorkspaceOpts,
    WorkspaceProcessContext,
    workspace_opts_to_load_target,
)
from kraken_dagster.orchestration.partitions import TAG_INSTRUMENT
from kraken_dagster.runtime.homes import DAGSTER_HOME, dagster_home


@dataclass(frozen=True)
class Sensor:
    """`instrument` is None for one that serves all."""

    name: str
    instrument: str | None
    is_on: bool
    last_tick: datetime | None
    description: str


class Switchboard:
    """The sensors of all code locations."""

    def __init__(self, instance: dg.DagsterInstance, repositories: Sequence[Any]) -> None:
        self._instance = instance
        self._remote = {item.name: item for one in repositories for item in one.get_sensors()}

    def sensors(self, named: str | None = None) -> list[Sensor]:
        """All, or those of an instrument, or the one of that name, by name.

        Raises:
            ConfigError: there is none such.
        """
        found = [self._seen(item) for _, item in sorted(self._remote.items())]
        if named is None:
            return found
        chosen = [item for item in found if named in (item.instrument, item.name)]
        if not chosen:
            raise ConfigError(
                "No such instrument or sensor",
                expected=f"one of {', '.join(item.name for item in found)}, or an instrument",
                found=named,
                next_step="`kraken sensors list` shows all.",
            )
        return chosen

    def switch(self, sensor: Sensor, *, on: bool) -> None:
        """The same as its switch in Dagit."""
        remote = self._remote[sensor.name]
        if on:
            self._instance.start_sensor(remote)
        else:
            self._instance.stop_sensor(remote.get_remote_origin_id(), remote.selector_id, remote)

    def _seen(self, remote: Any) -> Sensor:
        stored = self._instance.get_instigator_state(
            remote.get_remote_origin_id(), remote.selector_id
        )
        state = remote.get_current_instigator_state(stored)
        ticked = getattr(state.instigator_data, "last_tick_timestamp", None)
        return Sensor(
            name=remote.name,
            instrument=remote.tags.get(TAG_INSTRUMENT),
            is_on=state.is_running,
            last_tick=None if ticked is None else datetime.fromtimestamp(ticked, UTC),
            description=remote.description or "",
        )


@contextmanager
def _environment(of_code_servers: Mapping[str, str]) -> Iterator[None]:
    """What the processes that load code locations find in their environment."""
    before = dict(os.environ)
    os.environ.update(of_code_servers)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def switchboard(config: KrakenConfig, config_path: Path) -> Iterator[Switchboard]:
    """
    Raises:
        ConfigError: a code location can't be loaded.
    """
    home = dagster_home(config)
    prepare_dagster(home, config, config_path)
    workspace = beside(config_path, "workspace.yaml", spare_folder=home)
    target = workspace_opts_to_load_target(WorkspaceOpts(workspace=(str(workspace),)))
    with (
        _environment({DAGSTER_HOME: str(home), CONFIG_VARIABLE: str(config_path)}),
        dg.DagsterInstance.get() as instance,
        WorkspaceProcessContext(
            instance, version=dg.__version__, workspace_load_target=target
        ) as context,
    ):
        loaded = context.create_request_context()
        errors = loaded.code_location_errors()
        if errors:
            raise ConfigError(
                "A code location can't be loaded",
                file=workspace,
                found=errors[0].message.strip().splitlines()[-1],
                next_step="`kraken doctor` says what is wrong with the configuration.",
            )
        yield Switchboard(
            instance,
            [item for one in loaded.code_locations for item in one.get_repositories().values()],
        )
