"""What people do with projects and what they use: every change is checked, none is half made."""

from collections.abc import Collection, Sequence

from kraken_dagster.model.eligibility import ANY_SCOPE
from kraken_dagster.model.errors import (
    AlreadyThere,
    Archived,
    InputRefused,
    UnknownAssignment,
)
from kraken_dagster.model.projects import (
    Project,
    check_assignment,
    check_project,
)
from kraken_dagster.model.raw_file import FALLBACK_PROJECT
from kraken_dagster.model.settings import AssignedSettings, Settings
from kraken_dagster.projects.settings import settings_by
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.catalog.catalog import fallback_project


def add_project(services: Services, project: Project) -> None:
    """
    Raises:
        InputRefused, AlreadyThere
    """
    check_project(project)
    if not services.store.catalog.add_project(project, now=services.now()):
        raise AlreadyThere(
            "A project of that id is there already",
            file=project.id,
            next_step=f"`kraken project show {project.id}` shows it.",
        )


def archive_project(services: Services, project_id: str) -> None:
    """No further file becomes the project's; those that are stay.

    Raises:
        UnknownProject, InputRefused
    """
    services.store.catalog.project(project_id)
    if project_id == FALLBACK_PROJECT:
        raise InputRefused(
            "The fallback project can't be archived: files that name no project are its",
            file=project_id,
            next_step="unassign its settings, if those files shall not be processed.",
        )
    services.store.catalog.archive_project(project_id)


def assign(
    services: Services,
    project_id: str,
    settings: Settings,
    *,
    scope: str = ANY_SCOPE,
    excluded: Collection[str] = (),
    raw_file_id_filter: str | None = None,
) -> None:
    """Has a project use settings, for the files of a scope.

    Raises:
        UnknownProject, Archived, InputRefused, AlreadyThere
    """
    if project_id == FALLBACK_PROJECT:
        services.store.catalog.add_project(fallback_project(), now=services.now())
    services.store.catalog.settle(project_id)
    _require_active(services.store.catalog.project(project_id), settings)
    check_assignment(
        scope=scope,
        excluded=excluded,
        raw_file_id_filter=raw_file_id_filter,
        instruments=services.config.instruments,
    )
    if not services.store.catalog.assign(
        project_id,
        settings,
        scope=scope,
        excluded=excluded,
        raw_file_id_filter=raw_file_id_filter,
        now=services.now(),
    ):
        raise AlreadyThere(
            f"Project {project_id} uses a version of these settings already",
            file=settings.name,
            next_step=f"`kraken project upgrade {project_id} {settings.name}` changes the version.",
        )


def _require_active(project: Project, settings: Settings) -> None:
    if not project.is_active:
        raise Archived("An archived project gets no settings", file=project.id)
    if not settings.is_active:
        raise Archived(
            "Archived settings are not assigned anew",
            file=settings.title,
            next_step="assign another version; `kraken settings list` shows them.",
        )


def unassign(
    services: Services,
    project_id: str,
    reference: str,
    *,
    scope: str | None = None,
    raw_file_id_filter: str | None = None,
    excluded: Collection[str] | None = None,
) -> str:
    """Takes one assignment from a project; what it was, in words. Results stay.

    Args:
        reference: settings as NAME or NAME:VERSION, or the assignment's id.

    Raises:
        UnknownProject
        UnknownAssignment: there is none such, or more than one.
    """
    services.store.catalog.settle(project_id)
    for broken in services.store.catalog.assignments(project_id)[1]:
        if broken.id == reference:
            _require_done(services.store.catalog.unassign(broken.id), reference)
            return broken.problem
    assigned = _assigned(services, project_id, reference)
    found = [
        item
        for item in assigned
        if scope in (None, item.scope.scope)
        and raw_file_id_filter in (None, item.scope.raw_file_id_filter or "")
        and (excluded is None or item.scope.excluded == frozenset(excluded))
    ]
    if len(found) != 1:
        raise _not_exactly_one(project_id, reference, len(found), assigned)
    _require_done(services.store.catalog.unassign(found[0].id), _place(found[0]))
    return _place(found[0])


def _not_exactly_one(
    project_id: str, reference: str, found: int, assigned: Sequence[AssignedSettings]
) -> UnknownAssignment:
    return UnknownAssignment(
        f"{found} assignments of project {project_id} are meant by this",
        file=reference,
        expected="exactly one",
        found="; ".join(_place(item) for item in assigned) or "none",
        next_step="name its --scope, --filter and --exclude, or its id; `kraken project show` "
        "has them.",
    )


def upgrade(
    services: Services, project_id: str, name: str, *, version: int | None = None
) -> list[tuple[AssignedSettings, Settings]]:
    """Has every assignment of these settings in a project use another version, by default the
    newest; pairs of what was and what is. Those that use it already are left out.

    Raises:
        UnknownProject, UnknownAssignment, UnknownSettings, Archived
        InputRefused: the newest that isn't archived is older than what is used.
    """
    services.store.catalog.settle(project_id)
    assigned = _assigned(services, project_id, name)
    if not assigned:
        raise UnknownAssignment(
            f"Project {project_id} doesn't use these settings",
            file=name,
            next_step=f"`kraken project assign {project_id} {name}` has it use them.",
        )
    wanted = settings_by(services, name if version is None else f"{name}:{version}")
    if not wanted.is_active:
        raise Archived("Archived settings are not assigned anew", file=wanted.title)
    changed = [item for item in assigned if item.settings.version != wanted.version]
    newer = [item for item in changed if item.settings.version > wanted.version]
    if newer and version is None:
        raise InputRefused(
            "The newest version that isn't archived is older than the one in use",
            file=newer[0].settings.title,
            found=f"version {wanted.version}",
            next_step=f"make a new version, or go back with --to {wanted.version}.",
        )
    for item in changed:
        _require_done(services.store.catalog.upgrade(item, wanted), _place(item))
    return [(item, wanted) for item in changed]


def _assigned(services: Services, project_id: str, reference: str) -> list[AssignedSettings]:
    services.store.catalog.project(project_id)
    name, _, version = reference.partition(":")
    return [
        item
        for item in services.store.catalog.assignments(project_id)[0]
        if item.id == reference
        or (item.settings.name == name and version in ("", str(item.settings.version)))
    ]


def _place(item: AssignedSettings) -> str:
    scope, wanted = item.scope.scope, item.scope.raw_file_id_filter or ""
    without = ", ".join(sorted(item.scope.excluded)) or "none"
    return f"{item.settings.title}, scope {scope!r}, filter {wanted!r}, excluded {without}"


def _require_done(done: bool, what: str) -> None:
    if not done:
        raise AlreadyThere(
            "Somebody else changed this assignment meanwhile",
            file=what,
            next_step="look at the project again with `kraken project show`.",
        )
