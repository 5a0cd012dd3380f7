"""`kraken rebuild`: Dagster's storage made anew from MongoDB."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click
from dagster import DagsterInstance
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from kraken_dagster.cli.common import (
    as_text,
    chosen_instruments,
    open_services,
    reported,
    say,
    user_name,
)
from kraken_dagster.model.errors import StatusConflict, UnknownRawFile
from kraken_dagster.operations.dagster_home import open_dagster, prepare_dagster
from kraken_dagster.rebuild.defs import rebuild_file, rebuild_instrument
from kraken_dagster.rebuild.partition_window import ask_for_again
from kraken_dagster.runtime.homes import dagster_home
from kraken_dagster.runtime.services import Services


@click.command()
@click.option("--instrument", "instruments", multiple=True, help="Only this one; repeatable.")
@click.option("--id", "ids", multiple=True, help="Only this raw file, however old; repeatable.")
@click.pass_obj
@reported
def rebuild(path: Path, instruments: tuple[str, ...], ids: tuple[str, ...]) -> None:
    """Tell Dagster what MongoDB knows and Dagster has lost: partitions and materialisations.

    What is there stays as it is, so that this can be run again, and while Kraken runs. Exit code
    1 if a document in MongoDB can't be read.
    """
    if instruments and ids:
        raise click.UsageError("--instrument or --id: not together")
    services = open_services(path)
    chosen_instruments(services, instruments)
    home = dagster_home(services.config)
    prepare_dagster(home, services.config, path)
    with open_dagster(home) as instance:
        if ids:
            _rebuild_files(services, instance, ids)
            return
        wrong = [
            name
            for item in instruments or tuple(services.config.instruments)
            for name in _rebuild_instrument(services, instance, item)
        ]
    for name in wrong:
        say(f"kraken: the document {as_text(name)} can't be read", err=True)
    sys.exit(1 if wrong else 0)


def _rebuild_instrument(
    services: Services, instance: DagsterInstance, instrument_id: str
) -> list[str]:
    """The ids of the documents that can't be read."""
    with _bar(instrument_id) as show:
        rebuilt = rebuild_instrument(services, instance, instrument_id, on_files=show)
    say(f"{instrument_id}: {rebuilt.summary()}")
    return rebuilt.unreadable


def _rebuild_files(services: Services, instance: DagsterInstance, ids: tuple[str, ...]) -> None:
    """
    Raises:
        UnknownRawFile
    """
    for raw_file_id in ids:
        raw_file = services.store.raw_files.get(raw_file_id)
        if raw_file.instrument_id not in services.config.instruments:
            raise UnknownRawFile(
                "The raw file is of an instrument that is not in instruments.yaml",
                file=raw_file_id,
                found=raw_file.instrument_id,
                next_step="add the instrument; Dagster knows no assets of it.",
            )
        with suppress(StatusConflict):  # whatever happened to it keeps it in Dagit as well
            ask_for_again(services, raw_file, asked_by=user_name())
        rebuilt = rebuild_file(services, instance, raw_file)
        say(f"{as_text(raw_file_id)}: {rebuilt.summary()}")


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr, where that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
