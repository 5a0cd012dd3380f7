"""`kraken up`: everything that Kraken consists of, on this machine."""

from functools import partial
from pathlib import Path

import click

from kraken_dagster.cli.common import PORT, errors_of_the_system, own_config, reported
from kraken_dagster.cli.web import page_of
from kraken_dagster.config.dagit import LOOPBACK
from kraken_dagster.operations.supervisor import Supervisor, run_until_stopped


@click.command()
@click.option(
    "--port", default=3000, show_default=True, type=PORT, help="Dagit's port on this machine."
)
@click.option(
    "--host",
    default=LOOPBACK,
    show_default=True,
    help="The address that Dagit listens on; another needs `dagit` in instruments.yaml.",
)
@click.option("--web-port", type=int, help="The page's port: 8080, if it is free. 0: no page.")
@click.option(
    "--web-host", default=LOOPBACK, show_default=True, help="The same as --host, for the page."
)
@click.option("--verbose", is_flag=True, help="Also what the daemon does at every tick.")
@click.pass_obj
@reported
def up(
    path: Path, *, port: int, host: str, web_port: int | None, web_host: str, verbose: bool
) -> None:
    """Start MongoDB if none is configured, Dagit, the page and the daemon; end them with Ctrl-C."""
    config = own_config(path)
    page = partial(page_of, config, path, web_host, web_port)
    with errors_of_the_system(config.home):
        supervisor = Supervisor(
            config, path, port=port, host=host, find_programs=page, is_verbose=verbose
        )
        run_until_stopped(supervisor)
