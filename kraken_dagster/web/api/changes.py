"""Server-sent events: which files have changed, for programs that follow along."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from kraken_dagster.web.api.endpoint import Asked
from kraken_dagster.web.feed import Feed

EVENTS = "text/event-stream"
MOST = 1_000  # files that one event names
_EVERY_S = 1.0
_ALIVE_EVERY = 15  # of these


def events(asked: Asked) -> Any:
    """An event `files` for what has changed, and `reset` where that can't be told any more.

    `Last-Event-ID` goes on where a connection has ended, as browsers do by themselves.
    """
    feed, last = asked.feed, asked.request.headers.get("last-event-id", "")

    async def generate() -> AsyncIterator[str]:
        yield "retry: 2000\n\n"
        place, looks = last, 0
        while not feed.stopping.is_set():
            event, data, new = await run_in_threadpool(changes_since, feed, place)
            if event is not None:
                yield f"id: {new}\nevent: {event}\ndata: {json.dumps(data)}\n\n"
            elif looks % _ALIVE_EVERY == 0:
                yield ": alive\n\n"
            place, looks = new, looks + 1
            await asyncio.sleep(_EVERY_S)

    return StreamingResponse(generate(), media_type=EVENTS)


def changes_since(feed: Feed, place: str) -> tuple[str | None, dict[str, Any], str]:
    """What happened since a place: the event, its data and the new place.

    `files` names the files; `reset`: the place is of another process of the page or too long ago,
    or there are too many: whoever keeps a copy reads it anew.
    """
    table = feed.table
    with table.lock:
        now = f"{table.token}-{table.version}"
        if place == "":
            return None, {}, now
        token, _, version = place.partition("-")
        known = token == table.token and version.isascii() and version.isdecimal()
        if not known:
            return "reset", {}, now
        rows = np.flatnonzero(table.changed > min(int(version[:18]), table.version))
        if len(rows) > MOST:
            return "reset", {}, now
        ids = [table.ids[row] for row in rows]
    return ("files" if ids else None), {"ids": ids}, now
