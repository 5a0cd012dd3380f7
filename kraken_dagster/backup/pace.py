"""How fast copies may read from an instrument at this moment."""

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from kraken_dagster.config.copying import Gentleness, WhileAcquiring
from kraken_dagster.model.errors import StoreUnavailable
from kraken_dagster.model.offsite import is_within
from kraken_dagster.monitoring.being_written import written_now
from kraken_dagster.runtime.services import Services

_ASKED_EVERY_S = 5.0


class Pace:
    """Megabytes per second whenever it is called, None for no limit: by the hour, and by whether
    the instrument writes an acquisition.

    MongoDB is asked for that every few seconds; where it can't be, the last answer holds.
    """

    def __init__(
        self,
        services: Services,
        instrument_id: str,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._services = services
        self._instrument_id = instrument_id
        self._clock = clock
        self._asked_at = float("-inf")
        self._is_writing = False

    def __call__(self) -> float | None:
        entry = self._services.instrument(self._instrument_id)
        limit = limit_of_the_hour(entry, self._services.now())
        if entry.copy_while_acquiring is WhileAcquiring.YES or not self._instrument_writes():
            return limit
        slow = entry.copy_mb_per_s_while_acquiring
        return slow if limit is None else min(limit, slow)

    def _instrument_writes(self) -> bool:
        if self._clock() - self._asked_at >= _ASKED_EVERY_S:
            self._asked_at = self._clock()
            with suppress(StoreUnavailable):
                found = written_now(self._services, self._instrument_id)
                self._is_writing = found is not None
        return self._is_writing


def limit_of_the_hour(options: Gentleness, now: datetime) -> float | None:
    """Megabytes per second; None: no limit."""
    at = now.astimezone(options.copy_zone)
    for hours in options.copy_hours:
        if is_within(hours.times, at):
            return hours.mb_per_s
    return options.copy_mb_per_s
