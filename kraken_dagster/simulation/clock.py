"""The laboratory's clock, which runs faster than ours. No wall-clock time is read here."""

import math
import threading


class LaboratoryClosed(Exception):
    """Somebody closed the laboratory while this thread waited; it ends what it does."""


class LabClock:
    """Lets threads wait in minutes of laboratory time, until somebody closes the laboratory.

    Args:
        speed: laboratory seconds that pass in a real second, greater than 0.

    Raises:
        ValueError: `speed` is not a finite number greater than 0.
    """

    def __init__(self, speed: float) -> None:
        if not (math.isfinite(speed) and speed > 0):
            raise ValueError(f"The speed of a laboratory's clock must be above 0, found {speed!r}.")
        self.speed = speed
        self._closed = threading.Event()

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    def close(self) -> None:
        """Ends every wait on this clock, now and from now on. For signal handlers, too."""
        self._closed.set()

    def real_seconds(self, minutes: float) -> float:
        """Real seconds that `minutes` of laboratory time take."""
        return minutes * 60 / self.speed

    def sleep_minutes(self, minutes: float) -> None:
        """Waits `minutes` of laboratory time; LaboratoryClosed as soon as the clock is closed."""
        self.sleep_real_seconds(self.real_seconds(minutes))

    def sleep_real_seconds(self, seconds: float) -> None:
        """Waits, whatever the speed; LaboratoryClosed as soon as the clock is closed."""
        if self._closed.wait(seconds):
            raise LaboratoryClosed
