"""`kraken import-alphakraken`: AlphaKraken's configuration as an instruments.yaml."""

import os
import sys
from pathlib import Path

import click

from kraken_dagster.cli.common import reported, say
from kraken_dagster.fs.private import site_umask
from kraken_dagster.model.errors import ConfigError
from kraken_dagster.operations.alphakraken.convert import Sources, convert
from kraken_dagster.operations.alphakraken.engines import Cluster
from kraken_dagster.operations.alphakraken.notes import Notes

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("alphakraken_yaml", type=_FILE)
@click.option("--env", "environment", type=_FILE, help="Its environment file, envs/NAME.env.")
@click.option("--variables", type=_FILE, help="What `airflow variables export` wrote.")
@click.option("--columns", type=_FILE, help="Its columns_config.yaml, which is used as it is.")
@click.option("--mounts", help="The folder of all mounts, in place of MOUNTS_PATH.")
@click.option("--cluster-host", "hosts", multiple=True, help="A head node; may be repeated.")
@click.option("--cluster-user", "user", help="The user there.")
@click.option("--cluster-slots", "slots", type=click.IntRange(min=1), help="Jobs open at once.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A new file; else it is printed, and what became of each key on stderr.",
)
@reported
def import_alphakraken(
    *,
    alphakraken_yaml: Path,
    environment: Path | None,
    variables: Path | None,
    columns: Path | None,
    mounts: str | None,
    hosts: tuple[str, ...],
    user: str | None,
    slots: int | None,
    output: Path | None,
) -> None:
    """Turn AlphaKraken's alphakraken.yaml into an instruments.yaml, and tell of every key."""
    cluster = Cluster(hosts, user, slots)
    sources = Sources(alphakraken_yaml, environment, variables, columns, mounts, cluster)
    text, notes = convert(sources)
    if output is None:
        for line in text.splitlines():  # YAML has escaped what is not plain
            say(line)
    else:
        _write(output, text)
    _tell(notes, err=output is None)
    if output is not None:
        say(f"wrote {output}")
    sys.exit(1 if notes.wrong else 0)


def _write(path: Path, text: str) -> None:
    os.umask(site_umask())  # it is the site's
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(
            "A file of that name is there already, and none is overwritten",
            file=path,
            next_step="name another by --output, or move it away.",
        ) from None


def _tell(notes: Notes, *, err: bool) -> None:
    width = max((len(note.verdict) for note in notes.notes), default=0)
    for note in notes.notes:
        line = f"{note.verdict:<{width}}  {note.key}: {note.words}"
        say(line, err=err)
    say("To do by hand:", err=err)
    for number, line in enumerate(notes.to_do, 1):
        say(f"{number}. {line}", err=err)
