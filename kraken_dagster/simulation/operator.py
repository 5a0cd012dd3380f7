"""One instrument of the laboratory and the operator beside it: carries a plan out, item by item."""

from collections.abc import Callable, Iterable
from pathlib import Path

from kraken_dagster.simulation.clock import LabClock, LaboratoryClosed
from kraken_dagster.simulation.instruments import Acquisition, SimulatedInstrument, Vendor
from kraken_dagster.simulation.plans import PlanItem

LOOK_EVERY_S = 0.2


class Operator:
    """Works in `folder` only.

    Args:
        announce: called with every event in words.
    """

    def __init__(
        self,
        folder: Path,
        vendor: Vendor,
        *,
        clock: LabClock,
        announce: Callable[[str], None],
    ) -> None:
        self.folder = folder
        self.problems: list[str] = []
        self._instrument = SimulatedInstrument(folder, vendor, clock)
        self._clock = clock
        self._announce = announce

    def carry_out(self, plan: Iterable[PlanItem]) -> None:
        """Works until the plan is done or the clock is closed; what fails goes to `problems`.

        Raises:
            OSError, sqlite3.Error: the folder can't be written to.
        """
        try:
            for item in plan:
                if isinstance(item, Acquisition):
                    self._acquire(item)
                else:
                    self._wait_until_moved(item.name)
        except LaboratoryClosed:
            self._announce("switched off")
        else:
            self._announce("plan done")

    def _acquire(self, acquisition: Acquisition) -> None:
        name = acquisition.name
        self._announce(f"acquires {name}, {acquisition.minutes:g} min of laboratory time")
        try:
            self._instrument.acquire(acquisition)
        except FileExistsError as error:
            self._note_problem(str(error))
            return
        if acquisition.outcome == "corrupted":
            self._announce(f"gave {name} up: it is {acquisition.corrupted_name} now")
        else:
            self._announce(f"ended {name}")

    def _wait_until_moved(self, name: str) -> None:
        """However long it takes: whoever waits for this laboratory decides when it is too long."""
        self._announce(f"an operator waits until Kraken has moved {name} aside")
        while (self.folder / name).exists():
            self._clock.sleep_real_seconds(LOOK_EVERY_S)
        self._announce(f"{name} was moved aside: its name is used once more")

    def _note_problem(self, problem: str) -> None:
        self.problems.append(problem)
        self._announce(f"PROBLEM {problem}")
