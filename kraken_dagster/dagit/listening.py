"""Serving an application of ours over HTTP, as Dagit, the page and `kraken mcp` all do."""

import logging
from typing import Literal

import uvicorn
from starlette.types import ASGIApp

from kraken_dagster.config.dagit import Place

_GRACE_S = 5


def log_to_stderr() -> None:
    logging.getLogger("kraken").setLevel(logging.INFO)
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s")


def listen(app: ASGIApp, place: Place, *, lifespan: Literal["on", "off"] = "off") -> None:
    """Serves until SIGTERM or Ctrl-C."""
    uvicorn.run(
        app,
        host=place.host,
        port=place.port,
        lifespan=lifespan,
        log_level="warning",
        access_log=False,
        proxy_headers=False,  # who is connected is told by the connection alone
        server_header=False,
        ssl_certfile=place.settings.certificate,
        ssl_keyfile=place.settings.private_key,
        timeout_graceful_shutdown=_GRACE_S,
    )
