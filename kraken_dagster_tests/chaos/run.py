"""One run: instruments, operators, faults and the witness at once, then quiet, then the judge."""

import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import SubprocessError
from typing import Any

from pymongo.errors import PyMongoError

from kraken_dagster.model.errors import KrakenError
from kraken_dagster.model.raw_file import Status
from kraken_dagster_tests.chaos.facts import acquired_of
from kraken_dagster_tests.chaos.faults import NotNow, Undo, begin
from kraken_dagster_tests.chaos.instruments import Instrument
from kraken_dagster_tests.chaos.judging.gather import gather, gather_records
from kraken_dagster_tests.chaos.judging.judge import Finding, judge
from kraken_dagster_tests.chaos.judging.statuses import never_ended
from kraken_dagster_tests.chaos.laboratory import QUIET_S, ChaosLab
from kraken_dagster_tests.chaos.mounts import clear
from kraken_dagster_tests.chaos.plan import INSTRUMENTS, PROCESSES, Plan, PlannedFault
from kraken_dagster_tests.chaos.report import report_of
from kraken_dagster_tests.chaos.witness import Witness, in_backup

PURGE_EVERY_S = 20.0
LONGEST_QUIET_S = 2400.0  # a guard: on a busy machine what is left over takes its time


@dataclass
class ChaosRun:
    lab: ChaosLab
    say: Callable[[str], None] = print
    faults: list[dict[str, Any]] = field(default_factory=list)
    _ending: threading.Event = field(default_factory=threading.Event)
    _locks: dict[str, threading.Lock] = field(default_factory=lambda: defaultdict(threading.Lock))
    _harming: list[threading.Thread] = field(default_factory=list)
    _began: float = 0.0

    @property
    def plan(self) -> Plan:
        return self.lab.plan

    def carry_out(self) -> dict[str, Any]:
        """The report. All is undone and unmounted in the end, whatever happens."""
        began = time.monotonic()
        try:
            findings, facts = self._all()
            seconds = time.monotonic() - began
            return report_of(self.plan, facts, findings, faults=self.faults, seconds=seconds)
        finally:
            self._ending.set()
            self.lab.stop()
            clear(self.lab.folder)

    def _all(self) -> tuple[list[Finding], Any]:
        self.lab.make()
        self.lab.up()
        self.lab.wait_for_store()
        self.lab.initialise()
        witness = Witness(self.lab.folder / "disks", tuple(INSTRUMENTS), self.lab.notes)
        instruments = self._instruments()
        pool = ThreadPoolExecutor(len(instruments))
        helpers = [threading.Thread(target=witness.watch), threading.Thread(target=self._operate)]
        self._began = time.monotonic()
        for thread in helpers:
            thread.start()
        written = [pool.submit(item.run) for item in instruments]
        try:
            self._harm()
            for item in written:
                item.result()  # an instrument that has stopped writing makes no fault run
            self._wait_until_quiet()
        finally:
            self._ending.set()
            witness.stop()
            for item in instruments:
                item.close()
            for thread in (*helpers, *self._harming):
                thread.join()
            pool.shutdown()
        self.lab.command("verify", "--all")
        self.lab.scan_below()
        facts = gather(self.lab.places())
        return judge(facts), facts

    def _instruments(self) -> list[Instrument]:
        return [
            Instrument(
                self.lab.disks[name].root,
                [item for item in self.plan.acquisitions if item.instrument == name],
                notes=self.lab.notes,
                is_whole=lambda file, name=name: self._is_whole(name, file),
                quiet_s=QUIET_S,
                seed=self.plan.seed,
            )
            for name in INSTRUMENTS
        ]

    def _is_whole(self, instrument: str, name: str) -> bool:
        for item in reversed(acquired_of(self.lab.notes.read())):
            if item.instrument == instrument and name in item.names:
                disks = self.lab.folder / "disks"
                return all(in_backup(disks, instrument, it) for it in item.final.values())
        return False

    def _operate(self) -> None:
        """A purge now and then, and another try of what failed: what operators and clocks do."""
        while not self._ending.wait(PURGE_EVERY_S):
            with suppress(OSError, SubprocessError, KrakenError):
                self.lab.command("purge", "--delete")
                failed = [
                    item.id
                    for name in INSTRUMENTS
                    for item in self.lab.store.raw_files.in_status(name, [Status.QUANTING_FAILED])
                    if "_FAIL_" not in item.id
                ]
                if failed:
                    self.lab.command("retry", *failed[:3])

    def _harm(self) -> None:
        """All faults at their times, each in a thread of its own until it is undone."""
        for number, fault in enumerate(self.plan.faults):
            while time.monotonic() - self._began < fault.at_s:
                time.sleep(0.2)
                self._start_again_what_died()
            chance = random.Random(f"{self.plan.seed}:{number}")
            thread = threading.Thread(target=self._carry_out, args=(fault, chance))
            self._harming.append(thread)
            thread.start()
        for thread in self._harming:
            thread.join()

    def _carry_out(self, fault: PlannedFault, chance: random.Random) -> None:
        """What acts on the same thing waits for its turn."""
        with self._locks[fault.thing]:
            now = time.monotonic() - self._began
            entry = {"kind": fault.kind, "target": fault.target, "at_s": round(now, 1)}
            try:
                undo = begin(self.lab, fault, chance)
            except (NotNow, OSError) as error:
                self._note({**entry, "done": False, "why": str(error)})
                return
            self._note({**entry, "done": True})
            what = f"{fault.kind} {fault.target}".strip()
            self.say(f"{now:7.1f} s  {what} for {fault.lasts_s:g} s")
            self._ending.wait(fault.lasts_s)
            self._undo(undo, what)

    def _start_again_what_died(self) -> None:
        """As systemd does with `kraken up`, unless a fault has just ended it."""
        lock = self._locks[PROCESSES]
        if lock.acquire(blocking=False):
            try:
                self.lab.up()
            finally:
                lock.release()

    def _undo(self, undo: Undo, what: str) -> None:
        for _ in range(20):
            try:
                undo()
            except FileNotFoundError:
                return
            except OSError as error:
                self.say(f"  not undone yet: {what}: {error}")
                time.sleep(0.5)
            else:
                return
        self.say(f"  GIVEN UP: {what}")

    def _note(self, entry: dict[str, Any]) -> None:
        self.faults.append(entry)
        self.lab.notes.write("fault", **entry)

    def _wait_until_quiet(self) -> None:
        """Until everything has ended and stays so, or for as long as anything could take."""
        self.lab.up()
        deadline, quiet_since = time.monotonic() + LONGEST_QUIET_S, None
        last = ""
        while time.monotonic() < deadline:
            time.sleep(5)
            state = self._state()
            if state != last:
                self.say(f"{time.monotonic() - self._began:7.1f} s  {state[:200]}")
                quiet_since, last = time.monotonic(), state
            for_s = time.monotonic() - (quiet_since or time.monotonic())
            if state == "all have ended" and for_s > 2 * PURGE_EVERY_S + QUIET_S:
                return

    def _state(self) -> str:
        try:
            open_ones = list(never_ended(gather_records(self.lab.places())))
        except (PyMongoError, OSError, ValueError) as error:
            return f"can't be asked yet: {error}"
        if not open_ones:
            return "all have ended"
        return f"{len(open_ones)} have not ended: {'; '.join(sorted(open_ones)[:3])}"


def default_folder() -> Path:
    return Path("/var/tmp/kraken-chaos")
