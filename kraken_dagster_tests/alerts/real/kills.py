"""kill -9 of a part, at once or at the moment when a mail is taken."""

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from kraken_dagster_tests.alerts.real.laboratory import AlertsLab

PARTS = {
    "daemon": "dagster-daemon",
    "code server": "code_server.serve",
    "page": "kraken_dagster.web.serve",
    "Dagit": "kraken_dagster.dagit.serve",
    "MongoDB": "secantusd-py",
}
EVERYTHING = "everything"
SENDER = "the sender"  # of a mail


@dataclass(frozen=True)
class Kill:
    """Of one of `PARTS`, of everything with `kraken up` itself, or of whoever sends a mail.

    `as_mailed`: when the next mail is here and its sender has no answer yet.
    """

    part: str
    as_mailed: bool = False

    def in_words(self) -> str:
        return f"kill -9 of {self.part}{' as a mail is taken' if self.as_mailed else ''}"


@dataclass
class Killer:
    lab: AlertsLab
    times: list[float] = field(default_factory=list)
    kept_dead: set[str] = field(default_factory=set)

    def carry_out(self, kill: Kill) -> None:
        if kill.as_mailed:
            self.lab.mail.as_taken = lambda port: self._kill(kill, port)
        else:
            self._kill(kill, None)

    def disarm(self) -> bool:
        """Whether a kill still waited for its mail."""
        waited, self.lab.mail.as_taken = self.lab.mail.as_taken is not None, None
        return waited

    def missing_parts(self) -> list[str]:
        """Those that don't run and are to: not one that a fault keeps killing."""
        lines = list(self.lab.processes().values())
        wanted = {part: text for part, text in PARTS.items() if part not in self.kept_dead}
        return [part for part, text in wanted.items() if not any(text in line for line in lines)]

    def _kill(self, kill: Kill, sender_port: int | None) -> None:
        self.times.append(time.time())
        if kill.part == EVERYTHING:
            hit = self._kill_everything()
        elif kill.part == SENDER:
            hit = self._kill_sender(sender_port)
        else:
            hit = self.kill_part(kill.part)
        self.lab.notes.write("killed", kill=kill.in_words(), processes=hit)

    def _kill_sender(self, port: int | None) -> int:
        found = [pid for pid in self.lab.processes() if port in local_ports(pid)]
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        return len(found)

    def kill_part(self, part: str) -> int:
        """How many processes it was."""
        found = [pid for pid, line in self.lab.processes().items() if PARTS[part] in line]
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(found)

    def _kill_everything(self) -> int:
        """`kraken up` first, so that it starts nothing again."""
        if self.lab.process is not None:
            self.lab.process.kill()
        found = self.lab.processes()
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(found)


def local_ports(pid: int) -> set[int]:
    """The ports of this machine by which a process is connected by TCP."""
    sockets = set()
    with suppress(OSError):
        for item in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                sockets.add(os.readlink(item).removeprefix("socket:[").removesuffix("]"))
    ports = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        columns = line.split()
        if columns[9] in sockets:
            ports.add(int(columns[1].rpartition(":")[2], 16))
    return ports
