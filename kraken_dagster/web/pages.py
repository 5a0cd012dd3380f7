"""What is answered to a browser: a question to a view, put into a template."""

import json
from typing import Any
from urllib.parse import quote

import numpy as np
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from kraken_dagster.model.errors import StoreError, UnknownRawFile
from kraken_dagster.web.feed import Feed
from kraken_dagster.web.file_page import file_page
from kraken_dagster.web.rendering import render
from kraken_dagster.web.table.selection import select
from kraken_dagster.web.views import files as file_view
from kraken_dagster.web.views import fleet as fleet_view

_FIRST_ROWS = 60
_FURTHEST = 10**9


def fleet(request: Request) -> Response:
    feed: Feed = request.app.state.feed
    found = fleet_view.cards(feed.table, feed.report, feed.services.now())
    return render(request, "fleet.html", cards=found, wrong=fleet_view.of_all(feed.report))


def files(request: Request) -> Response:
    return render(request, "files.html", **_window(request, _FIRST_ROWS))


def rows(request: Request) -> Response:
    """A window of the table, for a page that is open."""
    found = _window(request, file_view.MOST_ROWS)
    answer = render(request, "rows.html", **found)
    answer.headers["X-Total"] = str(found["total"])
    answer.headers["X-Warnings"] = quote(json.dumps(found["warnings"]))
    return answer


def file(request: Request) -> Response:
    feed: Feed = request.app.state.feed
    file_id = request.query_params.get("id", "")
    try:
        found = file_page(feed.services, feed.table, file_id)
    except UnknownRawFile as error:
        return render(request, "message.html", status=404, title="No such file", text=str(error))
    except StoreError as error:
        title = "MongoDB can't be asked"
        return render(request, "message.html", status=503, title=title, text=str(error))
    return render(request, "file.html", **found)


def paths(request: Request) -> Response:
    """The files that are picked, or else all that the filter shows, one per line."""
    feed: Feed = request.app.state.feed
    picked = request.query_params.getlist("id")
    table = feed.table
    with table.lock:
        selection = select(table, request.query_params.get("filter", ""))
        order = file_view.ordered(table, selection.mask, request.query_params.get("sort", ""))
        known = [row for file_id in picked if (row := table.row(file_id)) is not None]
        chosen = known if picked else [int(row) for row in order]
        text = file_view.paths(table, chosen, request.query_params.get("as", "names"))
    return PlainTextResponse(text)


def help_page(request: Request) -> Response:
    return render(request, "help.html")


def _window(request: Request, most: int) -> dict[str, Any]:
    feed, choice = request.app.state.feed, request.app.state.choice
    query = request.query_params
    text, sort = query.get("filter", ""), query.get("sort", file_view.NEWEST)
    offset = _number(query.get("offset"), 0, _FURTHEST)
    limit = _number(query.get("limit"), _FIRST_ROWS, most)
    table = feed.table
    with table.lock:
        wanted = [name for name in query.get("columns", "").split(",") if name]
        names = file_view.names_of(table, choice, wanted)
        selection = select(table, text)
        order = file_view.ordered(table, selection.mask, sort)
        lines = file_view.lines(table, order[offset : offset + limit], names, choice, order)
        heads = file_view.headings(table, names, choice)
        everything = file_view.names_of(table, choice)
    return {
        "filter": text,
        "sort": sort,
        "columns": ",".join(wanted),
        "names": names,
        "everything": everything,
        "headings": heads,
        "lines": lines,
        "offset": offset,
        "limit": limit,
        "total": len(order),
        "of": len(table),
        "warnings": list(selection.warnings),
    }


def _number(text: str | None, standard: int, most: int) -> int:
    """What a query asks for, within bounds; what is no number is as if it weren't there."""
    if text is None or not (text.isascii() and text.isdecimal()):
        return standard
    return int(np.clip(int(text[:12]), 0, most))
