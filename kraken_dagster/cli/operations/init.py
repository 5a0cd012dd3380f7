"""`kraken init`: the files of a new site."""

import os
import shlex
from pathlib import Path

import click

from kraken_dagster.cli.common import as_text, reported, say
from kraken_dagster.fs.private import site_umask
from kraken_dagster.operations import site_files


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--postgres", is_flag=True, help="Put Dagster's storage on PostgreSQL.")
@reported
def init(folder: Path, postgres: bool) -> None:
    """Write a commented instruments.yaml, Dagster's files and a unit of systemd into FOLDER."""
    os.umask(site_umask())  # they are the site's, and Kraken may run as another user
    for path in site_files.init(folder, postgres=postgres):
        say(f"wrote {as_text(path)}")
    config = as_text(shlex.quote(str(folder / "instruments.yaml")))
    if postgres:
        say("Next: set KRAKEN_DAGSTER_POSTGRES; kraken.env.example shows how.")
    say("Next: put your instruments and folders into instruments.yaml; then")
    for command, what in (
        ("doctor", "what is wrong, and how to correct it"),
        ("init-store --empty", "makes new, empty folders the backup store and the output"),
        ("up", "starts Kraken"),
    ):
        say(f"  kraken --config {config} {command}    # {what}")
