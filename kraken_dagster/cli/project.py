"""`kraken project`: which projects there are, and which settings each uses on which files."""

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from kraken_dagster.cli.common import (
    as_text,
    chosen_instruments,
    json_option,
    open_services,
    print_json,
    print_table,
    reported,
    say,
)
from kraken_dagster.model.projects import Project
from kraken_dagster.model.settings import AssignedSettings
from kraken_dagster.projects import projects as catalog
from kraken_dagster.projects.settings import settings_by
from kraken_dagster.quant.preview import Preview, preview
from kraken_dagster.runtime.services import Services

_scope_option = click.option("--scope", help="*, a vendor or an instrument.")
_filter_option = click.option("--filter", "name_filter", help="A part of the raw file id.")


@click.group()
def project() -> None:
    """Projects, and the settings that each uses."""


@project.command("list")
@json_option
@click.pass_obj
@reported
def list_(path: Path, as_json: bool) -> None:
    """List all projects with their settings."""
    services = open_services(path)
    rows = [_row(services, item) for item in services.store.catalog.projects()]
    if as_json:
        print_json(rows)
        return
    print_table(
        [{**row, "settings": ", ".join(row["settings"])} for row in rows],
        ["id", "name", "status", "settings", "description"],
    )


def _row(services: Services, item: Project) -> dict[str, Any]:
    used, _ = services.store.catalog.assignments(item.id)
    titles = dict.fromkeys(f"{it.settings.name}:{it.settings.version}" for it in used)
    return {**item.model_dump(), "settings": list(titles)}


@project.command()
@click.argument("project_id")
@json_option
@click.pass_obj
@reported
def show(path: Path, project_id: str, as_json: bool) -> None:
    """Show one project, and where it uses which settings."""
    services = open_services(path)
    found = services.store.catalog.project(project_id)
    assigned, broken = services.store.catalog.assignments(project_id)
    rows = [_assignment(services, item) for item in assigned]
    if as_json:
        print_json(
            {
                **found.model_dump(),
                "assignments": rows,
                "broken": [{"id": item.id, "problem": item.problem} for item in broken],
            }
        )
        return
    for name, value in found.model_dump().items():
        say(f"{name:14} {as_text(value)}")
    print_table(
        [{**row, "excluded": ", ".join(row["excluded"])} for row in rows],
        ["settings", "newest", "type", "scope", "excluded", "filter", "status", "id"],
    )
    for item in broken:
        say(f"WRONG: assignment {item.id}: {as_text(item.problem)}")


def _assignment(services: Services, item: AssignedSettings) -> dict[str, Any]:
    newest = services.store.catalog.versions(item.settings.name)[-1]
    return {
        "settings": f"{item.settings.name}:{item.settings.version}",
        "newest": newest.version,
        "type": item.settings.software_type,
        "scope": item.scope.scope,
        "excluded": sorted(item.scope.excluded),
        "filter": item.scope.raw_file_id_filter,
        "status": item.settings.status,
        "id": item.id,
    }


@project.command()
@click.argument("project_id")
@click.option("--name", required=True, help="For people.")
@click.option("--description", default="", help="For people.")
@click.pass_obj
@reported
def add(path: Path, project_id: str, name: str, description: str) -> None:
    """Add a project. Its id is what stands in file names: 4 to 16 of A-Z and 0-9."""
    item = Project(id=project_id, name=name, description=description)
    catalog.add_project(open_services(path), item)
    say(f"{project_id} added; files named ..._{project_id}_... are its from now on")


@project.command()
@click.argument("project_id")
@click.pass_obj
@reported
def archive(path: Path, project_id: str) -> None:
    """Archive a project: no further file becomes its, those that are stay."""
    catalog.archive_project(open_services(path), project_id)
    say(f"{project_id} archived; new files that name it go to the fallback project")


