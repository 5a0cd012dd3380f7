"""What `kraken up` needs to know to start Dagit, and what it tells of it."""

import os
import sys
from pathlib import Path

from kraken_dagster.config.dagit import Place, Role
from kraken_dagster.dagit.access import LINK_LIVES_FOR, Access
from kraken_dagster.fs.processes.child_processes import is_free
from kraken_dagster.model.errors import ConfigError
from kraken_dagster.runtime.services import utc_now


def check(place: Place) -> None:
    """
    Raises:
        ConfigError: Dagit can't listen there, or must not.
    """
    place.check()
    for path in (place.settings.certificate, place.settings.private_key):
        if path is not None and not os.access(path, os.R_OK):
            raise ConfigError(
                "Dagit's certificate or its key can't be read",
                file=path,
                next_step="correct `dagit` in instruments.yaml, or the rights of the file.",
            )
    if not is_free(place.port, place.host):
        raise ConfigError(
            "Dagit can't listen there: the port is taken, or the address is not this machine's",
            found=f"{place.host}, port {place.port}",
            next_step="end what listens there, or choose another with --port or --host.",
        )


def command(place: Place, config_path: Path, workspace: str) -> list[str]:
    return [
        # -P: what stands in the working directory is nobody's module
        *(sys.executable, "-P", "-m", "kraken_dagster.dagit.serve"),
        *("--config", str(config_path), "--workspace", workspace),
        *("--host", place.host, "--port", str(place.port)),
    ]


def announcement(place: Place, access: Access) -> str:
    """Where Dagit is, and a link that logs in whoever opens it first.

    Raises:
        ConfigError: the folder with the logins can't be written to.
    """
    link = access.new_link(Role.OPERATOR, now=utc_now())
    hours = LINK_LIVES_FOR.total_seconds() / 3600
    return f"Dagit: {place.url}, to log in once, within {hours:g} h: {link}"
