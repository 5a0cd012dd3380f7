"""`kraken sensors`: which of Dagster's sensors are on; switches them without Dagit."""

from pathlib import Path

import click

from kraken_dagster.cli.common import (
    json_option,
    open_services,
    own_config,
    print_json,
    print_table,
    reported,
    say,
)
from kraken_dagster.cli.shell.completion import complete_instruments
from kraken_dagster.model.errors import KrakenError
from kraken_dagster.monitoring.ticks import ticks

_named = click.argument(
    "named", metavar="[INSTRUMENT|SENSOR]", required=False, shell_complete=complete_instruments
)


@click.group()
def sensors() -> None:
    """Dagster's sensors: what looks at the instruments and at the jobs."""


@sensors.command("list")
@_named
@json_option
@click.pass_obj
@reported
def list_(path: Path, named: str | None, as_json: bool) -> None:
    """List the sensors, of one instrument or all: on or off, and when each last ticked."""
    from kraken_dagster.operations.sensors import switchboard  # noqa: PLC0415 - Dagster's

    config = own_config(path)
    recorded = _recorded(path)
    with switchboard(config, path) as board:
        rows = [
            {
                "sensor": item.name,
                "instrument": item.instrument,
                "state": "on" if item.is_on else "off",
                "last_tick": item.last_tick,
                "tick": recorded.get(item.name) if item.is_on else None,
                "what": item.description,
            }
            for item in board.sensors(named)
        ]
    if as_json:
        print_json(rows)
    else:
        print_table(rows, ["sensor", "instrument", "state", "last_tick", "tick", "what"])


def _recorded(path: Path) -> dict[str, str]:
    """How each ticks, as it has recorded it in MongoDB: ok, failed, silent or never."""
    try:
        services = open_services(path)
        return {item["name"]: item["state"] for item in ticks(services)}
    except KrakenError:  # whether they are on only Dagster says, and that is told all the same
        return {}


@sensors.command()
@_named
@click.pass_obj
@reported
def on(path: Path, named: str | None) -> None:
    """Switch the sensors of an instrument on, or one, or all."""
    _switch(path, named, on=True)


@sensors.command()
@_named
@click.option("--yes", is_flag=True, help="All are meant, so that no file is looked at.")
@click.pass_obj
@reported
def off(path: Path, named: str | None, yes: bool) -> None:
    """Switch the sensors of an instrument off, or one, or all: nothing new is begun then."""
    if named is None and not yes:
        raise click.UsageError("name an instrument or a sensor; --yes switches all of them off")
    _switch(path, named, on=False)


def _switch(path: Path, named: str | None, *, on: bool) -> None:
    from kraken_dagster.operations.sensors import switchboard  # noqa: PLC0415 - Dagster's

    word = "on" if on else "off"
    with switchboard(own_config(path), path) as board:
        for item in board.sensors(named):
            if item.is_on is on:
                say(f"{item.name} was {word} already")
            else:
                board.switch(item, on=on)
                say(f"{item.name} is {word}")