@project.command()
@click.argument("project_id")
@click.argument("settings", metavar="SETTINGS[:VERSION]")
@click.option("--scope", default="*", show_default=True, help="*, a vendor or an instrument.")
@click.option("--exclude", "excluded", multiple=True, help="Not this instrument; repeatable.")
@_filter_option
@click.pass_obj
@reported
def assign(
    path: Path,
    project_id: str,
    settings: str,
    *,
    scope: str,
    excluded: tuple[str, ...],
    name_filter: str | None,
) -> None:
    """Have a project use settings, by default in their newest version."""
    services = open_services(path)
    chosen = settings_by(services, settings)
    catalog.assign(
        services, project_id, chosen, scope=scope, excluded=excluded, raw_file_id_filter=name_filter
    )
    say(f"{project_id} uses {chosen.title}, scope {scope}, from the next file on")


@project.command()
@click.argument("project_id")
@click.argument("settings", metavar="SETTINGS[:VERSION]|ID")
@_scope_option
@_filter_option
@click.option("--exclude", "excluded", multiple=True, help="As it was assigned; repeatable.")
@click.pass_obj
@reported
def unassign(
    path: Path,
    project_id: str,
    settings: str,
    *,
    scope: str | None,
    name_filter: str | None,
    excluded: tuple[str, ...],
) -> None:
    """Take settings from a project; results that are there stay."""
    gone = catalog.unassign(
        open_services(path),
        project_id,
        settings,
        scope=scope,
        raw_file_id_filter=name_filter,
        excluded=excluded or None,
    )
    say(f"taken from {project_id}: {as_text(gone)}")


@project.command()
@click.argument("project_id")
@click.argument("name", metavar="SETTINGS")
@click.option("--to", "version", type=click.IntRange(1), help="The version; default the newest.")
@click.pass_obj
@reported
def upgrade(path: Path, project_id: str, name: str, version: int | None) -> None:
    """Have a project use another version of settings, wherever it uses them."""
    changed = catalog.upgrade(open_services(path), project_id, name, version=version)
    for before, after in changed:
        place = f"scope {before.scope.scope}"
        say(f"{project_id}, {place}: {before.settings.title} -> version {after.version}")
    if not changed:
        say(f"{project_id} uses that version already")


@project.command("preview")
@click.argument("file_name")
@click.argument("instrument")
@json_option
@click.pass_obj
@reported
def preview_(path: Path, file_name: str, instrument: str, as_json: bool) -> None:
    """What would be done with a file of this name, and why; exit code 1 if nothing."""
    services = open_services(path)
    chosen_instruments(services, (instrument,))
    found = preview(services, file_name, instrument)
    if as_json:
        print_json(_plain(found))
    else:
        _print_preview(found)
    sys.exit(0 if found.is_processed else 1)


def _plain(found: Preview) -> dict[str, Any]:
    return {
        "file": found.file_name,
        "instrument": found.instrument_id,
        "project": found.project_id,
        "project_reason": found.project_reason,
        "processed": found.is_processed,
        "reason": found.reason,
        "broken": list(found.broken),
        "settings": [
            {
                "settings": f"{item.assigned.settings.name}:{item.assigned.settings.version}",
                "type": item.assigned.settings.software_type,
                "scope": item.assigned.scope.scope,
                "excluded": sorted(item.assigned.scope.excluded),
                "filter": item.assigned.scope.raw_file_id_filter,
                "applies": item.applies,
                "reason": item.reason,
                "engine": item.engine,
                "output": item.output,
                "command": list(item.command),
                "problem": item.problem,
            }
            for item in found.settings
        ],
    }


def _print_preview(found: Preview) -> None:
    say(f"file        {as_text(found.file_name)} on {found.instrument_id}")
    say(f"project     {found.project_id}: {found.project_reason}")
    verdict = "yes" if found.is_processed else "no"
    say(f"processed   {verdict}: {as_text(found.reason)}")
    for problem in found.broken:
        say(f"WRONG   {as_text(problem)}")
    for item in found.settings:
        settings, mark = item.assigned.settings, "APPLIES" if item.applies else "no     "
        archived = "" if settings.is_active else " (archived)"
        title = f"{settings.name}:{settings.version}{archived}"
        say(f"{mark} {title:24} {settings.software_type:9} {as_text(item.reason)}")
        for name, value in (
            ("engine", item.engine),
            ("output", item.output),
            ("command", shlex.join(item.command) or None),
            ("PROBLEM", item.problem),
        ):
            if value is not None:
                say(f"{'':8}{name:8} {as_text(value)}")
