"""The page as an application, behind its guard."""

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kraken_dagster.config.dagit import Place
from kraken_dagster.dagit.access import Access
from kraken_dagster.web import downloads, pages
from kraken_dagster.web.alerts import pages as alerts
from kraken_dagster.web.api.endpoint import ROOT
from kraken_dagster.web.api.limits import Limits
from kraken_dagster.web.api.problems import Problem
from kraken_dagster.web.api.routes import routes as api_routes
from kraken_dagster.web.catalog import actions as catalog_actions
from kraken_dagster.web.catalog import pages as catalog
from kraken_dagster.web.column_config import ColumnChoice
from kraken_dagster.web.events import events
from kraken_dagster.web.feed import Feed
from kraken_dagster.web.guard import PageGuard
from kraken_dagster.web.health import probes
from kraken_dagster.web.once import Once
from kraken_dagster.web.operate import actions, again
from kraken_dagster.web.operate.errands import Errands
from kraken_dagster.web.quality import actions as quality_actions
from kraken_dagster.web.quality import pages as quality_pages
from kraken_dagster.web.rendering import STATIC, make_environment, render
from kraken_dagster.web.views.traces import Traces

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_FOR_A_YEAR = "public, max-age=31536000, immutable"  # its address changes with its content
_ROUTES = [
    Route("/", pages.fleet),
    Route("/files", pages.files),
    Route("/files/rows", pages.rows),
    Route("/files/paths", downloads.paths),
    Route("/files/export", downloads.export),
    Route("/files/again", again.ask),
    Route("/files/again", again.do, methods=["POST"]),
    Route("/file/mzqc", downloads.mzqc),
    Route("/file/retry", actions.retry_file, methods=["POST"]),
    Route("/file/verify", actions.verify_file, methods=["POST"]),
    Route("/file/restore", actions.restore_file, methods=["POST"]),
    Route("/file/traces", pages.traces),
    Route("/file", pages.file),
    Route("/plots", pages.plots),
    Route("/plots/data", pages.plot_data),
    Route("/projects", catalog.projects),
    Route("/project", catalog.project),
    Route("/project/change", catalog_actions.change_project, methods=["POST"]),
    Route("/settings", catalog.settings),
    Route("/settings/version", catalog.version),
    Route("/settings/change", catalog_actions.change_settings, methods=["POST"]),
    Route("/quality", quality_pages.quality),
    Route("/quality/chart", quality_pages.chart),
    Route("/quality/mzqc", quality_pages.mzqc),
    Route("/quality/annotate", quality_actions.annotate, methods=["POST"]),
    Route("/quality/exclude", quality_actions.exclude, methods=["POST"]),
    Route("/quality/guide-set", quality_actions.make_guide_set, methods=["POST"]),
    Route("/quality/withdraw", quality_actions.withdraw, methods=["POST"]),
    Route("/quality/evaluate", quality_actions.judge_anew, methods=["POST"]),
    Route("/status", pages.status),
    Route("/alerts", alerts.alerts),
    Route("/alerts/ack", alerts.acknowledge, methods=["POST"]),
    Route("/alerts/silence", alerts.silence, methods=["POST"]),
    Route("/wall", pages.wall),
    Route("/help", pages.help_page),
    Route("/events", events),
    Route("/healthz", probes.healthz),
    Route("/readyz", probes.readyz),
    Route("/metrics", probes.metrics),
    *api_routes(),
    Mount("/static", StaticFiles(directory=STATIC)),
]


def make_app(feed: Feed, choice: ColumnChoice, *, root_path: str = "") -> Starlette:
    """What is served to whoever the guard lets in; `scope["caller"]` says who it is."""
    app = Starlette(
        routes=_ROUTES,
        middleware=[Middleware(GZipMiddleware, minimum_size=1000, compresslevel=4)],
        exception_handlers={HTTPException: _reported},
    )
    app.state.feed = feed
    app.state.errands = Errands(feed)
    app.state.traces = Traces(feed.services)
    app.state.limits = Limits(reads=feed.services.config.page.requests_a_minute)
    app.state.choice = choice
    app.state.once = Once()
    app.state.root_path = root_path
    app.state.templates = make_environment()
    return app


def guarded_page(feed: Feed, choice: ColumnChoice, place: Place, access: Access) -> ASGIApp:
    """The whole page, below the path at which a proxy shows it."""
    app = make_app(feed, choice, root_path=place.root_path)
    return _Outermost(
        PageGuard(place, access, operating=app, looking=app, services=feed.services),
        place.root_path,
    )


class _Outermost:
    """Takes a proxy's path away, and says to browsers what pages may load: nothing of others."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"]
            if self._root_path and path.startswith(f"{self._root_path}/"):
                scope = {**scope, "path": path.removeprefix(self._root_path), "raw_path": None}
            is_static = scope["path"].startswith("/static/")

            async def tell(message: Message) -> None:
                if message["type"] == "http.response.start":
                    headers = MutableHeaders(scope=message)
                    headers["Content-Security-Policy"] = _POLICY
                    kept = is_static and message["status"] == 200
                    headers["Cache-Control"] = _FOR_A_YEAR if kept else "no-store"
                await send(message)

            await self._app(scope, receive, tell)
        else:
            await self._app(scope, receive, send)


async def _reported(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if f"{request.url.path}/".startswith(f"{ROOT}/"):
        detail = "GET /api/openapi.json describes all routes"
        return Problem(error.status_code, str(error.detail), detail, headers=error.headers)
    what = "There is no such page" if error.status_code == 404 else str(error.detail)
    return render(request, "message.html", status=error.status_code, title=what, text="")
