"""The process that serves the page: `kraken web`, and `kraken up` starts it too."""

import logging

import uvicorn

from kraken_dagster.config.dagit import Place, Role
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.dagit.access import LINK_LIVES_FOR, PAGE, Access
from kraken_dagster.runtime.services import Services, utc_now
from kraken_dagster.web.app import guarded_page
from kraken_dagster.web.column_config import ColumnChoice
from kraken_dagster.web.feed import Feed

_GRACE_S = 3


def serve(services: Services, place: Place, choice: ColumnChoice) -> None:
    """Serves until SIGTERM or Ctrl-C.

    Raises:
        ConfigError: the folder with the logins can't be used.
    """
    logging.getLogger("kraken").setLevel(logging.INFO)
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s")
    access = Access(services.config.home)
    access.prepare(place.url, of=PAGE)
    feed = Feed(services, choice.other_names)
    feed.start()
    try:
        uvicorn.run(
            guarded_page(feed, choice, place, access),
            host=place.host,
            port=place.port,
            lifespan="off",
            log_level="warning",
            access_log=False,
            proxy_headers=False,  # who is connected is told by the connection alone
            server_header=False,
            ssl_certfile=place.settings.certificate,
            ssl_keyfile=place.settings.private_key,
            timeout_graceful_shutdown=_GRACE_S,
        )
    finally:
        feed.stop()


def place_of(config: KrakenConfig, host: str, port: int, root_path: str) -> Place:
    """Where the page listens; it is opened to others by the same settings as Dagit."""
    names = [name.partition(":")[0] for name in config.dagit.hosts]  # a port there is Dagit's
    settings = config.dagit.model_copy(update={"hosts": names})
    return Place(settings, host, port, name="page", root_path=root_path, host_option="--web-host")


def announcement(place: Place, access: Access) -> str:
    """Where the page is, and a link that logs in whoever opens it first.

    Raises:
        ConfigError: the folder with the logins can't be written to.
    """
    access.prepare(place.url, of=PAGE)
    link = access.new_link(Role.OPERATOR, now=utc_now(), to=PAGE)
    hours = LINK_LIVES_FOR.total_seconds() / 3600
    return f"page: {place.url}, to log in once, within {hours:g} h: {link}"
