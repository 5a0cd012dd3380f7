"""What operators change about projects and settings. Each form says what its user saw: the second
of two who change the same is told, and nothing of the first one's is overwritten."""

import logging
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from kraken_dagster.model.errors import KrakenError, StoreError
from kraken_dagster.model.printable import printable
from kraken_dagster.model.projects import Project
from kraken_dagster.projects import projects as steps
from kraken_dagster.projects import settings as versions
from kraken_dagster.runtime.services import Services
from kraken_dagster.web.catalog.compare import changes_of, mark_of_project, mark_of_versions
from kraken_dagster.web.catalog.pages import project_page, settings_page, version_page
from kraken_dagster.web.operate.forms import Form, asked_by, with_form
from kraken_dagster.web.rendering import render

_MEANWHILE = (
    "Somebody else has changed this since you opened it, and nothing of yours was done. What "
    "stands here now is the new state: look at it, and ask again."
)


_log = logging.getLogger("kraken.page")


async def change_project(request: Request) -> Response:
    """`do` says which change: add, archive, assign, unassign or upgrade."""
    return await with_form(request, _change_project)


async def change_settings(request: Request) -> Response:
    """`do` says which change: add, version or archive."""
    return await with_form(request, _change_settings)


def _change_project(request: Request, form: Form) -> Response:
    services: Services = request.app.state.feed.services
    project_id = form.get("id", "").strip()
    change = _OF_PROJECTS.get(form.get("do", ""))
    if change is None:
        return _message(request, "There is no such change", "", status=400)
    try:
        if change is not _add_project and not _is_as_seen(services, project_id, form):
            return project_page(request, project_id, said=_MEANWHILE, status=409)
        said = change(services, project_id, form)
        _note(request, said)
        return project_page(request, project_id, said=said)
    except KrakenError as error:
        return _refused(
            request, error, lambda why: project_page(request, project_id, said=why, status=409)
        )


def _is_as_seen(services: Services, project_id: str, form: Form) -> bool:
    assigned, _ = services.store.catalog.assignments(project_id)
    status = services.store.catalog.project(project_id).status
    return form.get("mark") == mark_of_project(status, assigned)


def _add_project(services: Services, project_id: str, form: Form) -> str:
    name, about = form.get("name", "").strip(), form.get("description", "").strip()
    steps.add_project(services, Project(id=project_id, name=name, description=about))
    return f"{project_id} is added: files named ..._{project_id}_... are its from now on."


def _archive_project(services: Services, project_id: str, _form: Form) -> str:
    steps.archive_project(services, project_id)
    return f"{project_id} is archived: new files that name it go to the fallback project."


def _assign(services: Services, project_id: str, form: Form) -> str:
    chosen = versions.settings_by(services, form.get("settings", ""))
    scope = form.get("scope", "*")
    excluded = [item for item in services.config.instruments if f"not_{item}" in form]
    name_filter = form.get("filter", "").strip() or None
    steps.assign(
        services, project_id, chosen, scope=scope, excluded=excluded, raw_file_id_filter=name_filter
    )
    return f"{project_id} uses {chosen.title}, scope {scope}, from the next file on."


def _unassign(services: Services, project_id: str, form: Form) -> str:
    gone = steps.unassign(services, project_id, form.get("assignment", ""))
    return f"Taken from {project_id}: {gone}. Results stay."


def _upgrade(services: Services, project_id: str, form: Form) -> str:
    name = form.get("settings", "")
    changed = steps.upgrade(services, project_id, name)
    if not changed:
        return f"{project_id} uses the newest version of {name} already."
    return f"{project_id} uses {changed[0][1].title} from the next file on."


def _change_settings(request: Request, form: Form) -> Response:
    services: Services = request.app.state.feed.services
    name, do = form.get("name", "").strip(), form.get("do")
    if do == "add":
        return _add_settings(request, services, form)
    if do not in ("version", "archive"):
        return _message(request, "There is no such change", "", status=400)
    values = form if do == "version" else None
    try:
        known = services.store.catalog.versions(name)
        if form.get("mark") != mark_of_versions(known):
            return version_page(request, name, said=_MEANWHILE, values=values, status=409)
        if do == "version":
            _, after = versions.new_version(
                services, name, changes_of(form), base=known[-1].version
            )
            said = f"{after.title} is made. Projects use it once they are upgraded."
            wanted = str(after.version)
        else:
            wanted = form.get("version", "")
            found = versions.settings_by(services, f"{name}:{wanted}")
            users = versions.archive_settings(services, found)
            said = f"{found.title} is archived" + (
                f", and goes on in {', '.join(users)}." if users else "."
            )
        _note(request, said)
        return version_page(request, name, wanted=wanted, said=said)
    except KrakenError as error:
        return _refused(
            request,
            error,
            lambda why: version_page(request, name, said=why, values=values, status=409),
        )


def _add_settings(request: Request, services: Services, form: Form) -> Response:
    values = {key: value for key, value in changes_of(form).items() if value is not None}
    name = form.get("name", "").strip()
    try:
        added = versions.add_settings(services, {"name": name, **values})
    except KrakenError as error:
        return _refused(
            request, error, lambda why: settings_page(request, said=why, values=form, status=409)
        )
    said = f"{added.title} is added; its files belong into {services.settings_folder(added)}."
    _note(request, said)
    return version_page(request, name, said=said)


def _refused(request: Request, error: KrakenError, again: Callable[[str], Response]) -> Response:
    """The same page with the reason; where it can't be shown either, the reason alone."""
    if isinstance(error, StoreError):
        return _message(request, "MongoDB can't be asked", str(error), status=503)
    try:
        return again(str(error))
    except KrakenError:
        return _message(request, "This can't be done", str(error), status=409)


def _note(request: Request, said: str) -> None:
    """Projects and settings have no history in MongoDB: the page's log has who changed them."""
    _log.info("%s: %s", asked_by(request), printable(said))


def _message(request: Request, title: str, text: str, *, status: int) -> Response:
    return render(request, "message.html", status=status, title=title, text=text)


_OF_PROJECTS = {
    "add": _add_project,
    "archive": _archive_project,
    "assign": _assign,
    "unassign": _unassign,
    "upgrade": _upgrade,
}
