"""HTML from templates. Everything that is put into one is escaped, and made printable."""

import hashlib
import json
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from kraken_dagster.config.dagit import Role
from kraken_dagster.metrics.catalogue import title_of
from kraken_dagster.model.printable import printable, printable_lines
from kraken_dagster.web.feed import Feed
from kraken_dagster.web.views import files as file_view
from kraken_dagster.web.views import words

STATIC = Path(__file__).parent / "static"
PART = "part"  # the query's key for a page without its frame, which a page that is open asks for


def make_environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("kraken_dagster.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "shown": printable,
        "short": words.short,
        "number": words.number,
        "size": words.size,
        "gb": words.gigabytes,
        "time": words.day_and_time,
        "span": words.span,
        "human": human,
        "lines": printable_lines,
        "document": document,
        "titled": title_of,
        "about": file_view.about,
        "in_full": file_view.in_full,
    }
    return environment


def render(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A page, or its part that changes."""
    feed: Feed = request.app.state.feed
    caller = request.scope["caller"]
    now = feed.services.now()
    root = request.app.state.root_path
    is_part = PART in request.query_params
    text = request.app.state.templates.get_template(template).render(
        layout="part.html" if is_part else "base.html",
        root=root,
        static=lambda name: f"{root}/static/{name}?v={_version(name)}",
        link=lambda path, **query: f"{root}{path}" + (f"?{urlencode(query)}" if query else ""),
        ago=lambda at: words.ago(at, now),
        now=now,
        feed=feed,
        path=request.url.path.removeprefix(root),
        may_operate=caller.role is Role.OPERATOR,
        caller=caller,
        **values,
    )
    return HTMLResponse(text, status)


def human(value: object) -> str:
    """A value of a document as text."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return words.day_and_time(value)
    if isinstance(value, float) or type(value) is int:
        return words.number(value)
    return printable(value)


def document(value: object) -> str:
    """A part of a document, for those who know what its fields mean."""
    return printable_lines(json.dumps(value, indent=1, default=str, ensure_ascii=False))


@cache
def _version(name: str) -> str:
    return hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]
