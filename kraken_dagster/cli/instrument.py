"""`kraken instrument`: what a person says of instruments that left the configuration or changed."""

from pathlib import Path

import click

from kraken_dagster.cli.common import (
    as_text,
    json_option,
    open_services,
    print_json,
    print_table,
    reported,
    say,
    user_name,
)
from kraken_dagster.operations.dagster_home import open_dagster
from kraken_dagster.operations.instruments import retire as retire_steps
from kraken_dagster.operations.instruments.rename import plan_rename
from kraken_dagster.operations.instruments.rename import rename as rename_step
from kraken_dagster.operations.report import instruments_known
from kraken_dagster.orchestration.partitions import forget_partitions
from kraken_dagster.rebuild.defs import rebuild_instrument
from kraken_dagster.runtime.homes import dagster_home
from kraken_dagster.runtime.services import Services

_dry_run = click.option("--dry-run", is_flag=True, help="Only say what would change.")
_yes = click.option("--yes", is_flag=True, help="Don't ask.")


@click.group()
def instrument() -> None:
    """Instruments that were renamed, went out of use, or changed their type or folder."""


@instrument.command(name="list")
@json_option
@click.pass_obj
@reported
def list_instruments(path: Path, as_json: bool) -> None:
    """Every instrument that MongoDB knows: configured or not, renamed, retired, with its files."""
    rows = instruments_known(open_services(path))
    if as_json:
        print_json(rows)
        return
    columns = ["id", "state", "type", "path", "files", "unfinished", "backups", "open_jobs"]
    print_table(rows, columns)


@instrument.command()
@click.argument("old")
@click.argument("new")
@click.option("--merge", is_flag=True, help="NEW has files of its own, and is the same instrument.")
@_dry_run
@_yes
@click.pass_obj
@reported
def rename(path: Path, old: str, new: str, *, merge: bool, dry_run: bool, yes: bool) -> None:
    """Give OLD's files, jobs and partitions the id NEW; backups stay where they are.

    What was interrupted is ended by the same command; renaming back undoes it.
    """
    services = open_services(path)
    _say(plan_rename(services, old, new, merge=merge).in_words())
    if dry_run or not (yes or click.confirm("Rename it?")):
        say("nothing was changed")
        return
    plan = rename_step(services, old, new, by=user_name(), merge=merge)
    say(f"renamed: {plan.files} files are {as_text(new)}'s now")
    _tell_dagster(services, old, new)
    if new not in services.config.all_instruments:
        say(f"{as_text(new)} is not in instruments.yaml")


@instrument.command()
@click.argument("instrument_id", metavar="ID")
@_dry_run
@_yes
@click.pass_obj
@reported
def retire(path: Path, instrument_id: str, *, dry_run: bool, yes: bool) -> None:
    """Close what is left of an instrument that is out of use; nothing is deleted."""
    services = open_services(path)
    _say(retire_steps.plan_retirement(services, instrument_id).in_words())
    if dry_run or not (yes or click.confirm("Retire it?")):
        say("nothing was changed")
        return
    retire_steps.retire(services, instrument_id, by=user_name())
    say(f"retired: {as_text(instrument_id)}")


@instrument.command()
@click.argument("instrument_id", metavar="ID")
@click.pass_obj
@reported
def accept(path: Path, instrument_id: str) -> None:
    """Take an instrument as instruments.yaml has it: its type, its folder, in use again."""
    _say(retire_steps.accept(open_services(path), instrument_id, by=user_name()))
    say("its watcher goes on at its next tick")


def _say(lines: list[str]) -> None:
    for line in lines:
        say(as_text(line))


def _tell_dagster(services: Services, old: str, new: str) -> None:
    """Partitions and materialisations under the new id, where this machine has a Dagster."""
    home = dagster_home(services.config)
    if not (home / "dagster.yaml").exists():
        say(f"no Dagster here: `kraken rebuild --instrument {new}` where {new} is served")
        return
    with open_dagster(home) as dagster:
        if not services.store.instruments.has_files(old):
            gone = forget_partitions(dagster, old)
            say(f"Dagster: {gone} partitions of {as_text(old)} taken away")
        if new in services.config.instruments:
            rebuilt = rebuild_instrument(services, dagster, new)
            say(f"Dagster: {as_text(new)}: {rebuilt.summary()}")
