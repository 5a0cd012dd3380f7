"""The two ways to the server: standard input and output, and streamable HTTP behind a guard."""

import logging
from dataclasses import dataclass, field
from http import HTTPStatus

from mcp.server.transport_security import TransportSecuritySettings
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from kraken_dagster.config.dagit import Place, Role, is_loopback
from kraken_dagster.dagit.access import Access
from kraken_dagster.dagit.guard import Caller
from kraken_dagster.dagit.listening import listen, log_to_stderr
from kraken_dagster.dagit.rules import Asked, Refused
from kraken_dagster.runtime.services import Services
from kraken_dagster.web.api.limits import Limits
from kraken_dagster.web.guard import PageGuard
from kraken_dagster.web.mcp.server import make_server

PATH = "/mcp"
HOW = "`kraken token add NAME --scope read` makes a token; send it as `Authorization: Bearer ...`."
_METHODS = ("GET", "POST", "DELETE")


def serve_stdio(services: Services) -> None:
    """Serves the program that has started this one, until it closes standard input."""
    make_server(services).run()


def serve_http(services: Services, place: Place) -> None:
    """Serves until SIGTERM or Ctrl-C.

    Raises:
        ConfigError: the folder with the logins can't be used.
    """
    log_to_stderr()
    listen(guarded(services, place), place, lifespan="on")


def guarded(services: Services, place: Place) -> ASGIApp:
    """The server as an application. It keeps nothing between requests, so that one that is
    restarted goes on with its clients."""
    app = make_server(services).streamable_http_app(
        streamable_http_path=PATH,
        json_response=True,
        stateless_http=True,
        # the guard checks Host and Origin, by the names that the configuration has
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    access = Access(services.config.home)
    limits = Limits(reads=services.config.page.requests_a_minute)
    guard = McpGuard(
        place, access, operating=app, looking=app, services=services, how=HOW, limits=limits
    )

    async def outermost(scope: Scope, receive: Receive, send: Send) -> None:
        await (app if scope["type"] == "lifespan" else guard)(scope, receive, send)

    return outermost


@dataclass
class McpGuard(PageGuard):
    """Without a token people on this machine ask, as on the page; nothing can be changed here."""

    limits: Limits = field(kw_only=True, repr=False)
    log: logging.Logger = field(default=logging.getLogger("kraken.mcp"), repr=False)

    def check_path(self, asked: Asked) -> None:
        if asked.path != PATH:
            raise Refused(404, f"{asked.path!a} is not here", f"The server is at {PATH}.")
        if asked.method not in _METHODS:
            raise Refused(405, f"{asked.method!a} is not taken")

    def check_sender(self, asked: Asked, caller: Caller) -> None:
        """A program sends no Origin, and a browser's page none but the server's own."""

    async def admit(self, asked: Asked, caller: Caller, scope: Scope, receive: Receive) -> Receive:  # noqa: ARG002
        wait_s = self.limits.wait_s(caller.name, changes=False)
        if wait_s > 0:
            raise Refused(429, "Too many requests", f"Ask again in {wait_s + 0.5:.0f} s.")
        return receive

    def nobody(self, asked: Asked) -> Caller:
        if is_loopback(asked.peer) and not self.place.settings.trusted_proxies:
            return Caller(Role.VIEWER, "somebody without a login")
        raise Refused(401, "A token is needed", HOW)

    def refusal(self, refused: Refused, scope: Scope) -> Response:  # noqa: ARG002
        headers = (
            {"WWW-Authenticate": "Bearer"} if refused.status == HTTPStatus.UNAUTHORIZED else {}
        )
        error = {"code": -32600, "message": str(refused)}
        content = {"jsonrpc": "2.0", "id": None, "error": error}
        return JSONResponse(content, refused.status, headers)
