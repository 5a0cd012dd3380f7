"""The two simulated instruments: one that measures around the clock, one that controls."""

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from kraken_dagster.simulation.clock import LabClock, LaboratoryClosed
from kraken_dagster.simulation.instruments import Acquisition, SimulatedInstrument
from kraken_dagster_tests.alerts.real.settings import SPEED
from kraken_dagster_tests.chaos.notes import Notebook

PAUSE_S = 25.0
_MINUTES = 20  # of laboratory time that an acquisition takes
_GOOD_SEED = 7  # of a chromatogram without a drop


class MeasuringInstrument:
    """Writes one acquisition after the other to its disk, unless it is `silent`.

    `ahead_s`: by how much its clock is ahead, as the times of its files show.
    """

    def __init__(self, disk: Path, notes: Notebook) -> None:
        self.disk, self.notes = disk, notes
        self.ahead_s = 0.0
        self.silent = threading.Event()
        self.last_written_at = time.time()
        self._clock = LabClock(SPEED)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name="instrument")
        self._number = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ending.set()
        self._clock.close()
        self._thread.join()

    def acquire(self, name: str, *, spray_dies: bool = False) -> None:
        """Writes one acquisition to its end, with the times of this instrument's clock."""
        plan = Acquisition(
            name, "thermo", _MINUTES, 2_000_000, seed=_GOOD_SEED, spray_dies=spray_dies
        )
        machine = SimulatedInstrument(self.disk, "thermo", self._clock)
        for minutes in machine.steps(plan):
            self._set_time(self.disk / name)
            self._clock.sleep_minutes(minutes)
        self._set_time(self.disk / name)
        self.last_written_at = time.time()
        self.notes.write("written", name=name, instrument=self.disk.name)

    def _set_time(self, path: Path) -> None:
        if self.ahead_s:
            at = time.time() + self.ahead_s
            os.utime(path, (at, at))

    def _work(self) -> None:
        with suppress(LaboratoryClosed):
            while not self._ending.is_set():
                if not self.silent.is_set():
                    self._number += 1
                    self.acquire(f"20261128_sample_dda_{self._number:03}.raw")
                self._ending.wait(PAUSE_S)
