"""What `kraken up` needs to know to start the page, without what serves it."""

import sys
from collections.abc import Callable
from pathlib import Path

from kraken_dagster.config.dagit import Place, Role
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.dagit.access import LINK_LIVES_FOR, PAGE, Access
from kraken_dagster.fs.processes.child_processes import is_free
from kraken_dagster.model.errors import ConfigError
from kraken_dagster.operations.supervisor import Program
from kraken_dagster.runtime.services import utc_now


def place_of(
    config: KrakenConfig,
    host: str,
    port: int,
    *,
    root_path: str = "",
    option: str = "--host",
    name: str = "The page",
) -> Place:
    """Where the page listens; it is opened to others by the same settings as Dagit.

    Raises:
        ConfigError: others could read along, or nobody would be let in.
    """
    names = [name.partition(":")[0] for name in config.dagit.hosts]  # a port there is Dagit's
    settings = config.dagit.model_copy(update={"hosts": names})
    place = Place(settings, host, port, name, root_path.rstrip("/"), option)
    place.check()
    return place


def require_free(place: Place, *, options: str) -> None:
    """
    Raises:
        ConfigError: the page can't listen there.
    """
    if not is_free(place.port, place.host):
        raise ConfigError(
            f"{place.name} can't listen there: the port is taken, or the address is not this "
            "machine's",
            found=f"{place.host}, port {place.port}",
            next_step=f"end what listens there, or choose another with {options}.",
        )


def program(place: Place, config_path: Path, home: Path) -> Program:
    """The page as one of the programs of `kraken up`."""
    command = [
        # -P: what stands in the working directory is nobody's module
        *(sys.executable, "-P", "-m", "kraken_dagster.web.serve"),
        *("--config", str(config_path), "--host", place.host, "--port", str(place.port)),
        *("--root-path", place.root_path),
    ]
    return Program("web", command, place.connects_to, announcement(place, Access(home)))


def announcement(place: Place, access: Access) -> Callable[[], str]:
    """Where the page is, and a link that logs in whoever opens it first.

    Raises, when it is called:
        ConfigError: the folder with the logins can't be written to.
    """

    def say() -> str:
        link = access.new_link(Role.OPERATOR, now=utc_now(), to=PAGE)
        hours = LINK_LIVES_FOR.total_seconds() / 3600
        return f"page: {place.url}, to log in once, within {hours:g} h: {link}"

    return say
