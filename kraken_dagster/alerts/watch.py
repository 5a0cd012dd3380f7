"""Looks again and again, beside the sensor: so that a dead daemon is noticed."""

import threading
from collections.abc import Callable

from kraken_dagster.alerts.monitor import scan
from kraken_dagster.alerts.snapshot import DagsterFacts
from kraken_dagster.model.errors import KrakenError
from kraken_dagster.runtime.services import Services


def watch(
    services: Services,
    *,
    dagster: Callable[[], DagsterFacts] | None,
    by: str,
    stopping: threading.Event,
    say: Callable[[str], None],
) -> None:
    """Until `stopping` is set; what changes is said, and MongoDB may go and come back.

    Args:
        dagster: what Dagster says; None where it isn't reached, and nothing of it is judged.
        by: who looks, like `page`.
    """
    last = ""
    while not stopping.is_set():
        try:
            found = scan(services, dagster=dagster, by=by)
            text = "" if found.why_not is not None else found.in_words()
        except KrakenError as error:
            text = str(error)
        if text and text != last:
            say(text)
            last = text
        stopping.wait(services.config.alerts.look_every_s)
