"""Keeps reading to a rate, so that it leaves a disk or an instrument to who needs it more."""

import threading
import time
from collections.abc import Callable

_LONGEST_NAP_S = 1.0
_NOTHING = 0.01  # bytes; what is less is rounding

Rate = Callable[[], float | None]


class RateLimit:
    """A bound on the bytes per second of all threads together, averaged since the first byte.

    In megabytes per second; None: no bound. A function is asked again and again, so that who waits
    follows what changes within a second.

    Time in which nothing was read gives no right to read faster afterwards.
    """

    def __init__(
        self,
        megabytes_per_s: float | Rate | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._taken = self._allowed = 0.0  # bytes since the first one
        self._at = clock()
        self._bytes_per_s = 0.0  # since then
        self._lock = threading.Lock()
        self.follow(megabytes_per_s)

    def follow(self, megabytes_per_s: float | Rate | None) -> None:
        """From now on this is the rate."""
        fixed = None if callable(megabytes_per_s) else megabytes_per_s
        self._rate: Rate = megabytes_per_s if callable(megabytes_per_s) else lambda: fixed

    def took(self, count: int, on_nap: Callable[[int], None] = lambda _: None) -> None:
        """Waits as long as `count` bytes may take; `on_nap(0)` tells that all is well meanwhile."""
        with self._lock:
            self._go_on()
            self._taken += count
            mine = self._taken
        while (wait := self._wait(mine)) > 0:
            on_nap(0)
            self._sleep(min(wait, _LONGEST_NAP_S))

    def _wait(self, mine: float) -> float:
        """Seconds until so many bytes are allowed, at the rate that holds now."""
        rate = self._rate()
        with self._lock:
            self._go_on()
            if rate is None:
                self._allowed = self._taken
                return 0.0
            self._bytes_per_s = rate * 1e6
            left = mine - self._allowed
            return left / self._bytes_per_s if left > _NOTHING else 0.0

    def _go_on(self) -> None:
        """Allows what could be read since the last time; where nothing was owed, time passes
        unused."""
        now = self._clock()
        allowed = self._allowed + (now - self._at) * self._bytes_per_s
        self._allowed, self._at = min(allowed, self._taken), now


_shared: dict[str, RateLimit] = {}


def shared_limit(name: str, megabytes_per_s: float | Rate | None) -> RateLimit:
    """The one of this process, for all of its threads that read from what is called `name`; it
    follows the rate that was named last."""
    found = _shared.setdefault(name, RateLimit())
    found.follow(megabytes_per_s)
    return found
