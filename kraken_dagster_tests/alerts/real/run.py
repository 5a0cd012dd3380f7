"""One run: a night without a fault, then the ten faults one after the other, then the judge."""

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from kraken_dagster_tests.alerts.real.faults import Bench
from kraken_dagster_tests.alerts.real.instruments import MeasuringInstrument
from kraken_dagster_tests.alerts.real.judge import Episode, Finding, Night, Received, judge
from kraken_dagster_tests.alerts.real.kills import Kill, Killer
from kraken_dagster_tests.alerts.real.laboratory import AlertsLab
from kraken_dagster_tests.alerts.real.plan import FAULTS, Fault
from kraken_dagster_tests.alerts.real.received import CHANNELS
from kraken_dagster_tests.alerts.real.settings import NIGHT_S
from kraken_dagster_tests.alerts.receivers import running
from kraken_dagster_tests.chaos.mounts import clear

DIGEST = r"Kraken \d{4}-\d\d-\d\d: all is well$"
LONGEST_S = 360.0  # for which a message is waited for; the judge knows what is late
_READY_S = 600.0


class NeverCame(Exception):
    """What was waited for did not come."""


@dataclass
class AlertsRun:
    lab: AlertsLab
    faults: tuple[Fault, ...] = FAULTS
    say: Callable[[str], None] = print
    episodes: list[Episode] = field(default_factory=list)
    problems: list[Finding] = field(default_factory=list)
    _killer: Killer = field(init=False)
    _bench: Bench = field(init=False)
    _began: float = 0.0

    def carry_out(self) -> dict[str, Any]:
        """The report. All is undone and unmounted in the end, whatever happens."""
        self._began = time.time()
        try:
            with running(self.lab.mail, self.lab.hook):
                night = self._all()
            return self._report(night)
        finally:
            self.lab.stop()
            clear(self.lab.folder)

    def _all(self) -> Night:
        self.lab.make()
        self.lab.up()
        self.lab.wait_for_store()
        self.lab.initialise()
        self._killer = Killer(self.lab)
        instruments = {
            name: MeasuringInstrument(self.lab.disk(name).root, self.lab.notes)
            for name in ("astral1", "astral2")
        }
        self._bench = Bench(self.lab, instruments, self._killer, self._wait)
        instruments["astral1"].start()
        try:
            self._wait_until_well(time.time())
            night = self._night()
            for fault in self.faults:
                self._try(fault)
        finally:
            for undo in self._bench.left.values():
                undo()
            instruments["astral1"].stop()
        return night

    def _night(self) -> Night:
        """From the start on, for 12 hours of the laboratory and until the digest has come."""
        begin = time.time()
        self._say("the night begins")
        try:
            self._wait(lambda: self._digests() >= len(CHANNELS), "digest", LONGEST_S)
        except NeverCame:
            self._say("no digest")  # the judge says so
        while time.time() - begin < NIGHT_S:
            self._pause()
        self._say("the night is over")
        return Night(self._began, time.time())

    def _digests(self) -> int:
        return sum(it.line.startswith("Kraken 2") for it in self.lab.inbox.all())

    def _try(self, fault: Fault) -> None:
        put_in_at = time.time()
        self._say(f"{fault.name}: put in")
        holds_since = self._act(fault, fault.put_in)
        threshold_at = holds_since + fault.threshold_s
        self._kill_and_wait(fault, fault.kills[0], put_in_at, ends=False)
        taken_from = time.time()
        self._say(f"{fault.name}: taken away")
        self._act(fault, fault.take_away)
        self._kill_and_wait(fault, fault.kills[1], taken_from, ends=True)
        episode = Episode(
            fault.name,
            fault.line,
            put_in_at,
            threshold_at,
            taken_from,
            time.time(),
            fault.brings,
        )
        self.episodes.append(episode)
        self.lab.notes.write("episode", **asdict(episode))

    def _act(self, fault: Fault, action: Callable[[Bench], float]) -> float:
        try:
            return action(self._bench)
        except NeverCame as error:
            self.problems.append(Finding("harness", fault.name, str(error)))
            self._say(f"{fault.name}: {error}")
            return time.time()

    def _kill_and_wait(self, fault: Fault, kill: Kill, since: float, *, ends: bool) -> None:
        """Until every channel has told it, and everything is at work again."""
        self._say(f"{fault.name}: {kill.in_words()}")
        self._killer.carry_out(kill)
        try:
            self._wait(
                lambda: self._told(fault, since, ends) == len(CHANNELS),
                "resolved" if ends else "told",
                LONGEST_S,
            )
            self._say(f"{fault.name}: {'resolved' if ends else 'told'}")
        except NeverCame as error:
            self._say(f"{fault.name}: not {error}")  # the judge says so
        if self._killer.disarm():
            self.problems.append(Finding("harness", fault.name, "a kill waited in vain"))
        self._wait_until_well(time.time())

    def _told(self, fault: Fault, since: float, ends: bool) -> int:
        return len({it.channel for it in self._of(fault, since) if it.is_end is ends})

    def _of(self, fault: Fault, since: float) -> list[Received]:
        return [it for it in self.lab.inbox.all() if it.at >= since and it.is_of(fault.line)]

    def _wait_until_well(self, since: float) -> None:
        """Until alerts were looked after since then, and nothing is waiting to be sent."""

        def looked() -> bool:
            at = self.lab.last_look()
            return at is not None and at > since and not self._killer.missing_parts()

        try:
            self._wait(looked, "everything is at work", _READY_S)
        except NeverCame as error:
            self.problems.append(Finding("harness", "parts", str(error)))

    def _wait(self, condition: Callable[[], bool], what: str, timeout_s: float) -> float:
        """The time at which it held."""
        until = time.time() + timeout_s
        while not condition():
            if time.time() > until:
                raise NeverCame(f"waited {timeout_s:g} s in vain until {what}")
            self._pause()
        return time.time()

    def _pause(self) -> None:
        self.lab.look_after()
        time.sleep(0.5)

    def _say(self, text: str) -> None:
        self.say(f"{time.time() - self._began:7.1f} s  {text}")

    def _report(self, night: Night) -> dict[str, Any]:
        messages, kills = self.lab.inbox.all(), self._killer.times
        findings = self.problems + judge(
            messages, self.episodes, night=night, kills=kills, channels=CHANNELS, digest=DIGEST
        )
        return {
            "seconds": round(time.time() - self._began),
            "load": os.getloadavg()[2] / (os.cpu_count() or 1),
            "night": asdict(night),
            "messages": [asdict(it) for it in messages],
            "episodes": [asdict(it) for it in self.episodes],
            "kills": kills,
            "findings": [it.in_words() for it in findings],
        }
