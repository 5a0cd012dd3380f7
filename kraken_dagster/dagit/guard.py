"""The door before Dagit and the page: who is let in, as operator or viewer, what is refused."""

import html
import logging
import time
from dataclasses import dataclass, field

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kraken_dagster.config.dagit import Place, Role
from kraken_dagster.dagit.access import LOGIN_LIVES_FOR, Access
from kraken_dagster.dagit.rules import (
    FORWARDED_USER,
    PROXY_TOKEN,
    WEB_SOCKET,
    Asked,
    Refused,
    check_cross_site,
    check_place,
    scheme_of,
)
from kraken_dagster.model.errors import KrakenError
from kraken_dagster.runtime.services import utc_now

_LOGIN = "/login"
_HEADERS = {
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_TOLD_EVERY_S = 1.0
_HOW = (
    "To log in, run `kraken login` where Kraken runs, and open the link that it prints. "
    "`kraken login --viewer` makes one for people who only look."
)
# A browser leaves the login out of a request that another site's link has begun; Dagit's own
# page asks again, and then it is there.
_ONCE_MORE = '<meta http-equiv="refresh" content="0">'
_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8">{head}<title>Kraken</title>
</head><body style="font: 16px sans-serif; max-width: 40em; margin: 4em auto"><h1>Kraken</h1>
<p>{text}</p></body></html>"""


@dataclass(frozen=True)
class Caller:
    """Who has asked."""

    role: Role
    name: str  # a proxy's user, or by what else this one is known
    by_token: bool = False


@dataclass
class Guard:
    """Lets operators into one application, and viewers into another that only reads.

    What is asked of the application itself is for a guard of its own kind to say: `check_path`, and
    `admit` with the body. An application finds who has asked in `scope["caller"]`.
    """

    place: Place
    access: Access
    operating: ASGIApp
    looking: ASGIApp
    log: logging.Logger = field(default=logging.getLogger("kraken.dagit"), repr=False)
    how: str = _HOW  # to log in
    _told_at: float = field(default=0.0, repr=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return
        try:
            asked = await run_in_threadpool(self._asked, scope)
            check_place(asked, self.place)
            self.check_path(asked)
            if asked.path == _LOGIN and asked.method == "GET":
                response = await run_in_threadpool(self._log_in, asked, scope)
                await response(scope, receive, _with_headers(send))
                return
            caller = await run_in_threadpool(self._caller, asked)
            self.check_sender(asked, caller)
            receive = await self.admit(asked, caller, scope, receive)
        except Refused as refused:
            await self._refuse(refused, scope, receive, send)
            return
        except KrakenError as error:  # of the folder with the tokens
            self.log.error("%s", error)  # noqa: TRY400 - the message says it all
            await self._refuse(Refused(503, "Logins can't be checked"), scope, receive, send)
            return
        app = self.operating if caller.role is Role.OPERATOR else self.looking
        await app({**scope, "caller": caller}, receive, _with_headers(send))

    def check_path(self, asked: Asked) -> None:
        """Raises Refused for a path or a method that the application's own pages don't use."""

    def check_sender(self, asked: Asked, caller: Caller) -> None:
        """Raises Refused for a change that no page of the application's own has asked for."""
        check_cross_site(asked, by_token=caller.by_token)

    async def admit(self, asked: Asked, caller: Caller, scope: Scope, receive: Receive) -> Receive:
        """What the application is to receive; raises Refused for what the caller may not do."""
        raise NotImplementedError

    def nobody(self, asked: Asked) -> Caller:  # noqa: ARG002 - decides for other guards
        """Who has asked without saying so; raises Refused unless such a one may look."""
        raise Refused(401, "You are not logged in", self.how)

    def _asked(self, scope: Scope) -> Asked:
        headers = Headers(scope=scope)
        peer = scope["client"][0] if scope.get("client") else ""
        return Asked(
            method=scope.get("method", WEB_SOCKET),
            path=scope["path"],
            scheme=scheme_of(headers, scope["scheme"], from_proxy=self._is_proxy(peer, headers)),
            peer=peer,
            headers=headers,
        )

    def _is_proxy(self, peer: str, headers: Headers) -> bool:
        tokens = headers.getlist(PROXY_TOKEN)
        return (
            len(tokens) == 1 and self.place.is_proxy(peer) and self.access.is_proxy_token(tokens[0])
        )

    def _caller(self, asked: Asked) -> Caller:
        user, authorization = asked.one(FORWARDED_USER), asked.one("authorization")
        if user is not None:
            if not self._is_proxy(asked.peer, asked.headers):
                raise Refused(
                    403,
                    f"{asked.peer} is not a trusted proxy, and says who its user is",
                    "See `trusted_proxies` and the token for proxies in docs/security.md.",
                )
            if user:
                return Caller(self.place.role_of(user), user)
        kind, _, token = (authorization or "").partition(" ")
        if kind.lower() == "bearer":
            return self.by_token(token.strip())
        for header in asked.headers.getlist("cookie"):
            login = cookie_parser(header).get(self._cookie)
            role = login and self.access.role_of_login(login, now=utc_now())
            if role:
                return Caller(role, "a login")
        return self.nobody(asked)

    def by_token(self, token: str) -> Caller:
        """Who has asked with a token; raises Refused unless it is one of Kraken's home."""
        role = self.access.role_of_token(token)
        if role is None:
            raise Refused(401, "This token is not valid", "docs/security.md says where it is.")
        return Caller(role, "a token", by_token=True)

    @property
    def _cookie(self) -> str:
        return f"kraken_{self.place.port}"  # browsers don't tell ports of one host apart

    def _log_in(self, asked: Asked, scope: Scope) -> Response:
        code = QueryParams(scope["query_string"]).get("code", "")
        now = utc_now()
        role = self.access.use_link(code, now=now) if code else None
        if role is None:
            raise Refused(401, "This link was used already, or is too old", self.how)
        response = RedirectResponse(f"{self.place.root_path}/", status_code=303)
        response.set_cookie(
            self._cookie,
            self.access.new_login(role, now=now),
            max_age=int(LOGIN_LIVES_FOR.total_seconds()),
            secure=asked.scheme == "https",
            httponly=True,
            samesite="strict",
        )
        self.log.info("%s: somebody logged in as %s", asked.peer, role)
        return response

    async def _refuse(self, refused: Refused, scope: Scope, receive: Receive, send: Send) -> None:
        peer, now = (scope.get("client") or ("",))[0], time.monotonic()
        if now - self._told_at > _TOLD_EVERY_S:  # a stranger is not to fill the disk
            self._told_at = now
            self.log.warning("%s: refused %a: %s", peer, scope["path"][:200], str(refused)[:500])
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": str(refused)[:100]})
            return
        response = self.refusal(refused, scope)
        response.headers["Cache-Control"] = "no-store"
        await response(scope, receive, _with_headers(send))

    def refusal(self, refused: Refused, scope: Scope) -> Response:
        """What is answered to who is not let in."""
        headers = Headers(scope=scope)
        if "text/html" not in headers.get("accept", ""):
            return PlainTextResponse(f"kraken: {refused}\n", refused.status)
        is_link = headers.get("sec-fetch-site") in ("cross-site", "same-site")
        again = is_link and refused.status == 401 and scope["path"] != _LOGIN
        text = html.escape(str(refused))
        page = _PAGE.format(text=text, head=_ONCE_MORE if again else "")
        return HTMLResponse(page, refused.status)


def _with_headers(send: Send) -> Send:
    """Says to browsers that no other site may show, embed or read an answer."""

    async def tell(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
        await send(message)

    return tell
