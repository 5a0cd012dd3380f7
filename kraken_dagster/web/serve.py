"""The process that serves the page: `kraken web` is one, and `kraken up` starts one."""

import logging
import threading
from dataclasses import replace
from pathlib import Path

import click

from kraken_dagster.alerts.channels.channel import missing_variables
from kraken_dagster.alerts.watch import stand_by
from kraken_dagster.config.dagit import LOOPBACK, Place
from kraken_dagster.config.loader import load_config
from kraken_dagster.dagit.access import PAGE, Access
from kraken_dagster.dagit.listening import listen, log_to_stderr
from kraken_dagster.engines.factory import make_engines
from kraken_dagster.model.errors import KrakenError
from kraken_dagster.runtime.logs import quote_log_records
from kraken_dagster.runtime.open_store import open_store
from kraken_dagster.runtime.services import Services
from kraken_dagster.web.app import guarded_page
from kraken_dagster.web.column_config import ColumnChoice, columns_of
from kraken_dagster.web.feed import Feed
from kraken_dagster.web.start import place_of

_log = logging.getLogger("kraken.page")


def serve(services: Services, place: Place, choice: ColumnChoice) -> None:
    """Serves until SIGTERM or Ctrl-C.

    Raises:
        ConfigError: the folder with the logins can't be used.
    """
    log_to_stderr()
    access = Access(services.config.home)
    access.prepare(place.url, of=PAGE)
    feed = Feed(services, choice.other_names)
    feed.start()
    _look_after_alerts(services, feed.stopping)
    threading.Thread(target=make_indexes, args=(services,), name="indexes", daemon=True).start()
    try:
        listen(guarded_page(feed, choice, place, access), place)
    finally:
        feed.stop()


def _look_after_alerts(services: Services, stopping: threading.Event) -> None:
    """So that somebody is told when Dagster's daemon is dead: its sensor can't."""
    whole = replace(services, config=services.config.whole)
    if missing := missing_variables(whole.config.alerts):
        _log.warning("this page looks after no alerts: %s is not set", ", ".join(missing))
        return

    def work() -> None:
        while not stopping.is_set():
            try:
                stand_by(whole, by="page", stopping=stopping, say=_log.info)
            except Exception:  # noqa: BLE001 - what follows may be well again
                _log.exception("alerts could not be looked after")
                stopping.wait(whole.config.alerts.look_every_s)

    threading.Thread(target=work, name="alerts", daemon=True).start()


def make_indexes(services: Services) -> None:
    """Makes the indexes for REST, which take minutes in a large database, beside the work.

    What fails is done at the next start: without them lists are slow, and nothing else.
    """
    try:
        services.store.listing.make_indexes()
    except KrakenError as error:
        logging.getLogger("kraken.page").warning("the indexes for REST: %s", error)


@click.command()
@click.option("--config", "path", type=click.Path(path_type=Path), required=True)
@click.option("--host", default=LOOPBACK)
@click.option("--port", type=int, required=True)
@click.option("--root-path", default="")
def main(path: Path, host: str, port: int, root_path: str) -> None:
    """Serve the page until SIGTERM."""
    quote_log_records()
    config = load_config(path)
    store = open_store(config.home, config.mongodb.uri)
    engines = make_engines(config.engines, config.home)
    services = Services(config=config, store=store, engines=engines)
    place = place_of(config, host, port, root_path=root_path)
    serve(services, place, columns_of(config))


if __name__ == "__main__":
    main()
