"""The guard of the page: who may look without a login, and what an operator may ask for."""

import logging
from dataclasses import dataclass, field

from starlette.types import Receive, Scope

from kraken_dagster.config.dagit import Role, is_loopback
from kraken_dagster.dagit.guard import Caller, Guard
from kraken_dagster.dagit.rules import Asked, Refused

HOW = (
    "To log in, run `kraken login --page` where Kraken runs, and open the link that it prints. "
    "`kraken login --page --viewer` makes one for people who only look."
)
# Shown to everyone who can connect: the page on the wall, and what it is made of.
_OPEN = ("/wall", "/events", "/healthz", "/favicon.ico")
_STATIC = "/static/"
_READING = ("GET", "HEAD")


@dataclass
class PageGuard(Guard):
    """Without a login people on this machine look, and others see the wall."""

    log: logging.Logger = field(default=logging.getLogger("kraken.page"), repr=False)
    how: str = HOW

    def check_path(self, asked: Asked) -> None:
        if not asked.path.startswith("/") or {".", ".."} & {*asked.path.split("/")}:
            raise Refused(400, f"{asked.path!a} is not a plain path")
        if asked.method not in (*_READING, "POST"):
            raise Refused(405, f"{asked.method!a} is not taken")

    async def admit(self, asked: Asked, caller: Caller, scope: Scope, receive: Receive) -> Receive:  # noqa: ARG002
        if asked.method == "POST" and caller.role is not Role.OPERATOR:
            raise Refused(403, "You only look here; what changes something is for operators", HOW)
        if asked.method == "POST":
            self.log.info("%s: %a: %s", asked.peer, caller.name, asked.path)
        return receive

    def nobody(self, asked: Asked) -> Caller:
        is_open = asked.path in _OPEN or asked.path.startswith(_STATIC)
        on_this_machine = is_loopback(asked.peer) and not self.place.settings.trusted_proxies
        if asked.method in _READING and (is_open or on_this_machine):
            return Caller(Role.VIEWER, "somebody without a login")
        raise Refused(401, "You are not logged in", HOW)
