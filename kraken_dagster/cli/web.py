"""`kraken web`: the laboratory's page."""

from pathlib import Path

import click

from kraken_dagster.cli.common import open_services, reported, say
from kraken_dagster.config.dagit import LOOPBACK
from kraken_dagster.dagit.access import Access
from kraken_dagster.fs.child_processes import is_free
from kraken_dagster.model.errors import ConfigError

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
    """Serve the laboratory's page: instruments, files and figures, in a browser."""
    # Takes a second, which other commands need not wait for.
    from kraken_dagster.web.column_config import columns_of  # noqa: PLC0415
    from kraken_dagster.web.serve import announcement, place_of, serve  # noqa: PLC0415

    services = open_services(path)
    root_path = root_path.rstrip("/")
    if root_path and not root_path.startswith("/"):
        raise click.UsageError(f"--root-path begins with /, found {root_path!r}")
    place = place_of(services.config, host, port, root_path)
    place.check()
    if not is_free(port, host):
        raise ConfigError(
            "The page can't listen there: the port is taken, or the address is not this machine's",
            found=f"{host}, port {port}",
            next_step="end what listens there, or choose another with --port or --host.",
        )
    choice = columns_of(services.config)
    say(announcement(place, Access(services.config.home)))
    serve(services, place, choice)
