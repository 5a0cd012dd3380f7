"""The guard of Dagit itself: what GraphQL is asked for, before Dagit is."""

import json
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.types import Message, Receive, Scope

from kraken_dagster.config.dagit import Role
from kraken_dagster.dagit.guard import Caller, Guard
from kraken_dagster.dagit.rules import (
    GRAPHQL,
    WEB_SOCKET,
    Asked,
    Refused,
    check_get,
    check_path,
    check_post,
)


class DagitGuard(Guard):
    """Lets viewers ask, and operators change something too."""

    def check_path(self, asked: Asked) -> None:
        check_path(asked)

    async def admit(self, asked: Asked, caller: Caller, scope: Scope, receive: Receive) -> Receive:
        """Looks at what GraphQL is asked for; what Dagit is to receive."""
        if asked.path != GRAPHQL or asked.method == WEB_SOCKET:
            return receive
        if asked.method != "POST":
            asked_for = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
            check_get(asked_for.get("query", []), set(asked_for))
            return receive
        kind = (asked.one("content-type") or "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refused(415, f"GraphQL by POST takes application/json, found {kind!a}")
        body = await Request(scope, receive).body()
        try:
            changes, fields = check_post(json.loads(body))
        except (ValueError, RecursionError):
            raise Refused(400, "The body is not valid JSON") from None
        if changes and caller.role is not Role.OPERATOR:
            raise Refused(403, f"A viewer only looks; {', '.join(fields)} is for operators")
        if changes:
            self.log.info("%s: %a: %s", asked.peer, caller.name, ", ".join(fields))
        return _again(body, receive)


def _again(body: bytes, receive: Receive) -> Receive:
    """The body that was read already, once; then whatever else comes."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def read() -> Message:
        return waiting.pop() if waiting else await receive()

    return read
