"""The guard of the page: who may look without a login, and what an operator may ask for."""

import logging
from dataclasses import dataclass, field
from http import HTTPStatus

from starlette.responses import Response
from starlette.types import Receive, Scope

from kraken_dagster.config.dagit import Role, is_loopback
from kraken_dagster.dagit.guard import Caller, Guard
from kraken_dagster.dagit.rules import Asked, Refused
from kraken_dagster.model.api_tokens import PREFIX, TokenScope
from kraken_dagster.operations.tokens import token_of
from kraken_dagster.runtime.services import Services
from kraken_dagster.web.api.endpoint import ROOT as API
from kraken_dagster.web.api.problems import Problem

HOW = (
    "To log in, run `kraken login --page` where Kraken runs, and open the link that it prints. "
    "`kraken login --page --viewer` makes one for people who only look."
)
# Shown to everyone who can connect: the page on the wall, and what it is made of.
_OPEN = ("/wall", "/events", "/healthz", "/api/health", "/favicon.ico")
_NEW_TOKEN = "`kraken token list` shows all, `kraken token add` makes one."  # noqa: S105
_STATIC = "/static/"
_READING = ("GET", "HEAD")
_TAKEN = (*_READING, "POST")
_HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 405: {"Allow": ", ".join(_TAKEN)}}


@dataclass
class PageGuard(Guard):
    """Without a login people on this machine look, and others see the wall."""

    services: Services = field(kw_only=True, repr=False)
    log: logging.Logger = field(default=logging.getLogger("kraken.page"), repr=False)
    how: str = HOW

    def check_path(self, asked: Asked) -> None:
        if not asked.path.startswith("/") or {".", ".."} & {*asked.path.split("/")}:
            raise Refused(400, f"{asked.path!a} is not a plain path")
        if asked.method not in _TAKEN:
            raise Refused(405, f"{asked.method!a} is not taken")

    async def admit(self, asked: Asked, caller: Caller, scope: Scope, receive: Receive) -> Receive:  # noqa: ARG002
        if asked.method == "POST" and caller.role is not Role.OPERATOR:
            how = HOW
            if caller.by_token:
                how = "`kraken token add NAME --scope operate` makes a token for operators."
            raise Refused(403, "You only look here; what changes something is for operators", how)
        if asked.method == "POST":
            self.log.info("%s: %a: %s", asked.peer, caller.name, asked.path)
        return receive

    def by_token(self, token: str) -> Caller:
        if not token.startswith(PREFIX):
            return super().by_token(token)
        found = token_of(self.services, token)
        if found is None:
            raise Refused(401, "This token is not valid, or not any more", _NEW_TOKEN)
        role = Role.OPERATOR if found.scope is TokenScope.OPERATE else Role.VIEWER
        return Caller(role, f"token {found.name}", by_token=True)

    def refusal(self, refused: Refused, scope: Scope) -> Response:
        if not scope["path"].removeprefix(self.place.root_path).startswith(f"{API}/"):
            return super().refusal(refused, scope)
        headers = _HEADERS.get(refused.status)
        kind = HTTPStatus(refused.status).phrase
        return Problem(
            refused.status, kind, str(refused), kind="urn:kraken:access", headers=headers
        )

    def nobody(self, asked: Asked) -> Caller:
        is_open = asked.path in _OPEN or asked.path.startswith(_STATIC)
        on_this_machine = is_loopback(asked.peer) and not self.place.settings.trusted_proxies
        if asked.method in _READING and (is_open or on_this_machine):
            return Caller(Role.VIEWER, "somebody without a login")
        raise Refused(401, "You are not logged in", HOW)
