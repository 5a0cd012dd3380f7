"""The process that serves Dagit behind the guard; `kraken up` starts it.

Dagit itself is Dagster's, twice over one workspace: for operators, and for viewers, without any
right to change something.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from dagster import DagsterInstance
from dagster_webserver.app import create_app_from_workspace_process_context
from dagster_webserver.version import __version__

from kraken_dagster.config.dagit import LOOPBACK, Place
from kraken_dagster.config.loader import load_config
from kraken_dagster.dagit.access import Access
from kraken_dagster.dagit.graphql_guard import DagitGuard
from kraken_dagster.dagit.guard import Guard
from kraken_dagster.dagit.listening import listen, log_to_stderr
from kraken_dagster.dagit.workspace import Workspace
from kraken_dagster.orchestration.dagster_internals import (
    IWorkspaceProcessContext,
    WorkspaceOpts,
    WorkspaceProcessContext,
    WorkspaceRequestContext,
    configure_loggers,
    workspace_opts_to_load_target,
)

_POLL_MS = 2000
_STATEMENT_TIMEOUT_MS = 15_000
_RECYCLE_S = 3600
_MAX_OVERFLOW = 20


class ReadOnly(IWorkspaceProcessContext[WorkspaceRequestContext]):
    """The same workspace and code servers, for requests that may change nothing."""

    def __init__(self, whole: WorkspaceProcessContext) -> None:
        self._whole = whole

    def create_request_context(self, source: Any | None = None) -> WorkspaceRequestContext:
        return WorkspaceRequestContext(
            instance=self._whole.instance,
            current_workspace=self._whole.get_current_workspace(),
            process_context=self,
            version=self._whole.version,
            source=source,
            read_only=True,
        )

    @property
    def version(self) -> str:
        return self._whole.version

    @property
    def instance(self) -> DagsterInstance:
        return self._whole.instance

    def reload_code_location(self, name: str) -> None:
        raise PermissionError(name)

    def reload_workspace(self) -> None:
        raise PermissionError

    def refresh_workspace(self) -> None:
        raise PermissionError


def guarded(context: WorkspaceProcessContext, place: Place, access: Access) -> Guard:
    """Dagit for operators and for viewers, behind one door."""
    applications = [
        create_app_from_workspace_process_context(item, live_data_poll_rate=_POLL_MS)
        for item in (context, ReadOnly(context))
    ]
    return DagitGuard(place, access, operating=applications[0], looking=applications[1])


@click.command()
@click.option("--config", type=click.Path(path_type=Path), required=True)
@click.option("--workspace", multiple=True, required=True)
@click.option("--host", default=LOOPBACK)
@click.option("--port", type=int, required=True)
def main(config: Path, workspace: Sequence[str], host: str, port: int) -> None:
    """Serve Dagit until SIGTERM."""
    if sys.stdout.isatty():
        configure_loggers(formatter="colored", log_level="INFO")
    log_to_stderr()
    settings = load_config(config)
    place = Place(settings.dagit, host, port)
    place.check()
    target = workspace_opts_to_load_target(WorkspaceOpts(workspace=workspace))
    with DagsterInstance.get() as instance:
        instance.optimize_for_webserver(_STATEMENT_TIMEOUT_MS, _RECYCLE_S, _MAX_OVERFLOW)
        with Workspace(instance, version=__version__, workspace_load_target=target) as context:
            listen(guarded(context, place, Access(settings.home)), place)


if __name__ == "__main__":
    main()
