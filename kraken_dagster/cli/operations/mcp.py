"""`kraken mcp`: Kraken's tools for assistants, by the Model Context Protocol."""

import os
import signal
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

import click

from kraken_dagster.cli import INTERRUPTED
from kraken_dagster.cli.common import open_services, reported, say
from kraken_dagster.config.dagit import LOOPBACK
from kraken_dagster.model.errors import ConfigError
from kraken_dagster.web import start

PORT = 8765


@click.command()
@click.option("--http", is_flag=True, help="Listen on a port, in place of standard input.")
@click.option("--port", default=PORT, show_default=True, help="With --http: the port.")
@click.option(
    "--host",
    default=LOOPBACK,
    show_default=True,
    help="With --http: the address; another needs `dagit` in instruments.yaml, and tokens.",
)
@click.pass_obj
@reported
def mcp(path: Path, *, http: bool, port: int, host: str) -> None:
    """Answer assistants by the Model Context Protocol (MCP); they can change nothing."""
    services = open_services(path)
    if find_spec("mcp") is None:
        raise ConfigError(
            "The server for assistants needs the package mcp",
            next_step="pip install 'kraken-dagster[mcp]'.",
        )
    # Takes a second, which other commands need not wait for.
    from kraken_dagster.web.mcp.serving import PATH, serve_http, serve_stdio  # noqa: PLC0415

    if not http:
        signal.signal(signal.SIGINT, _end)
        serve_stdio(services)
        return
    place = start.place_of(services.config, host, port, name="The server for assistants")
    start.require_free(place, options="--port or --host")
    say(f"MCP: {place.url}{PATH}", err=True)
    serve_http(services, place)


def _end(_number: int, _frame: FrameType | None) -> None:
    """Ctrl-C: an ordinary end would wait for a line of standard input. Nothing is half done."""
    os.write(2, f"\n{INTERRUPTED}\n".encode())
    os._exit(1)
