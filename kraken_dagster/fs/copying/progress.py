"""How far a copy is, and how it is told to stop."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from kraken_dagster.fs.attributes import Refusals
from kraken_dagster.fs.rate_limit import RateLimit


@dataclass
class Progress:
    """Bytes moved so far, counted by the copying threads; `moved_at` is of the monotonic clock."""

    total_bytes: int
    done_bytes: int = 0
    started_at: float = field(default_factory=time.monotonic)
    moved_at: float = field(default_factory=time.monotonic)
    refusals: Refusals = field(default_factory=Refusals)
    rate_limit: RateLimit = field(default_factory=RateLimit)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, count: int) -> None:
        with self._lock:
            self.done_bytes += count
            self.moved_at = time.monotonic()

    def touch(self, _count: int = 0) -> None:
        """Bytes moved that are not the source's own, those of a read-back, say."""
        self.moved_at = time.monotonic()

    def wait_after(self, count: int, may_go_on: Callable[[], bool]) -> None:
        """Waits as long as these bytes of the source may take.

        Raises:
            Stopped
        """
        self.rate_limit.took(count, go_on_or_stop(self.touch, may_go_on))

    @property
    def megabytes_per_s(self) -> float:
        elapsed = time.monotonic() - self.started_at
        return self.done_bytes / 1e6 / elapsed if elapsed > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        rate = self.megabytes_per_s * 1e6
        return (self.total_bytes - self.done_bytes) / rate if rate > 0 else None


class Stopped(Exception):
    """The copy was told to stop; its temporary file is gone."""


def go_on_or_stop(
    count: Callable[[int], None], may_go_on: Callable[[], bool]
) -> Callable[[int], None]:
    """`count`, but Stopped is raised in its place once `may_go_on` says no."""

    def counting(size: int) -> None:
        if not may_go_on():
            raise Stopped
        count(size)

    return counting
