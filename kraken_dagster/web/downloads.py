"""Files and paths that are taken away from the page."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from kraken_dagster.model.errors import KrakenError
from kraken_dagster.quality.mzqc_export import mzqc_of_run, mzqc_of_runs
from kraken_dagster.web.feed import Feed
from kraken_dagster.web.rendering import render
from kraken_dagster.web.table.columns import Rows, Table
from kraken_dagster.web.table.exports import FORMS
from kraken_dagster.web.table.selection import select
from kraken_dagster.web.views import files as file_view

_MOST_IN_MZQC = 2_000  # files; each has some 5 kB


def paths(request: Request) -> Response:
    """The files that are picked, or else all that the filter shows, one per line."""
    table = request.app.state.feed.table
    with table.lock:
        rows = [int(row) for row in _chosen(request, table)]
        text = file_view.paths(table, rows, request.query_params.get("as", "names"))
    left_out = len(rows) - text.count("\n")
    return PlainTextResponse(text, headers={"X-Left-Out": str(left_out)})


def export(request: Request) -> Response:
    """The same files with their metrics; the columns that are asked for, else all."""
    feed: Feed = request.app.state.feed
    form = request.query_params.get("as", "csv")
    if form == "mzqc":
        return _mzqc_of_chosen(request)
    if form not in FORMS:
        known = ", ".join((*FORMS, "mzqc"))
        return render(
            request, "message.html", status=400, title=f"There is no export as {form!r}", text=known
        )
    media_type, write = FORMS[form]
    table = feed.table
    with table.lock:
        wanted = [name for name in request.query_params.get("columns", "").split(",") if name]
        names = file_view.names_of(table, request.app.state.choice, wanted)
        content = write(table, _chosen(request, table), names)
    return _download(content, media_type, f"files.{form}")


def _mzqc_of_chosen(request: Request) -> Response:
    feed: Feed = request.app.state.feed
    ids = chosen_ids(request)
    title = "No mzQC can be made of these files"
    if len(ids) > _MOST_IN_MZQC:
        text = f"They are {len(ids):,}, expected at most {_MOST_IN_MZQC:,}. Next: filter, or pick."
        return render(request, "message.html", status=400, title=title, text=text)
    try:
        found = mzqc_of_runs(feed.services, ids)
    except KrakenError as error:
        return render(request, "message.html", status=404, title=title, text=str(error))
    return as_json(found, "files.mzQC")


def mzqc(request: Request) -> Response:
    """All results of one file as mzQC."""
    feed: Feed = request.app.state.feed
    try:
        found = mzqc_of_run(feed.services, request.query_params.get("id", ""))
    except KrakenError as error:
        title = "No mzQC can be made of this file"
        return render(request, "message.html", status=404, title=title, text=str(error))
    return as_json(found, "file.mzQC")


def as_json(document: Mapping[str, Any], name: str) -> Response:
    """A document that a browser keeps as a file of this name."""
    content = json.dumps(document, indent=1, default=str).encode()
    return _download(content, "application/json", name)


def chosen_ids(request: Request) -> list[str]:
    """The files that are picked, or else all that the filter shows."""
    table = request.app.state.feed.table
    with table.lock:
        return [table.ids[row] for row in _chosen(request, table)]


def _chosen(request: Request, table: Table) -> Rows:
    picked = request.query_params.getlist("id")
    if picked:
        rows = [row for file_id in picked if (row := table.row(file_id)) is not None]
        return np.array(rows, dtype=np.int64)
    selection = select(table, request.query_params.get("filter", ""))
    sort = request.query_params.get("sort", file_view.NEWEST)
    return file_view.ordered(table, selection.mask, sort)


def _download(content: bytes, media_type: str, name: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type=media_type, headers=headers)
