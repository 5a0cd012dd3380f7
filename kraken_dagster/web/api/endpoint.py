"""One route of REST: what it takes, what it answers, and how a request becomes a call."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kraken_dagster.dagit.guard import Caller
from kraken_dagster.model.errors import KrakenError
from kraken_dagster.runtime.services import Services
from kraken_dagster.web.api.problems import Json, Problem, of_error, of_parameters
from kraken_dagster.web.feed import Feed

ROOT = "/api"
JSON = "application/json"
_LONGEST_BODY = 100_000
ANY = "any"  # a part of an address that may hold `/` and line ends, as names of files may
_log = logging.getLogger("kraken.page")


class _Any(StringConvertor):
    regex = "(?s:.+)"


register_url_convertor(ANY, _Any())


@dataclass(frozen=True)
class Asked:
    """A request that was understood. `query` and `body` are of the endpoint's models."""

    request: Request
    query: Any = None
    body: Any = None

    @property
    def feed(self) -> Feed:
        feed: Feed = self.request.app.state.feed
        return feed

    @property
    def services(self) -> Services:
        return self.feed.services

    @property
    def id(self) -> str:
        return str(self.request.path_params["id"])

    @property
    def by(self) -> str:
        """Who has asked, as histories name it."""
        caller: Caller = self.request.scope["caller"]
        return f"{caller.name} by REST"


@dataclass(frozen=True)
class Endpoint:
    """A route. `answer` gives a response, or plain data for one as JSON.

    Args:
        path: below `/api`, as Starlette writes it.
        example: an answer, for the description; so are the other examples.
        errors: statuses of problems besides those that every route may answer with.
    """

    path: str
    answer: Callable[[Asked], Any]
    summary: str
    example: Any
    method: str = "GET"
    query: type[BaseModel] | None = None
    query_example: Mapping[str, Any] = field(default_factory=dict)
    body: type[BaseModel] | None = None
    body_example: Any = None
    status: int = 200
    media_types: tuple[str, ...] = (JSON,)
    path_example: str = ""
    fault_example: Any = None  # where wrong parameters are told in another form
    errors: tuple[int, ...] = ()
    faults: Callable[[list[dict[str, Any]]], Response] = of_parameters

    @property
    def changes_something(self) -> bool:
        return self.method == "POST"

    def route(self) -> Route:
        # partial: Starlette takes a function without a name of a method for a whole application
        return Route(f"{ROOT}{self.path}", partial(_respond, self), methods=[self.method])


async def _respond(endpoint: Endpoint, request: Request) -> Response:
    limits = request.app.state.limits
    refused: Response | None = limits.refuse(request, changes=endpoint.changes_something)
    if refused is not None:
        return refused
    try:
        asked = await _understood(endpoint, request)
    except ValidationError as error:
        place = "body" if error.title == _title(endpoint.body) else "query"
        found = error.errors(include_url=False)
        return endpoint.faults([{**item, "loc": [place, *item["loc"]]} for item in found])
    if isinstance(asked, Response):
        return asked
    response = await run_in_threadpool(_answer, endpoint, asked)
    if endpoint.changes_something:
        await run_in_threadpool(_record, endpoint, asked, response.status_code)
    return response


def _record(endpoint: Endpoint, asked: Asked, status: int) -> None:
    """Who had it done; that it can't be recorded undoes nothing that was done."""
    action = endpoint.answer.__name__
    subject = asked.request.path_params.get("id", "")
    try:
        asked.services.store.api_tokens.record(
            by=asked.by, action=action, subject=subject, status=status, at=asked.services.now()
        )
    except KrakenError as error:
        _log.error("%s by %a could not be recorded: %s", action, asked.by, error)


def _title(model: type[BaseModel] | None) -> str | None:
    return None if model is None else model.__name__


def _answer(endpoint: Endpoint, asked: Asked) -> Response:
    try:
        found = endpoint.answer(asked)
    except KrakenError as error:
        return of_error(error)
    except Exception as error:  # noqa: BLE001 - told to who has asked
        _log.exception("%s %a could not be answered", endpoint.method, endpoint.path)
        return Problem(500, "This is a fault in Kraken", f"{type(error).__name__}; see its log")
    if isinstance(found, Response):
        return found
    return Json(found, endpoint.status)


async def _understood(endpoint: Endpoint, request: Request) -> Asked | Response:
    """
    Raises:
        ValidationError: parameters or a body of other kinds.
    """
    # of a parameter that stands there twice the last one counts
    query = endpoint.query and endpoint.query.model_validate(dict(request.query_params))
    if endpoint.body is None:
        return Asked(request, query)
    content = b""
    async for chunk in request.stream():
        content += chunk
        if len(content) > _LONGEST_BODY:
            return Problem(413, "The body is too long", f"at most {_LONGEST_BODY} bytes are taken")
    if not content:
        return Asked(request, query, endpoint.body.model_validate({}))
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        return Problem(415, "The body is not JSON", f"send it as {JSON}")
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        return Problem(400, "The body is not JSON", str(error)[:200])
    return Asked(request, query, endpoint.body.model_validate(body))
