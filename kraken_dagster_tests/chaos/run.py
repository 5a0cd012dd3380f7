"""One run: instruments, operators, faults and the witness at once, then quiet, then the judge."""

import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import SubprocessError
from typing import Any

from kraken_dagster.domain.errors import KrakenError
from kraken_dagster.domain.raw_file import Status
from kraken_dagster_tests.chaos.facts import acquired_of
from kraken_dagster_tests.chaos.faults import NotNow, Undo, begin
from kraken_dagster_tests.chaos.gather import gather
from kraken_dagster_tests.chaos.instruments import Instrument
from kraken_dagster_tests.chaos.judge import Finding, judge
from kraken_dagster_tests.chaos.judge_statuses import never_ended
from kraken_dagster_tests.chaos.laboratory import QUIET_S, ChaosLab
from kraken_dagster_tests.chaos.mounts import clear
from kraken_dagster_tests.chaos.plan import INSTRUMENTS, Plan
from kraken_dagster_tests.chaos.report import report_of
from kraken_dagster_tests.chaos.witness import Witness, in_backup

PURGE_EVERY_S = 20.0
LONGEST_QUIET_S = 900.0


@dataclass
class ChaosRun:
    lab: ChaosLab
    say: Callable[[str], None] = print
    faults: list[dict[str, Any]] = field(default_factory=list)
    _ending: threading.Event = field(default_factory=threading.Event)
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
        workers = [threading.Thread(target=item.run) for item in instruments]
        helpers = [threading.Thread(target=witness.watch), threading.Thread(target=self._operate)]
        self._began = time.monotonic()
        for thread in (*workers, *helpers):
            thread.start()
        try:
            self._harm()
            for thread in workers:
                thread.join()
            self._wait_until_quiet()
        finally:
            self._ending.set()
            witness.stop()
            for item in instruments:
                item.close()
            for thread in (*workers, *helpers):
                thread.join()
        self.lab.command("verify", "--all")
        self.lab.look_below()
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
        """All faults at their times, and the undoing of each, until nothing is left to undo."""
        chance = random.Random(f"{self.plan.seed}:faults")
        coming, open_faults = list(self.plan.faults), list[tuple[float, Undo, str]]()
        while coming or open_faults:
            now = time.monotonic() - self._began
            for entry in [item for item in open_faults if item[0] <= now]:
                open_faults.remove(entry)
                self._undo(entry[1], entry[2])
            if coming and coming[0].at_s <= now:
                fault = coming.pop(0)
                what = f"{fault.kind} {fault.target}".strip()
                try:
                    undo = begin(self.lab, fault, chance)
                except (NotNow, OSError) as error:
                    self._note(fault.kind, fault.target, now, done=False, why=str(error))
                    continue
                self._note(fault.kind, fault.target, now, done=True)
                self.say(f"{now:7.1f} s  {what} for {fault.lasts_s:g} s")
                open_faults.append((now + fault.lasts_s, undo, what))
            time.sleep(0.1)
            if not any("kill everything" in it[2] or "restart" in it[2] for it in open_faults):
                self.lab.up()

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
        raise AssertionError(f"can't be undone: {what}")

    def _note(self, kind: str, target: str, at_s: float, *, done: bool, why: str = "") -> None:
        entry = {"kind": kind, "target": target, "at_s": round(at_s, 1), "done": done, "why": why}
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
            if state == "all have ended" and quiet_since is not None:
                if time.monotonic() - quiet_since > 2 * PURGE_EVERY_S + QUIET_S:
                    return

    def _state(self) -> str:
        try:
            open_ones = list(never_ended(gather(self.lab.places())))
        except Exception as error:  # noqa: BLE001 - the database may be on its way up again
            return f"can't be asked yet: {error}"
        if not open_ones:
            return "all have ended"
        return f"{len(open_ones)} have not ended: {'; '.join(sorted(open_ones)[:3])}"


def default_folder() -> Path:
    return Path("/var/tmp/kraken-chaos")
