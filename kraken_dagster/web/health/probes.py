"""What other programs ask of the page: whether it lives, whether Kraken works, and metrics."""

from datetime import timedelta

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from kraken_dagster.alerts.exposition import CONTENT_TYPE, readiness
from kraken_dagster.model.errors import KrakenError
from kraken_dagster.web.feed import Feed
from kraken_dagster.web.health.gauges import gauges

_MONGODB_WITHIN = timedelta(minutes=1)


def healthz(request: Request) -> Response:
    """Whether the page is up to date; in one word, as everybody who can connect may ask."""
    is_current = _is_current(request.app.state.feed)
    return PlainTextResponse("ok\n" if is_current else "stale\n", 200 if is_current else 503)


def readyz(request: Request) -> Response:
    """Whether MongoDB answers and Dagster's daemon ticks; else what is wrong, one to a line."""
    found = readiness(request.app.state.feed.services)
    if found.is_ready:
        return PlainTextResponse("ready\n")
    return PlainTextResponse("".join(f"{line}\n" for line in found.problems), 503)


def metrics(request: Request) -> Response:
    """In the text format of Prometheus; none rather than old ones."""
    feed: Feed = request.app.state.feed
    if not _is_current(feed):
        return PlainTextResponse(f"{feed.problem or 'not everything is read yet'}\n", 503)
    try:
        return Response(gauges(feed), media_type=CONTENT_TYPE)
    except KrakenError as error:
        return PlainTextResponse(f"{error}\n", 503)


def _is_current(feed: Feed) -> bool:
    seen_at = feed.seen_at
    return seen_at is not None and feed.services.now() - seen_at < _MONGODB_WITHIN
