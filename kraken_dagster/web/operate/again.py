"""Files that are processed once more with chosen settings: the page that asks, and what follows."""

import json
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from kraken_dagster.model.errors import InputRefused, KrakenError, StoreError
from kraken_dagster.model.settings import Settings
from kraken_dagster.operations.process_again import FITTING, process_all_again
from kraken_dagster.projects.settings import settings_by
from kraken_dagster.runtime.services import Services
from kraken_dagster.web.catalog.pages import told
from kraken_dagster.web.downloads import chosen_ids
from kraken_dagster.web.feed import Feed
from kraken_dagster.web.operate.forms import Fields, asked_by, with_fields
from kraken_dagster.web.rendering import render

MOST = 200  # files at once


@dataclass(frozen=True)
class Choice:
    """A version of settings; `used_by`: projects of the files that are assigned it."""

    settings: Settings
    used_by: tuple[str, ...]
    is_newest: bool


@told
def ask(request: Request) -> Response:
    """Which files, and with which settings: nothing is done yet."""
    return _form(request, chosen_ids(request))


async def do(request: Request) -> Response:
    """Has them processed; what was refused is told file by file."""
    return await with_fields(request, _do)


def _do(request: Request, fields: Fields) -> Response:
    services: Services = request.app.state.feed.services
    try:
        ids = _ids(fields)
        settings = [settings_by(services, item) for item in fields.get("settings", [])]
        queued, refused = process_all_again(services, ids, settings, asked_by=asked_by(request))
    except StoreError as error:
        title = "MongoDB can't be asked"
        return render(request, "message.html", status=503, title=title, text=str(error))
    except KrakenError as error:
        title = "Nothing was asked for"
        return render(request, "message.html", status=409, title=title, text=str(error))
    return render(
        request,
        "asked.html",
        status=200 if queued else 409,
        queued=queued,
        refused=refused,
        titles=[item.title for item in settings],
    )


def _ids(fields: Fields) -> list[str]:
    """
    Raises:
        InputRefused
    """
    try:
        found = json.loads(fields.get("ids", ["[]"])[0])
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise InputRefused("The form doesn't say which files", expected="a list of names")
    if not 1 <= len(found) <= MOST:
        raise InputRefused(
            "So many files are not asked for at once",
            expected=f"1 to {MOST}",
            found=f"{len(found)}",
            next_step="filter, or pick some.",
        )
    return found


def _form(request: Request, ids: list[str]) -> Response:
    """
    Raises:
        StoreError
    """
    feed: Feed = request.app.state.feed
    if not 1 <= len(ids) <= MOST:
        title = "Pick files first" if not ids else "These are too many at once"
        text = f"They are {len(ids):,}, expected 1 to {MOST}. Next: filter, or pick."
        return render(request, "message.html", status=400, title=title, text=text)
    rows = _rows(feed, ids)
    projects = sorted({row["project"] for row in rows if row["project"]})
    own, others = choices(feed.services, projects)
    fitting = [row["id"] for row in rows if row["status"] in FITTING]
    return render(
        request,
        "again.html",
        rows=rows,
        fitting=fitting,
        ids=json.dumps(fitting),
        projects=projects,
        own=own,
        others=others,
    )


def _rows(feed: Feed, ids: list[str]) -> list[dict[str, Any]]:
    with feed.table.lock:
        return [
            {
                "id": file_id,
                "status": feed.table.text("status", row),
                "project": feed.table.text("project_id", row),
                "settings": feed.table.text("settings", row),
            }
            for file_id in ids
            if (row := feed.table.row(file_id)) is not None
        ]


def choices(services: Services, projects: list[str]) -> tuple[list[Choice], list[Choice]]:
    """All versions that may be used: of the settings that these projects use, and of all others;
    by name, the newest first.

    Raises:
        StoreError
    """
    catalog = services.store.catalog
    users: dict[str, list[str]] = {}
    names = set()
    for project in projects:
        for item in catalog.assignments(project)[0]:
            users.setdefault(item.settings.title, []).append(project)
            names.add(item.settings.name)
    known = [item for item in catalog.all_settings()[0] if item.is_active]
    newest: dict[str, int] = {}
    for item in known:
        newest[item.name] = max(item.version, newest.get(item.name, 0))
    found = [
        Choice(
            item,
            tuple(dict.fromkeys(users.get(item.title, ()))),
            is_newest=item.version == newest[item.name],
        )
        for item in sorted(known, key=lambda it: (it.name.lower(), -it.version))
    ]
    own = [item for item in found if item.settings.name in names]
    return own, [item for item in found if item.settings.name not in names]
