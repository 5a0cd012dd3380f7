"""The simulated laboratory: several instruments that acquire at the same time.

python -m kraken_dagster.simulation.laboratory --root DIR --speed S --files N
"""

import argparse
import signal
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from datetime import datetime
from pathlib import Path

from kraken_dagster.simulation.clock import LabClock
from kraken_dagster.simulation.instruments import Acquisition, Vendor
from kraken_dagster.simulation.operator import Operator
from kraken_dagster.simulation.plans import PlanItem, demo_plan, running_number

INSTRUMENTS: Mapping[str, Vendor] = {
    "sim_thermo": "thermo",
    "sim_bruker": "bruker",
    "sim_sciex": "sciex",
}
DEMO_PROJECT = "SIM1"
SIGN_NAME = "THIS_IS_A_SIMULATION.txt"
PAUSE_MINUTES = 240  # between acquisitions once the plan is done: a forgotten demo stays small

_SIGN = "Kraken's simulated laboratory wrote what is in this folder. None of it is a measurement.\n"


class Laboratory:
    """Instruments with their plans, in `plans` by instrument id; each writes to `root`/<id>.

    Args:
        speed: laboratory seconds in a real second.
        files_per_instrument: ordinary acquisitions of each, as `demo_plan` counts them.
        start: of the plans; names are made from it.
        forever: go on with new names until `close`.
        announce: called with a line per event, from several threads.

    Raises:
        ValueError: from the speed, the number of files, a vendor or the project.
    """

    def __init__(
        self,
        root: Path,
        *,
        speed: float,
        files_per_instrument: int,
        start: datetime,
        instruments: Mapping[str, Vendor] = INSTRUMENTS,
        project: str = DEMO_PROJECT,
        forever: bool = False,
        announce: Callable[[str], None] | None = None,
    ) -> None:
        self.root = root
        self.instruments = dict(instruments)
        self.clock = LabClock(speed)
        self._files = files_per_instrument
        self._start = start
        self._project = project
        self._forever = forever
        self._announce = announce or _print_line
        self.plans = {name: self._plan(name, running_number(start)) for name in self.instruments}

    def close(self) -> None:
        """Makes `run` end soon; for any thread and for signal handlers."""
        self.clock.close()

    def run(self) -> list[str]:
        """Carries all plans out; returns in words what of them could not be done.

        Raises:
            OSError, sqlite3.Error: an instrument can't write; the others were stopped.
        """
        operators = {name: self._operator(name) for name in self.instruments}
        for operator in operators.values():
            operator.folder.mkdir(parents=True, exist_ok=True)
        (self.root / SIGN_NAME).write_text(_SIGN)
        with ThreadPoolExecutor(max_workers=len(operators)) as pool:
            futures = [
                pool.submit(operator.carry_out, self._work(name))
                for name, operator in operators.items()
            ]
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            if any(future.exception() for future in done):
                self.close()
        for future in futures:
            future.result()
        return [
            f"{name}: {line}" for name, operator in operators.items() for line in operator.problems
        ]

    def _operator(self, name: str) -> Operator:
        return Operator(
            self.root / name,
            self.instruments[name],
            clock=self.clock,
            announce=lambda event: self._announce(f"SIMULATION {name}: {event}"),
        )

    def _plan(self, name: str, first_number: int, *, practice: bool = True) -> list[PlanItem]:
        vendor = self.instruments[name]
        same_model = [other for other, its in self.instruments.items() if its == vendor]
        return demo_plan(
            vendor,
            files=self._files,
            start=self._start,
            project=self._project,
            unit=same_model.index(name) + 1,
            first_number=first_number,
            practice=practice,
        )

    def _work(self, name: str) -> Iterator[PlanItem]:
        """The instrument's plan and, where the laboratory goes on for ever, those after it."""
        plan = self.plans[name]
        yield from plan
        number = running_number(self._start)
        while self._forever:
            number += len(plan)
            plan = self._plan(name, number, practice=False)
            for item in plan:
                if isinstance(item, Acquisition):
                    self.clock.sleep_minutes(PAUSE_MINUTES)
                yield item


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a laboratory until its plans are done or SIGTERM or SIGINT comes.

    Exit codes: 0 fine, 1 something of the plans could not be done, 2 wrong use.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        laboratory = Laboratory(
            args.root,
            speed=args.speed,
            files_per_instrument=args.files,
            start=args.start or datetime.now().astimezone(),
            project=args.project,
            forever=args.forever,
        )
    except ValueError as error:
        parser.error(str(error))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: laboratory.close())
    try:
        problems = laboratory.run()
    except (OSError, sqlite3.Error) as error:
        problems = [str(error)]
    ending = "; ".join(problems) or "without problems"
    _print_line(f"SIMULATION ended: {ending}")
    return 1 if problems else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kraken_dagster.simulation.laboratory")
    add = parser.add_argument
    add("--root", type=Path, required=True, help="folder for the instruments' folders")
    add("--speed", type=float, required=True, help="laboratory seconds in a real second")
    add("--files", type=int, required=True, help="ordinary acquisitions per instrument")
    add("--start", type=datetime.fromisoformat, help="date and time of the plan (default: now)")
    add("--project", default=DEMO_PROJECT, help="project id in the names; empty for none")
    add("--forever", action="store_true", help="go on with new names until SIGTERM")
    return parser


def _print_line(line: str) -> None:
    print(f"{line}\n", end="", flush=True)  # in one write: lines of threads stay apart


if __name__ == "__main__":
    raise SystemExit(main())
