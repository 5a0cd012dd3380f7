"""How often one caller may ask, so that a script that runs wild leaves others the page."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from kraken_dagster.dagit.guard import Caller
from kraken_dagster.web.api.problems import Problem

_CALLERS_KEPT = 1_000


class Limits:
    """A bucket for each caller, which fills up again by so many requests a minute.

    Args:
        reads, changes: a minute; so many can be asked at once after a while of quiet.
    """

    def __init__(
        self, *, reads: int, changes: int = 30, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._allowed = {False: reads, True: changes}
        self._clock = clock
        self._lock = threading.Lock()
        self._left: OrderedDict[tuple[str, bool], tuple[float, float]] = OrderedDict()

    def refuse(self, request: Request, *, changes: bool) -> Response | None:
        """None if it may be answered."""
        caller: Caller = request.scope["caller"]
        wait_s = self.wait_s(caller.name, changes=changes)
        if wait_s <= 0:
            return None
        seconds = max(1, round(wait_s + 0.5))
        return Problem(
            429,
            "Too many requests",
            f"{caller.name} may ask {self._allowed[changes]} times a minute. "
            f"Next: ask again in {seconds} s.",
            headers={"Retry-After": str(seconds)},
        )

    def wait_s(self, name: str, *, changes: bool) -> float:
        """Takes one from the caller's bucket; 0, or the time until there is one again."""
        allowed, now = self._allowed[changes], self._clock()
        with self._lock:
            left, at = self._left.get((name, changes), (float(allowed), now))
            left = min(float(allowed), left + (now - at) * allowed / 60)
            enough = left >= 1
            self._left[name, changes] = (left - 1 if enough else left, now)
            self._left.move_to_end((name, changes))
            while len(self._left) > _CALLERS_KEPT:
                self._left.popitem(last=False)
        return 0.0 if enough else (1 - left) * 60 / allowed
