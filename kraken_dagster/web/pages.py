"""What is answered to a browser: a question to a view, put into a template."""

import json
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from kraken_dagster.model.errors import KrakenError, StoreError, UnknownRawFile
from kraken_dagster.model.files.file_ids import partition_key
from kraken_dagster.model.printable import printable
from kraken_dagster.web.column_config import ColumnChoice
from kraken_dagster.web.feed import Feed
from kraken_dagster.web.file_page import comparable_ids, file_page
from kraken_dagster.web.intake import BASIC
from kraken_dagster.web.once import Once
from kraken_dagster.web.rendering import PART, render
from kraken_dagster.web.table.selection import select
from kraken_dagster.web.views import disks as disk_view
from kraken_dagster.web.views import files as file_view
from kraken_dagster.web.views import fleet as fleet_view
from kraken_dagster.web.views import laboratory as laboratory_view
from kraken_dagster.web.views import plots as plot_view

_FIRST_ROWS = 60
_FURTHEST = 10**9


def fleet(request: Request) -> Response:
    return _once(request, "fleet.html", _cards)


def _cards(feed: Feed) -> dict[str, Any]:
    now = feed.services.now()
    days = {"yesterday": fleet_view.yesterday(now), "Friday": fleet_view.last_friday(now)}
    return {
        "cards": fleet_view.cards(feed.table, feed.report, now, feed.samples, feed.alerts),
        "wrong": fleet_view.of_all(feed.report),
        "since": {name: f"{day:%Y-%m-%d}" for name, day in days.items()},
    }


def _once(request: Request, template: str, values: Callable[[Feed], dict[str, Any]]) -> Response:
    """A page that is the same for all who ask within a second, while nothing changes."""
    feed: Feed = request.app.state.feed
    caller = request.scope["caller"]
    who = caller.role if PART in request.query_params else caller
    key = (template, PART in request.query_params, who, *_now(feed))
    once: Once = request.app.state.once
    return once.answer(request, key, lambda: render(request, template, **values(feed)))


def _now(feed: Feed) -> tuple[int, int]:
    """What an answer with times in it depends on, beside the question."""
    return feed.stamp, int(feed.services.now().timestamp())


def files(request: Request) -> Response:
    return render(request, "files.html", **_window(request, _FIRST_ROWS))


def rows(request: Request) -> Response:
    """A window of the table, for a page that is open."""
    key = ("rows", str(request.query_params), *_now(request.app.state.feed))
    once: Once = request.app.state.once
    return once.answer(request, key, lambda: _rows(request))


def _rows(request: Request) -> Response:
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
    said = request.app.state.errands.said.get(file_id)
    config = feed.services.config
    dagit = None if config.alerts.dagit_url is None else str(config.alerts.dagit_url).rstrip("/")
    return render(
        request,
        "file.html",
        said=said,
        folders=config.page.restore_folders,
        dagit=dagit,
        partition=partition_key(file_id),
        **found,
    )


def traces(request: Request) -> Response:
    """The chromatograms of a file, and of the files of the same kind before it."""
    feed: Feed = request.app.state.feed
    file_id = request.query_params.get("id", "")
    with feed.table.lock:
        before = comparable_ids(feed.table, file_id)
    try:
        return JSONResponse(request.app.state.traces.drawn(file_id, before))
    except KrakenError as error:
        return JSONResponse({"problem": printable(str(error)), "traces": []})


def plots(request: Request) -> Response:
    feed, choice = request.app.state.feed, request.app.state.choice
    table = feed.table
    with table.lock:
        names = plot_view.plottable(table)
        selection = select(table, request.query_params.get("filter", ""))
    wanted = _names(request.query_params.get("y"))
    return render(
        request,
        "plots.html",
        filter=request.query_params.get("filter", ""),
        total=int(selection.mask.sum()),
        warnings=list(selection.warnings),
        names=names,
        y=(wanted or _usual_plots(choice, names))[: plot_view.MOST_PLOTS],
        x=request.query_params.get("x", "created_at"),
        color=request.query_params.get("color", "instrument_id"),
        baseline=request.query_params.get("baseline", ""),
        log=request.query_params.get("log", ""),
        is_log={name for name in names if (e := choice.entry(name)) is not None and e.log_scale},
    )


def plot_data(request: Request) -> Response:
    """What is drawn: several plots over one range."""
    key = ("plots", str(request.query_params), request.app.state.feed.stamp)
    once: Once = request.app.state.once
    return once.answer(request, key, lambda: _plot_data(request))


def _plot_data(request: Request) -> Response:
    feed: Feed = request.app.state.feed
    query, table = request.query_params, request.app.state.feed.table
    view = plot_view.View(
        x=query.get("x", "created_at"),
        low=_float(query.get("low")),
        high=_float(query.get("high")),
        width=max(50, _number(query.get("width"), 600, 2000)),
        color=query.get("color", "instrument_id"),
    )
    with table.lock:
        selection = select(table, query.get("filter", ""))
        names = _names(query.get("y"))[: plot_view.MOST_PLOTS]
        wanted = query.get("baseline", "").strip()
        baseline = select(table, wanted) if wanted else None
        band = None if baseline is None else baseline.mask
        found = [plot_view.series(table, selection.mask, name, view, band) for name in names]
        column = table.columns.get(view.x)
        is_time = column is not None and column.is_time
    return JSONResponse(
        {
            "plots": found,
            "is_time": is_time,
            "total": int(selection.mask.sum()),
            "warnings": [*selection.warnings, *(baseline.warnings if baseline else ())],
            "stamp": feed.stamp,
        }
    )


def _usual_plots(choice: ColumnChoice, names: Sequence[str]) -> list[str]:
    """Those that the configuration plots, one that overlays as one plot; else some."""
    found = []
    for entry in choice.entries:
        fitting = [name for name in names if choice.entry(name) is entry]
        if entry.plot and fitting:
            found += [entry.name] if entry.overlay else fitting
    others = [name for name in names if name not in BASIC]
    return found or others[:6]


def status(request: Request) -> Response:
    return _once(request, "status.html", _status)


def _status(feed: Feed) -> dict[str, Any]:
    report, now = feed.report, feed.services.now()
    instruments = [item["id"] for item in report.get("instruments", ())]
    rates = fleet_view.rates(feed.table, instruments, now)
    return {
        "instruments": instruments,
        "days": laboratory_view.throughput(feed.table, instruments, now),
        "oldest": laboratory_view.oldest(feed.table),
        "disks": disk_view.disks(report, feed.samples, rates, now),
        "drawn": (disk_view.WIDTH, disk_view.HEIGHT),
        "report": report,
    }


def wall(request: Request) -> Response:
    return _once(request, "wall.html", _cards)


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
        shown = order[offset : offset + limit]
        ages = fleet_view.ages(table, [int(row) for row in shown], feed.services.now())
        lines = file_view.lines(table, shown, names, choice, scale=order, ages=ages)
        heads = file_view.headings(table, names, choice)
        everything = file_view.choices(table, choice, names)
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


def _names(text: str | None) -> list[str]:
    return [name for name in (text or "").split(",") if name]


def _float(text: str | None) -> float | None:
    try:
        found = float(text or "")
    except ValueError:
        return None
    return found if np.isfinite(found) else None


def _number(text: str | None, standard: int, most: int) -> int:
    """What a query asks for, within bounds; what is no number is as if it weren't there."""
    if text is None or not (text.isascii() and text.isdecimal()):
        return standard
    return int(np.clip(int(text[:12]), 0, most))
