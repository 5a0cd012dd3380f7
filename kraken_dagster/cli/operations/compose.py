"""`kraken compose` and `kraken dagit`: what runs in containers."""

import os
from pathlib import Path

import click

from kraken_dagster.cli.common import PORT, as_text, own_config, reported, say
from kraken_dagster.config.dagit import LOOPBACK, Place
from kraken_dagster.config.loader import load_config
from kraken_dagster.dagit import start
from kraken_dagster.dagit.access import Access
from kraken_dagster.fs.private import site_umask
from kraken_dagster.operations.containers import compose as files


@click.command()
@click.option("--host", help="An address of `code_locations`: the services of that host.")
@click.option(
    "--docker-launcher", "launches", is_flag=True, help="Each run is a container of its own."
)
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@click.pass_obj
@reported
def compose(path: Path, *, host: str | None, launches: bool, dry_run: bool) -> None:
    """Write Docker's services of the instruments, and the workspace, beside instruments.yaml."""
    os.umask(site_umask())  # they are the site's
    written = files.write(load_config(path), path, host=host, dry_run=dry_run, launches=launches)
    for name in written.wrote:
        say(f"{'would write' if dry_run else 'wrote'} {as_text(name)}")
    for line in files.in_words(written):
        say(line)


@click.command()
@click.option("--port", default=3000, show_default=True, type=PORT, help="Dagit's port.")
@click.option(
    "--host",
    default=LOOPBACK,
    show_default=True,
    help="The address that it listens on; another needs `dagit` in instruments.yaml.",
)
@click.option(
    "--workspace",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="The file with the code locations.",
)
@click.pass_obj
@reported
def dagit(path: Path, port: int, host: str, workspace: Path) -> None:
    """Serve Dagit alone, where the daemon and the code locations are run by others."""
    config = own_config(path)
    place = Place(config.dagit, host, port)
    start.check(place)
    access = Access(config.home)
    access.prepare(place.url)
    say(start.announcement(place, access))
    command = start.command(place, path, str(workspace))
    os.execv(command[0], command)  # noqa: S606 - an argument list of our own
