"""`kraken settings`: what programs are run with, in versions that never change."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from kraken_dagster.cli.common import (
    as_text,
    json_option,
    open_services,
    print_json,
    print_table,
    reported,
    say,
)
from kraken_dagster.model.errors import CatalogError, InputRefused
from kraken_dagster.model.settings import Settings
from kraken_dagster.projects import settings as versions

_GIVEN_BY_KRAKEN = ("name", "version", "number", "status")
_FIELDS = {
    name: field for name, field in Settings.model_fields.items() if name not in _GIVEN_BY_KRAKEN
}
_LISTS = ("slurm_directives",)


def _field_options(function: Callable[..., None]) -> Callable[..., None]:
    """An option for every field that people set."""
    for name, field in reversed(_FIELDS.items()):
        kind = int if field.annotation in (int, int | None) else str
        function = click.option(
            f"--{name.replace('_', '-')}",
            name,
            type=kind,
            multiple=name in _LISTS,
            help=field.description,
        )(function)
    return function


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, ())}


@click.group()
def settings() -> None:
    """Settings of the programs, in versions that never change."""


@settings.command("list")
@click.option("--archived", is_flag=True, help="Archived ones too.")
@json_option
@click.pass_obj
@reported
def list_(path: Path, archived: bool, as_json: bool) -> None:
    """List all settings and their versions; exit code 1 if one can't be read."""
    services = open_services(path)
    found, unreadable = services.store.catalog.all_settings()
    shown = [item for item in found if archived or item.is_active]
    rows = [
        {**item.model_dump(), "used_by": services.store.catalog.used_by(item)} for item in shown
    ]
    if as_json:
        print_json(rows)
    else:
        columns = ["number", "name", "version", "status", "software_type", "software", "used_by"]
        rows = [{**row, "used_by": ", ".join(row["used_by"])} for row in rows]
        print_table(rows, [*columns, "description"])
    for name in unreadable:
        say(f"kraken: settings {as_text(name)} in MongoDB can't be read", err=True)
    sys.exit(1 if unreadable else 0)


@settings.command()
@click.argument("reference", metavar="NAME[:VERSION]")
@json_option
@click.pass_obj
@reported
def show(path: Path, reference: str, as_json: bool) -> None:
    """Show one version, by default the newest, with its digest and the projects that use it."""
    services = open_services(path)
    found = versions.settings_by(services, reference)
    told_of = {
        **found.model_dump(),
        "digest": found.digest,
        "versions": [item.version for item in services.store.catalog.versions(found.name)],
        "used_by": services.store.catalog.used_by(found),
        "folder": str(services.settings_folder(found)),
    }
    if as_json:
        print_json(told_of)
        return
    for name, value in told_of.items():
        if isinstance(value, list | tuple):
            value = ", ".join(map(str, value)) or None  # noqa: PLW2901
        say(f"{name:20} {as_text(value)}")


@settings.command()
@click.argument("name")
@_field_options
@click.pass_obj
@reported
def add(path: Path, name: str, **values: Any) -> None:
    """Add settings under a new name."""
    given = _given(values)
    services = open_services(path)
    kind = given.get("software_type", "custom")
    if "metrics_type" not in given and kind in versions.metrics_types(services):
        given["metrics_type"] = kind
    added = versions.add_settings(services, {"name": name, **given})
    _tell(added, services.settings_folder(added))
    say(f"next: kraken project assign PROJECT {name}")


@settings.command("new-version")
@click.argument("name")
@_field_options
@click.option(
    "--unset",
    multiple=True,
    type=click.Choice([name.replace("_", "-") for name in _FIELDS]),
    help="Leave this field open; repeatable.",
)
@click.option("--base", type=click.IntRange(1), help="Refuse unless this version is the newest.")
@click.pass_obj
@reported
def new_version(
    path: Path, name: str, unset: tuple[str, ...], base: int | None, **values: Any
) -> None:
    """Make the next version of settings; what is not named stays as in the newest."""
    changes = {**{item.replace("-", "_"): None for item in unset}, **_given(values)}
    services = open_services(path)
    before, after = versions.new_version(services, name, changes, base=base)
    for field in sorted(before.content.keys() | after.content.keys() - {"version"}):
        old, new = before.content.get(field), after.content.get(field)
        if old != new and field != "version":
            say(f"{field}: {as_text(old)} -> {as_text(new)}")
    _tell(after, services.settings_folder(after))
    for project_id in services.store.catalog.used_by(before):
        say(f"next: kraken project upgrade {project_id} {name}")


@settings.command()
@click.argument("reference", metavar="NAME:VERSION")
@click.pass_obj
@reported
def archive(path: Path, reference: str) -> None:
    """Archive a version: it is not assigned anew, and goes on where it is."""
    if ":" not in reference:
        raise click.UsageError("name the version, too: NAME:VERSION")
    services = open_services(path)
    found = versions.settings_by(services, reference)
    users = versions.archive_settings(services, found)
    say(f"{found.title} archived")
    if users:
        say(f"still used by {', '.join(users)}; `kraken project upgrade` changes that")


@settings.command("export")
@click.argument("references", metavar="[NAME[:VERSION]]...", nargs=-1)
@click.option(
    "--output", type=click.File("w", encoding="utf-8"), default="-", help="A file; default stdout."
)
@click.pass_obj
@reported
def export(path: Path, references: tuple[str, ...], output: Any) -> None:
    """Write settings as YAML; all that aren't archived where none are named."""
    output.write(versions.exported(open_services(path), references))


@settings.command("import")
@click.argument("file", type=click.File("rb"))
@click.pass_obj
@reported
def import_(path: Path, file: Any) -> None:
    """Add the settings of a YAML file (- for stdin): all of them, or none if one can't be used."""
    services = open_services(path)
    try:
        imported = versions.imported(services, file.read())
    except CatalogError as error:
        name = getattr(file, "name", "<stdin>")  # what is given in place of it may have none
        raise InputRefused(f"{name}: {error}") from error
    for item in imported:
        how = "added" if item.added else "there already"
        say(f"{item.settings.title}: {how}, {item.settings.digest}")


def _tell(added: Settings, folder: Path) -> None:
    say(f"{added.title} added, {added.digest}; its files belong into {folder}")
