"""A program that `kraken up` keeps running."""

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from kraken_dagster.fs.processes.child_processes import die_with_parent
from kraken_dagster.model.printable import printable
from kraken_dagster.monitoring.loaded import PROCESS_VARIABLE

_LONGEST_PAUSE_S = 30.0
_WAITS_FOR_OTHERS_S = 180.0
_LIVES_AFTER_S = 60


@dataclass
class Child:
    """`deaths` counts those since it last ran for a minute.

    `comes_after`: what it needs is there; it is started all the same after three minutes.
    """

    name: str
    command: Sequence[str]
    extra: Mapping[str, str] = field(default_factory=dict)
    comes_after: Callable[[], bool] | None = None
    process: "subprocess.Popen[bytes] | None" = None
    started_at: float = 0.0
    start_again_at: float = field(default_factory=time.monotonic)
    deaths: int = 0

    def look_after(self, environment: Mapping[str, str], log_folder: Path | None) -> None:
        """Starts it, if it does not run and the time has come."""
        now = time.monotonic()
        if self.process is not None:
            if self.process.poll() is None:
                self.deaths = 0 if now - self.started_at > _LIVES_AFTER_S else self.deaths
                return
            self.deaths += 1
            pause = min(2.0 ** (self.deaths - 1) - 1, _LONGEST_PAUSE_S)
            say(f"{self.name} has ended with {self.process.returncode}; again in {pause:.0f} s")
            self.process, self.start_again_at = None, now + pause
        if now >= self.start_again_at and self._others_are_there(now):
            self._start(environment, log_folder)

    def _others_are_there(self, now: float) -> bool:
        waited_s = now - self.start_again_at
        return self.comes_after is None or self.comes_after() or waited_s > _WAITS_FOR_OTHERS_S

    def _start(self, environment: Mapping[str, str], log_folder: Path | None) -> None:
        self.started_at = time.monotonic()
        with ExitStack() as stack:
            log = None
            if log_folder is not None:
                log_folder.mkdir(parents=True, exist_ok=True)
                log = stack.enter_context((log_folder / f"{self.name}.log").open("ab"))
            self.process = subprocess.Popen(
                self.command,
                env={**self.extra, **environment, PROCESS_VARIABLE: self.name},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=None if log is None else subprocess.STDOUT,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - no threads' locks are touched in it
            )


def say(text: str) -> None:
    print(f"kraken: {printable(text)}", flush=True)
