"""A monitor that is ended by SIGKILL in the middle of a look, right before it writes something."""

import os
import signal
from collections.abc import Mapping
from datetime import datetime
from multiprocessing import get_context
from typing import Any

from pymongo import monitoring

from kraken_dagster.alerts.monitor import SENSOR, scan
from kraken_dagster.alerts.snapshot import DagsterFacts
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.connection import connect

_WRITES = ("insert", "update", "delete", "findAndModify")
# Its helper is a process with these modules and no thread, so that a fork of it is a safe one.
_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])


class _Kills(monitoring.CommandListener):
    def __init__(self, before: int) -> None:
        self.left = before

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        self.left -= event.command_name in _WRITES
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None: ...

    def failed(self, event: monitoring.CommandFailedEvent) -> None: ...


def _look(
    config: KrakenConfig,
    facts: DagsterFacts | None,
    now: datetime,
    environment: Mapping[str, str],
    before: int,
) -> None:
    monitoring.register(_Kills(before))
    services = Services(
        config=config, store=connect(config.mongodb.uri), engines={}, now=lambda: now
    )
    dagster: Any = None if facts is None else lambda: facts
    scan(services, dagster=dagster, by=SENSOR, environment=environment)


def killed_look(
    services: Services,
    facts: DagsterFacts | None,
    *,
    before: int,
    environment: Mapping[str, str] | None = None,
) -> bool:
    """Looks in a process that is killed before its n-th write; False if it had fewer."""
    arguments = (services.config, facts, services.now(), environment or {}, before)
    process = _CONTEXT.Process(target=_look, args=arguments)
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL), process.exitcode
    return process.exitcode != 0
