"""Keeps reading to a rate, so that it leaves a disk or an instrument to who needs it more."""

import threading
import time
from collections.abc import Callable

_LONGEST_NAP_S = 1.0


class RateLimit:
    """A bound on the bytes per second of all threads together, averaged since the first byte.

    None: no bound.

    Time in which nothing was read gives no right to read faster afterwards.
    """

    def __init__(
        self,
        megabytes_per_s: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._seconds_per_byte = None if megabytes_per_s is None else 1 / (megabytes_per_s * 1e6)
        self._clock = clock
        self._sleep = sleep
        self._due = clock()
        self._lock = threading.Lock()

    def took(self, count: int, on_nap: Callable[[int], None] = lambda _: None) -> None:
        """Waits as long as `count` bytes may take; `on_nap(0)` tells that all is well meanwhile."""
        if self._seconds_per_byte is None:
            return
        with self._lock:
            due = self._due = max(self._due, self._clock()) + count * self._seconds_per_byte
        while (wait := due - self._clock()) > 0:
            on_nap(0)
            self._sleep(min(wait, _LONGEST_NAP_S))


_shared: dict[tuple[str, float | None], RateLimit] = {}


def shared_limit(name: str, megabytes_per_s: float | None) -> RateLimit:
    """The one of this process, for all of its threads that read from what is called `name`."""
    return _shared.setdefault((name, megabytes_per_s), RateLimit(megabytes_per_s))
