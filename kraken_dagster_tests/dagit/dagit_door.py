"""Dagit on a port of this machine, with its guard or without, and what strangers send to it."""

import http.client
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import dagster as dg
import uvicorn
from dagster._cli.workspace.cli_target import WorkspaceOpts, workspace_opts_to_load_target
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster_webserver.app import create_app_from_workspace_process_context
from starlette.types import ASGIApp

from kraken_dagster.config.dagit import Dagit, Place, Role
from kraken_dagster.dagit.access import Access
from kraken_dagster.dagit.serve import ReadOnly, guarded
from kraken_dagster.fs.processes.child_processes import free_port
from kraken_dagster.runtime.services import utc_now
from kraken_dagster_tests.support.helpers import wait_until

Header = tuple[str, str]
JSON: Header = ("Content-Type", "application/json")
POOL = "attacked"
MUTATION = f'mutation {{ setConcurrencyLimit(concurrencyKey: "{POOL}", limit: 7) }}'
READING = "{ version }"


@dataclass(frozen=True)
class Answer:
    status: int
    text: str
    headers: http.client.HTTPMessage

    @property
    def json(self) -> object:
        return json.loads(self.text)


@dataclass(frozen=True)
class Door:
    """A Dagit that listens, without code locations."""

    place: Place
    access: Access
    instance: dg.DagsterInstance

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.place.port}"

    def send(
        self,
        method: str,
        path: str,
        *headers: Header,
        body: str | bytes = b"",
        host: str | None = None,
        source: str = "127.0.0.1",
    ) -> Answer:
        """Sends just these headers, as no browser adds to or corrects them."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.place.port, timeout=60, source_address=(source, 0)
        )
        content = body.encode() if isinstance(body, str) else body
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", host or f"127.0.0.1:{self.place.port}")
        for name, value in headers:
            connection.putheader(name, value)
        if content or method in ("POST", "PUT"):
            connection.putheader("Content-Length", str(len(content)))
        connection.endheaders(content)
        answer = connection.getresponse()
        with closing(connection):
            return Answer(answer.status, answer.read().decode(), answer.headers)

    def login(self, role: Role) -> Header:
        """The cookie of somebody who has opened a link."""
        self.access.prepare(self.origin)
        link = self.access.new_link(role, now=utc_now())
        answer = self.send("GET", link.removeprefix(self.origin))
        assert answer.status == 303, answer
        return "Cookie", answer.headers["Set-Cookie"].partition(";")[0]

    def bearer(self, role: Role) -> Header:
        return "Authorization", f"Bearer {self.access.token(role)}"

    @property
    def was_attacked(self) -> bool:
        return any(item.name == POOL for item in self.instance.event_log_storage.get_pool_limits())


@contextmanager
def dagit(
    home: Path,
    *,
    settings: Dagit | None = None,
    serve: Literal["guarded", "open", "read only"] = "guarded",
) -> Iterator[Door]:
    """Serves Dagit as `kraken up` does, or one of its two applications without the guard."""
    place = Place(settings or Dagit(), port=free_port())
    target = workspace_opts_to_load_target(WorkspaceOpts(empty_workspace=True))
    access = Access(home)
    with (
        dg.DagsterInstance.local_temp(str(home)) as instance,
        WorkspaceProcessContext(instance, workspace_load_target=target) as context,
    ):
        application: ASGIApp = guarded(context, place, access)
        if serve != "guarded":
            one = context if serve == "open" else ReadOnly(context)
            application = create_app_from_workspace_process_context(one)
        server = uvicorn.Server(
            uvicorn.Config(
                application, port=place.port, lifespan="off", log_level="error", proxy_headers=False
            )
        )
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            wait_until(lambda: server.started, "Dagit listens")
            yield Door(place, access, instance)
        finally:
            server.should_exit = True
            thread.join(30)


def of_a_mutation(text: str = MUTATION) -> str:
    return json.dumps({"query": text})


def by_get(text: str, *more: str) -> str:
    return "/graphql?" + "&".join([f"query={quote(text)}", *more])


def attacks(door: Door, login: Sequence[Header]) -> Iterator[tuple[str, Answer]]:
    """Ways to have a mutation done through the browser of somebody who is logged in."""
    origin, cookie = ("Origin", door.origin), [*login]
    evil = ("Origin", "http://evil.example")
    image = [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors")]
    get, post, body = by_get(MUTATION), "/graphql", of_a_mutation()
    yield "an image", door.send("GET", get, *cookie, *image)
    yield "an image in an old browser", door.send("GET", get, *cookie)
    yield "its own page by GET", door.send("GET", get, *cookie, origin)
    both = by_get(f"query a {READING} {MUTATION.replace('mutation', 'mutation b')}")
    yield "a second operation", door.send("GET", f"{both}&operationName=b", *cookie)
    yield "a second query", door.send("GET", by_get(READING, get.partition("?")[2]), *cookie)
    yield "a foreign page", door.send("POST", post, *cookie, JSON, evil, body=body)
    null = ("Origin", "null")
    yield "a page of no origin", door.send("POST", post, *cookie, JSON, null, body=body)
    other = ("Origin", "http://127.0.0.1:1")
    yield "another port's page", door.send("POST", post, *cookie, JSON, other, body=body)
    tls = ("Origin", door.origin.replace("http", "https"))
    yield "another scheme's page", door.send("POST", post, *cookie, JSON, tls, body=body)
    yield "a page that hides its origin", door.send("POST", post, *cookie, JSON, body=body)
    site = ("Sec-Fetch-Site", "same-site")
    yield "a neighbour", door.send("POST", post, *cookie, JSON, origin, site, body=body)
    plain = ("Content-Type", "text/plain; application/json")
    yield "no preflight", door.send("POST", post, *cookie, plain, origin, body=body)
    graphql = ("Content-Type", "text/plain; application/graphql")
    yield "GraphQL's own type", door.send("POST", post, *cookie, graphql, origin, body=MUTATION)
    form = ("Content-Type", "application/x-www-form-urlencoded")
    yield "a form", door.send("POST", get, *cookie, form, origin)
    yield "nobody", door.send("POST", post, JSON, origin, body=body)
    rebound = f"evil.example:{door.place.port}"
    page = ("Origin", f"http://{rebound}")
    yield "rebinding", door.send("POST", post, *cookie, JSON, page, body=body, host=rebound)
