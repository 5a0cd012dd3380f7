"""`kraken retry`: a failed step is done again."""

import sys
from pathlib import Path

import click

from kraken_dagster.cli.common import as_text, open_services, reported, say, user_name
from kraken_dagster.config.instruments import OutputExistsMode
from kraken_dagster.model.errors import KrakenError
from kraken_dagster.operations.process_again import process_again
from kraken_dagster.operations.retry import retry as retry_step
from kraken_dagster.projects.settings import settings_by

_ADD = OutputExistsMode.ADD


@click.command()
@click.argument("raw_file_ids", nargs=-1, required=True)
@click.option(
    "--output-exists-mode",
    "mode",
    type=click.Choice(
        [item.value for item in OutputExistsMode if item is not OutputExistsMode.RAISE]
    ),
    help="Process them once more, also where they have ended well; this is done with results "
    "that are there.",
)
@click.option(
    "--settings",
    "references",
    metavar="SETTINGS[:VERSION]",
    multiple=True,
    help="Process them once more with these settings, whatever their project uses; repeatable, "
    "one for each software type. Results that are there stay, unless a mode says otherwise.",
)
@click.pass_obj
@reported
def retry(
    path: Path, raw_file_ids: tuple[str, ...], *, mode: str | None, references: tuple[str, ...]
) -> None:
    """Do the failed step of these raw files again, at the sensors' next tick."""
    wanted = None if mode is None else OutputExistsMode(mode)
    services, failed = open_services(path), False
    settings, by = [settings_by(services, item) for item in references], user_name()
    for raw_file_id in raw_file_ids:
        try:
            if settings:
                _, what_follows = process_again(
                    services, raw_file_id, settings, asked_by=by, mode=wanted or _ADD
                )
            else:
                _, what_follows = retry_step(services, raw_file_id, asked_by=by, mode=wanted)
        except KrakenError as error:
            say(f"kraken: {error}", err=True)
            failed = True
        else:
            say(f"{as_text(raw_file_id)}: {what_follows}")
    sys.exit(1 if failed else 0)
