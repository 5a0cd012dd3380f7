"""What is shown of projects and settings."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from kraken_dagster.model.eligibility import ANY_SCOPE
from kraken_dagster.model.errors import KrakenError, StoreError
from kraken_dagster.model.files.vendors import Vendor
from kraken_dagster.model.settings import Settings
from kraken_dagster.quant.preview import Preview, preview
from kraken_dagster.runtime.services import Services
from kraken_dagster.web.catalog.compare import (
    compared,
    fields_of,
    mark_of_project,
    mark_of_versions,
    values_of,
)
from kraken_dagster.web.feed import Feed
from kraken_dagster.web.rendering import render

_NEW = {"software_type": "custom", "metrics_type": "custom", "num_threads": "1"}


def told(page: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """What can't be shown, in words."""

    @wraps(page)
    def shown(request: Request) -> Response:
        try:
            return page(request)
        except StoreError as error:
            title = "MongoDB can't be asked"
            return render(request, "message.html", status=503, title=title, text=str(error))
        except KrakenError as error:
            title = "There is no such thing"
            return render(request, "message.html", status=404, title=title, text=str(error))

    return shown


@told
def projects(request: Request) -> Response:
    """All projects; what would be done with a file of some name."""
    feed: Feed = request.app.state.feed
    catalog = feed.services.store.catalog
    rows = []
    for item in catalog.projects():
        assigned, broken = catalog.assignments(item.id)
        titles = dict.fromkeys(f"{it.settings.name} v{it.settings.version}" for it in assigned)
        rows.append(
            {"project": item, "settings": list(titles), "broken": len(broken)}
            | {"files": _count(feed, item.id)}
        )
    name, instrument = (request.query_params.get(key, "") for key in ("file_name", "instrument"))
    found, problem = _preview(feed.services, name, instrument)
    return render(
        request,
        "projects.html",
        rows=sorted(rows, key=lambda row: (not row["project"].is_active, row["project"].id)),
        instruments=list(feed.services.config.instruments),
        file_name=name,
        instrument=instrument,
        preview=found,
        problem=problem,
    )


def _count(feed: Feed, project_id: str) -> int:
    with feed.table.lock:
        return int(np.count_nonzero(feed.table.is_word("project_id", project_id)))


def _preview(services: Services, name: str, instrument: str) -> tuple[Preview | None, str]:
    if not name:
        return None, ""
    try:
        return preview(services, name, instrument), ""
    except StoreError:
        raise
    except KrakenError as error:
        return None, str(error)


@told
def project(request: Request) -> Response:
    return project_page(request, request.query_params.get("id", ""))


def project_page(
    request: Request, project_id: str, *, said: str = "", status: int = 200
) -> Response:
    """One project, where it uses which settings, and what an operator may change.

    Raises:
        UnknownProject, StoreError
    """
    feed: Feed = request.app.state.feed
    catalog = feed.services.store.catalog
    found = catalog.project(project_id)
    assigned, broken = catalog.assignments(project_id)
    known, _ = catalog.all_settings()
    newest = {item.name: item.version for item in sorted(known, key=lambda it: it.version)}
    usable = {item.name: item.version for item in known if item.is_active}
    return render(
        request,
        "project.html",
        status=status,
        project=found,
        assigned=assigned,
        broken=broken,
        newest=newest,
        usable=sorted(usable),
        scopes=[ANY_SCOPE, *(item.value for item in Vendor), *feed.services.config.instruments],
        instruments=list(feed.services.config.instruments),
        files=_count(feed, project_id),
        mark=mark_of_project(found.status, assigned),
        said=said,
    )


@told
def settings(request: Request) -> Response:
    return settings_page(request)


def settings_page(
    request: Request, *, said: str = "", values: dict[str, str] | None = None, status: int = 200
) -> Response:
    """All settings by name; and for operators a form for new ones, with `values`.

    Raises:
        StoreError
    """
    catalog = request.app.state.feed.services.store.catalog
    found, unreadable = catalog.all_settings()
    by_name: dict[str, list[Settings]] = {}
    for item in sorted(found, key=lambda it: (it.name.lower(), -it.version)):
        by_name.setdefault(item.name, []).append(item)
    return render(
        request,
        "settings.html",
        status=status,
        rows=[
            {"name": name, "versions": items, "used_by": _users(catalog, items)}
            for name, items in by_name.items()
        ],
        unreadable=unreadable,
        fields=fields_of(values or _NEW, with_type=True),
        name=(values or {}).get("name", ""),
        said=said,
    )


def _users(catalog: Any, items: list[Settings]) -> list[str]:
    return sorted({user for item in items for user in catalog.used_by(item)})


@told
def version(request: Request) -> Response:
    query = request.query_params
    return version_page(
        request, query.get("name", ""), wanted=query.get("version"), against=query.get("against")
    )


def version_page(
    request: Request,
    name: str,
    *,
    wanted: str | None = None,
    against: str | None = None,
    said: str = "",
    values: dict[str, str] | None = None,
    status: int = 200,
) -> Response:
    """One version beside another, by default the newest beside the one before it.

    Args:
        values: of a form that was not taken, so that nobody types them again.

    Raises:
        UnknownSettings, StoreError
    """
    services: Services = request.app.state.feed.services
    versions = services.store.catalog.versions(name)
    shown = _chosen(versions, wanted) or versions[-1]
    earlier = [item for item in versions if item.version < shown.version]
    other = _chosen(versions, against) or (earlier[-1] if earlier else shown)
    return render(
        request,
        "version.html",
        status=status,
        versions=versions,
        shown=shown,
        other=other,
        newest=versions[-1],
        lines=compared(other, shown),
        used_by=services.store.catalog.used_by(shown),
        folder=str(services.settings_folder(shown)),
        fields=fields_of(values or values_of(versions[-1]), with_type=False),
        is_open=values is not None,
        mark=mark_of_versions(versions),
        said=said,
    )


def _chosen(versions: list[Settings], number: str | None) -> Settings | None:
    return next((item for item in versions if str(item.version) == number), None)
