"""Forms that operators send: read within bounds, and done in a thread, as they ask MongoDB."""

from collections.abc import Callable
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from kraken_dagster.dagit.guard import Caller
from kraken_dagster.web.rendering import render

Form = dict[str, str]
Fields = dict[str, list[str]]
_LONGEST_BODY = 100_000


async def with_form(request: Request, action: Callable[[Request, Form], Response]) -> Response:
    """What an action answers to the fields of a form; of a field that stands there twice all values
    but the first are nothing."""

    def answer(request: Request, fields: Fields) -> Response:
        return action(request, {key: values[0] for key, values in fields.items()})

    return await with_fields(request, answer)


async def with_fields(request: Request, action: Callable[[Request, Fields], Response]) -> Response:
    """The same, where each field has all of its values."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LONGEST_BODY:
            return render(
                request, "message.html", status=413, title="This is too long for a form", text=""
            )
    found = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
    return await run_in_threadpool(action, request, found)


def asked_by(request: Request) -> str:
    """Who has asked, for histories."""
    caller: Caller = request.scope["caller"]
    return f"{caller.name} on the page"
