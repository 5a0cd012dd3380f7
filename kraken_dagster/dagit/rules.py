"""What a request to Dagit may do, from its headers alone, and what a GraphQL text asks for.

Everything that is not allowed here is refused. Nothing is read from disk or network.
"""

from dataclasses import dataclass
from functools import lru_cache

from graphql import FieldNode, GraphQLError, OperationDefinitionNode, OperationType, parse
from starlette.datastructures import Headers

from kraken_dagster.config.dagit import Authority, Place, is_same_origin

GRAPHQL = "/graphql"
PROXY_TOKEN = "x-kraken-proxy-token"  # noqa: S105 - a header's name
FORWARDED_USER = "x-forwarded-user"
_FORWARDED_SCHEME = "x-forwarded-proto"
WEB_SOCKET = "WEBSOCKET"
_READING = ("GET", "HEAD")
_OFF = ("notebook", "dagit")  # read files by a path from the request
_OFF_PREFIX = "report_asset_"  # say that work was done which Kraken has not done
_LONGEST_CACHED = 50_000


class Refused(Exception):
    """A request that is not answered: status, what is wrong, and what to do."""

    def __init__(self, status: int, what: str, next_step: str = "") -> None:
        super().__init__(f"{what}. {next_step}".strip())
        self.status = status


@dataclass(frozen=True)
class Asked:
    """A request, as far as it decides who may have it answered."""

    method: str  # of HTTP, or WEB_SOCKET
    path: str
    scheme: str  # as the browser sees it
    peer: str
    headers: Headers

    def one(self, name: str) -> str | None:
        """A header that may stand there once."""
        found = self.headers.getlist(name)
        if len(found) > 1:
            raise Refused(400, f"The header {name} stands there {len(found)} times")
        return found[0] if found else None

    @property
    def is_navigation(self) -> bool:
        """Somebody has followed a link or typed an address: a whole page, in no frame."""
        return (
            self.method in _READING
            and self.one("sec-fetch-mode") in (None, "navigate")
            and self.one("sec-fetch-dest") in (None, "document")
        )

    @property
    def comes_from_elsewhere(self) -> bool:
        """The browser says that another site's or another port's page has asked."""
        return self.one("sec-fetch-site") not in (None, "same-origin", "none")


def check_place(asked: Asked, place: Place) -> None:
    """Refuses what comes over an open line, by a foreign name, or from a foreign page."""
    if not place.may_connect(asked.peer):
        raise Refused(
            403,
            f"{asked.peer} may not connect without encryption",
            "Use the name under which Dagit is served by HTTPS.",
        )
    host = Authority.parse(asked.one("host") or "", scheme=asked.scheme)
    if host is None or host.name not in place.names:
        raise Refused(
            421,
            f"{place.name} is not called {asked.one('host')!a}",
            "If it is, add the name to `dagit.hosts` in instruments.yaml, and restart Kraken.",
        )
    origin = asked.one("origin")
    if origin is not None and not is_same_origin(origin, scheme=asked.scheme, host=host):
        raise Refused(
            403,
            f"A page of {origin!a} may not use {place.name} at {asked.scheme}://{asked.one('host')}",
            "Behind a proxy, see docs/security.md for the headers that it has to send.",
        )
    if asked.comes_from_elsewhere and not asked.is_navigation:
        raise Refused(403, f"A page of another site may not use {place.name}")


def check_path(asked: Asked) -> None:
    """Refuses methods and paths that Dagit's own pages don't use."""
    first, *others = asked.path.removeprefix("/").split("/")
    if not asked.path.startswith("/") or (first == "" and others) or {".", ".."} & {first, *others}:
        raise Refused(400, f"{asked.path!a} is not a plain path")
    if first in _OFF or first.startswith(_OFF_PREFIX):
        raise Refused(403, f"/{first} is off in Kraken", "MongoDB is told by Kraken alone.")
    if asked.method in _READING:
        return
    if asked.method not in ("POST", WEB_SOCKET):
        raise Refused(405, f"{asked.method!a} is not taken")
    if asked.path != GRAPHQL:
        raise Refused(405, f"{asked.method} is taken at {GRAPHQL} only, not at {asked.path!a}")


def check_cross_site(asked: Asked, *, by_token: bool) -> None:
    """What changes something must come from Dagit's own page, or bring a token itself."""
    if asked.method not in _READING and asked.one("origin") is None and not by_token:
        raise Refused(
            403,
            "A request without Origin needs a token",
            "Send `Authorization: Bearer ...`; docs/security.md says which.",
        )


def scheme_of(headers: Headers, scheme: str, *, from_proxy: bool) -> str:
    """http or https, as the browser sees it. A proxy's word counts only if it has proven itself."""
    forwarded = headers.getlist(_FORWARDED_SCHEME) if from_proxy else []
    if len(forwarded) == 1 and forwarded[0] in ("http", "https"):
        return forwarded[0]
    return {"ws": "http", "wss": "https"}.get(scheme, scheme)


def check_get(queries: list[str], names: set[str]) -> None:
    """Refuses everything but one text that only reads."""
    if unknown := names - {"query", "variables", "operationName"}:
        raise Refused(400, f"GraphQL by GET has no parameter {sorted(unknown)[0]!a}")
    if len(queries) > 1:
        raise Refused(400, f"GraphQL takes one query, found {len(queries)}")
    for text in queries:
        kinds, _ = operations(text)
        if kinds != {OperationType.QUERY}:
            raise Refused(405, "GraphQL by GET only reads", "Send it by POST.")


def check_post(body: object) -> tuple[bool, tuple[str, ...]]:
    """Whether a body changes something, and by which mutations."""
    if not isinstance(body, dict):
        raise Refused(400, "GraphQL takes one request at a time, as a JSON object")
    if not isinstance(body.get("query"), str):
        raise Refused(400, "GraphQL needs the text of a query")
    kinds, fields = operations(body["query"])
    if not kinds or OperationType.SUBSCRIPTION in kinds:
        raise Refused(400, "GraphQL by POST takes queries and mutations")
    return OperationType.MUTATION in kinds, fields


def operations(text: str) -> tuple[frozenset[OperationType], tuple[str, ...]]:
    """The kinds of all operations in a text, whichever is run, and what its mutations call."""
    return _operations(text) if len(text) <= _LONGEST_CACHED else _operations.__wrapped__(text)


@lru_cache(maxsize=256)
def _operations(text: str) -> tuple[frozenset[OperationType], tuple[str, ...]]:
    try:
        document = parse(text, no_location=True)
    except GraphQLError as error:
        raise Refused(400, f"GraphQL can't be read: {error.message}") from None
    except RecursionError:
        raise Refused(400, "GraphQL can't be read: it is nested too deeply") from None
    found = [item for item in document.definitions if isinstance(item, OperationDefinitionNode)]
    mutations = [item for item in found if item.operation is OperationType.MUTATION]
    fields = tuple(
        node.name.value if isinstance(node, FieldNode) else "a fragment"
        for item in mutations
        for node in item.selection_set.selections
    )
    return frozenset(item.operation for item in found), fields
