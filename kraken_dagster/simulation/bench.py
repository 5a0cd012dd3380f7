"""One instrument of the laboratory and the operator beside it: carries a plan out, item by item."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from kraken_dagster.simulation.clock import LabClock, LaboratoryClosed
from kraken_dagster.simulation.instruments import Acquisition, SimulatedInstrument, Vendor
from kraken_dagster.simulation.plans import MoveAsideByHand, PlanItem

LOOK_EVERY_S = 0.2


class Bench:
    """Works in `folder` only.

    Args:
        is_backed_up: original name -> whether the backup of that file is there.
        announce: called with every event in words.
    """

    def __init__(
        self,
        folder: Path,
        vendor: Vendor,
        *,
        clock: LabClock,
        is_backed_up: Callable[[str], bool],
        announce: Callable[[str], None],
    ) -> None:
        self.folder = folder
        self.problems: list[str] = []
        self._instrument = SimulatedInstrument(folder, vendor, clock)
        self._clock = clock
        self._is_backed_up = is_backed_up
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
                    self._move_aside(item)
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

    def _move_aside(self, action: MoveAsideByHand) -> None:
        if not self._wait_for_backup(action):
            self._note_problem(f"no backup of {action.name} within {action.timeout_s:g} s")
            return
        target = self.folder / action.into / action.name
        target.parent.mkdir(exist_ok=True)
        if target.exists():
            self._note_problem(f"Not overwritten by an operator: {target}")
            return
        try:
            (self.folder / action.name).rename(target)
        except FileNotFoundError:  # Kraken moves files aside as well
            self._announce(f"{action.name} was moved away by somebody else before an operator did")
        else:
            self._announce(f"an operator moved {action.name} to {action.into}/")

    def _wait_for_backup(self, action: MoveAsideByHand) -> bool:
        self._announce(f"an operator waits for the backup of {action.name}")
        deadline = time.monotonic() + action.timeout_s
        while not self._is_backed_up(action.name):
            if time.monotonic() >= deadline:
                return False
            self._clock.sleep_real_seconds(LOOK_EVERY_S)
        return True

    def _note_problem(self, problem: str) -> None:
        self.problems.append(problem)
        self._announce(f"PROBLEM {problem}")


def has_manifest(backup: Path, instrument_id: str, name: str) -> bool:
    """Whether Kraken left `<backup>/<instrument>/<YYYY_MM>/<name>.md5`, in whatever month."""
    folder = backup / instrument_id
    return folder.is_dir() and any(
        (month / f"{name}.md5").is_file()
        for month in folder.glob("[0-9][0-9][0-9][0-9]_[0-9][0-9]")
    )
