"""Looks again and again, beside the sensor: so that a dead daemon is noticed."""

import threading
from collections.abc import Callable
from datetime import datetime

from kraken_dagster.alerts.monitor import scan
from kraken_dagster.alerts.snapshot import DagsterFacts
from kraken_dagster.model.errors import KrakenError
from kraken_dagster.runtime.services import Services


def watch(
    services: Services,
    *,
    dagster: Callable[[], DagsterFacts] | None,
    by: str,
    stands_by: bool = False,
    stopping: threading.Event,
    say: Callable[[str], None],
) -> None:
    """Until `stopping` is set; what changes is said, and MongoDB may go and come back.

    Args:
        dagster: what Dagster says; None where it isn't reached, and nothing of it is judged.
        by: who looks, like `page`.
        stands_by: looks only where nobody else does.
    """
    last = ""
    while not stopping.is_set():
        try:
            found = scan(services, dagster=dagster, by=by, stands_by=stands_by)
            text = "" if found.why_not is not None else found.in_words()
        except KrakenError as error:
            text = str(error)
        if text and text != last:
            say(text)
            last = text
        stopping.wait(services.config.alerts.look_every_s)


def stand_by(
    services: Services, *, by: str, stopping: threading.Event, say: Callable[[str], None]
) -> None:
    """Looks where Dagster's sensor `alerts` doesn't, as its daemon is dead, until it does again.

    Nothing is asked of Dagster: of its daemon is known when its sensor last looked. Where that
    never did, as Kraken is not in use, nobody looks.
    """

    def heard() -> DagsterFacts:
        seen = services.store.alerts.last_look().get("dagster_looked_at")
        return DagsterFacts(seen if isinstance(seen, datetime) else None, is_whole=False)

    while not stopping.wait(services.config.alerts.look_every_s):
        try:
            if heard().daemon_seen is not None:
                break
        except KrakenError:
            continue  # the page itself tells that MongoDB can't be asked
    watch(services, dagster=heard, by=by, stands_by=True, stopping=stopping, say=say)
