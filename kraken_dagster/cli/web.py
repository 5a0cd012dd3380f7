"""`kraken web`: the laboratory's page."""

from pathlib import Path

import click

from kraken_dagster.cli.common import open_services, reported, say
from kraken_dagster.config.dagit import LOOPBACK
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.dagit.access import PAGE, Access
from kraken_dagster.model.errors import ConfigError
from kraken_dagster.operations.supervisor import Program
from kraken_dagster.web import start

PORT = 8080


@click.command()
@click.option("--port", default=PORT, show_default=True, help="The page's port on this machine.")
@click.option(
    "--host",
    default=LOOPBACK,
    show_default=True,
    help="The address that it listens on; another needs `dagit` in instruments.yaml.",
)
@click.option(
    "--root-path", default="", help="The path at which a reverse proxy shows it, like /kraken."
)
@click.pass_obj
@reported
def web(path: Path, port: int, host: str, root_path: str) -> None:
    """Serve the laboratory's page: instruments, files and metrics, in a browser."""
    # Takes a second, which other commands need not wait for.
    from kraken_dagster.web.column_config import columns_of  # noqa: PLC0415
    from kraken_dagster.web.serve import serve  # noqa: PLC0415

    if root_path and not root_path.startswith("/"):
        raise click.UsageError(f"--root-path begins with /, found {root_path!r}")
    services = open_services(path)
    place = start.place_of(services.config, host, port, root_path=root_path)
    start.require_free(place, options="--port or --host")
    choice, access = columns_of(services.config), Access(services.config.home)
    access.prepare(place.url, of=PAGE)
    say(start.announcement(place, access)())
    serve(services, place, choice)


def page_of(config: KrakenConfig, path: Path, host: str, port: int | None) -> list[Program]:
    """The page as `kraken up` starts it; none with port 0.

    Args:
        port: None is 8080, and no page where that is taken: Kraken goes on without one.

    Raises:
        ConfigError: it can't listen where it was asked to.
    """
    if port == 0:
        return []
    place = start.place_of(config, host, PORT if port is None else port, option="--web-host")
    try:
        start.require_free(place, options="--web-port or --web-host")
    except ConfigError as error:
        if port is not None:
            raise
        say(f"kraken: no page is served. {error}", err=True)
        return []
    return [start.program(place, path, config.home)]
