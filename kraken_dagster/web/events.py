"""Server-sent events: that something has changed, and a sign of life every second.

An event says what the server knows of itself; the page asks for what it shows, if it is another.
"""

import asyncio
import json
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import StreamingResponse

from kraken_dagster.web.feed import Feed

_EVERY_S = 1.0


async def events(request: Request) -> StreamingResponse:
    """`{"stamp", "age_s", "problem"}` each second; a stamp that is another means a change."""
    feed: Feed = request.app.state.feed

    async def generate() -> AsyncIterator[str]:
        yield "retry: 2000\n\n"
        while not feed.stopping.is_set():
            yield f"data: {state(feed)}\n\n"
            await asyncio.sleep(_EVERY_S)

    return StreamingResponse(generate(), media_type="text/event-stream")


def state(feed: Feed) -> str:
    now = feed.services.now()
    age = None if feed.seen_at is None else round((now - feed.seen_at).total_seconds(), 1)
    return json.dumps({"stamp": feed.stamp, "age_s": age, "problem": feed.problem})
