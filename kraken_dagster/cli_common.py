"""What the modules of the `kraken` command share: how they find their world, and how they print."""

import json
import sys
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kraken_dagster.clients.config_file import load_config
from kraken_dagster.clients.engines import make_engines
from kraken_dagster.domain.config import KrakenConfig
from kraken_dagster.domain.errors import KrakenError
from kraken_dagster.homes import require_own_homes
from kraken_dagster.steps.world import World
from resources.store import StoreResource

_WIDTH_WITHOUT_TERMINAL = 240
_COLORS = {"ok": "green", "warning": "yellow", "error": "red", "done": "green"}


def told(function: Callable[..., None]) -> Callable[..., None]:
    """Prints the project's errors as they are, and exits with 1."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except KrakenError as error:
            click.echo(f"kraken: {error}", err=True)
            sys.exit(1)

    return call


json_option = click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")


def own_config(path: Path) -> KrakenConfig:
    """The configuration of a command, whose homes are no other's.

    Raises:
        ConfigError
    """
    config = load_config(path)
    require_own_homes(config, path)
    return config


def open_world(path: Path) -> World:
    config = own_config(path)
    store = StoreResource(home=str(config.home)).create_store(config.mongodb.uri)
    engines = make_engines(config.engines, config.home)
    return World(config=config, store=store, engines=engines)


def print_table(rows: list[dict[str, Any]], columns: list[str]) -> None:
    console = Console(width=None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL)
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(_cell(row.get(name)) for name in columns))
    console.print(table)


def _cell(value: Any) -> Text:
    shown = printable(value)
    return Text(shown, style=_COLORS.get(shown, ""))


def printable(value: Any) -> str:
    """A value for a terminal: names from disks keep their control characters to themselves."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(value))


def print_json(value: Any) -> None:
    def plain(item: Any) -> str:
        return item.isoformat() if isinstance(item, datetime) else str(item)

    click.echo(json.dumps(value, default=plain, indent=2))
