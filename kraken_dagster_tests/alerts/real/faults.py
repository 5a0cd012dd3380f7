"""What makes and mends the ten faults, on real parts. Each returns when what it did holds."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from kraken_dagster.model.errors import KrakenError
from kraken_dagster.model.quality import Outcome
from kraken_dagster.model.raw_file import RawFile, Status
from kraken_dagster_tests.alerts.real.instruments import MeasuringInstrument
from kraken_dagster_tests.alerts.real.kills import Killer
from kraken_dagster_tests.alerts.real.laboratory import AlertsLab
from kraken_dagster_tests.alerts.real.settings import BACKUP_FREE_GB
from kraken_dagster_tests.chaos.faults import fill

_GB = 1024**3
_PATIENCE_S = 600.0  # a guard: on a busy machine a job takes its time
_AHEAD_S = 7200.0
_SCRUB = {"ops": {"scrub_backups": {"config": {"scrub_every_days": 0.001}}}}


@dataclass
class Bench:
    """What faults act on. `wait`: until a condition holds, with Kraken looked after meanwhile."""

    lab: AlertsLab
    instruments: dict[str, MeasuringInstrument]
    killer: Killer
    wait: Callable[[Callable[[], bool], str, float], float]
    left: dict[str, Callable[[], object]] = field(default_factory=dict)

    def file(self, name: str) -> RawFile | None:
        with suppress(KrakenError):
            return self.lab.store.raw_files.get(name)
        return None

    def is_in(self, name: str, status: Status) -> bool:
        found = self.file(name)
        return found is not None and found.status is status

    def operator_does(self, *arguments: str) -> None:
        """A command of Kraken's, given again until it is done."""
        self.wait(
            lambda: self.lab.command(*arguments).returncode == 0,
            f"`kraken {' '.join(arguments)}` is done",
            _PATIENCE_S,
        )


def share_away(bench: Bench) -> float:
    bench.lab.disk("astral1").hide()
    return time.time()


def share_back(bench: Bench) -> float:
    bench.lab.disk("astral1").show()
    return time.time()


def disk_fills(bench: Bench) -> float:
    root = bench.lab.disk("backup").root
    bench.left["disk"] = fill(root, keep_free=int(BACKUP_FREE_GB * _GB / 2))
    return time.time()


def undo(name: str) -> Callable[[Bench], float]:
    def undo(bench: Bench) -> float:
        bench.left.pop(name)()
        return time.time()

    return undo


def daemon_dies(bench: Bench) -> float:
    """Again and again, as often as it is started."""
    over = threading.Event()
    bench.killer.kept_dead.add("daemon")

    def work() -> None:
        while not over.wait(0.3):
            bench.killer.kill_part("daemon")

    thread = threading.Thread(target=work, name="the daemon dies")
    thread.start()

    def end() -> None:
        over.set()
        thread.join()
        bench.killer.kept_dead.clear()

    bench.left["daemon"] = end
    return time.time()


def job_fails(bench: Bench) -> float:
    bench.lab.broken.touch()
    bench.instruments["astral2"].acquire("20261128_processed.raw")
    failed = "the job has failed"
    name = "20261128_processed.raw"
    return bench.wait(lambda: bench.is_in(name, Status.QUANTING_FAILED), failed, _PATIENCE_S)


def job_again(bench: Bench) -> float:
    bench.lab.broken.unlink()
    bench.operator_does("retry", "20261128_processed.raw")
    return time.time()


def backup_rots(bench: Bench) -> float:
    """A bit of the oldest backup; the next scrub reads it."""
    path = min(bench.lab.disk("backup").root.rglob("*sample_dda_001.raw"))
    _flip(path)
    bench.wait(lambda: _launched(bench), "the scrub is launched", _PATIENCE_S)
    found = "the scrub has read it"
    return bench.wait(lambda: bench.is_in(path.name, Status.ERROR), found, _PATIENCE_S)


def _launched(bench: Bench) -> bool:
    with suppress(OSError):
        bench.lab.launch("scrub", _SCRUB)
        return True
    return False


def backup_restored(bench: Bench) -> float:
    """As docs/retention.md says: brought back from another copy, and tried again. The next scrub
    finds nothing."""
    path = min(bench.lab.disk("backup").root.rglob("*sample_dda_001.raw"))
    _flip(path)
    bench.operator_does("retry", path.name)
    mended = "the backup is proven again"
    at = bench.wait(lambda: not bench.is_in(path.name, Status.ERROR), mended, _PATIENCE_S)
    bench.wait(lambda: _launched(bench), "another scrub is launched", _PATIENCE_S)
    return at


def _flip(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(1000)
        found = file.read(1)
        file.seek(1000)
        file.write(bytes([found[0] ^ 1]))


def control(name: str, *, spray_dies: bool) -> Callable[[Bench], float]:
    def act(bench: Bench) -> float:
        bench.instruments["astral2"].acquire(name, spray_dies=spray_dies)
        expected = Outcome.OUT_OF_CONTROL if spray_dies else Outcome.IN_CONTROL

        def judged() -> bool:
            with suppress(KrakenError):
                verdicts = bench.lab.store.quality.newest("astral2", limit=5)
                return any(it.raw_file == name and it.outcome is expected for it in verdicts)
            return False

        return bench.wait(judged, f"{name} is {expected}", _PATIENCE_S)

    return act


def falls_silent(bench: Bench) -> float:
    """Counted from its last file, which may be on its way still."""
    instrument = bench.instruments["astral1"]
    instrument.silent.set()
    time.sleep(10)
    return instrument.last_written_at


def measures_again(bench: Bench) -> float:
    instrument = bench.instruments["astral1"]
    began = time.time()
    instrument.silent.clear()
    return bench.wait(lambda: instrument.last_written_at > began, "it has measured", _PATIENCE_S)


def clock_goes_wrong(bench: Bench) -> float:
    """From when on a file has a wrong time."""
    instrument = bench.instruments["astral1"]
    began = time.time()
    instrument.ahead_s = _AHEAD_S
    return bench.wait(lambda: instrument.last_written_at > began, "it has measured", _PATIENCE_S)


def clock_is_set(bench: Bench) -> float:
    """From when on a whole acquisition has a right time."""
    instrument = bench.instruments["astral1"]
    instrument.ahead_s = 0.0
    for _ in range(2):
        began = time.time()
        bench.wait(lambda at=began: instrument.last_written_at > at, "it has measured", _PATIENCE_S)
    return time.time()


def key_expires(bench: Bench) -> float:
    bench.lab.new_certificate(timedelta(days=-1))
    return time.time()


def key_renewed(bench: Bench) -> float:
    bench.lab.new_certificate(timedelta(days=300))
    return time.time()


def switch(state: str) -> Callable[[Bench], float]:
    def switch(bench: Bench) -> float:
        bench.operator_does("sensors", state, "astral2_watcher")
        return time.time()

    return switch
