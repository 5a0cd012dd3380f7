"""That one `kraken up` works for a home, and one for each instrument; and what it leaves behind."""

import errno
import fcntl
import json
import os
import signal
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.errors import ConfigError
from kraken_dagster.monitoring.loaded import TICKS
from kraken_dagster.runtime.open_store import HOME_VARIABLE
from kraken_dagster.store.connection import Store
from kraken_dagster.store.instances import Instance, Loaded, OnDisk

_LOCK_NAME = "up.lock"
_TRIES = 5
_BETWEEN_TRIES_S = 0.1
_TERM_PATIENCE_S = 10.0
_KILL_PATIENCE_S = 5.0


@dataclass
class HomeLock:
    """Held while `kraken up` runs; the system lets go of it when the process dies."""

    home: Path
    _file: TextIOWrapper | None = field(default=None, repr=False)

    def take(self) -> None:
        """
        Raises:
            ConfigError: another `kraken up` works for this home, or it can't be written to.
            OSError: with EROFS; no other user could do it.
        """
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = (self.home / _LOCK_NAME).open("a+", encoding="utf-8")
        except OSError as error:
            if error.errno == errno.EROFS:
                raise
            raise ConfigError(
                "Kraken's home can't be written to",
                file=error.filename or self.home,
                found=error.strerror,
                next_step="start Kraken as the user who owns it, or set another `home`.",
            ) from error
        if not _locked(file):
            found = _holder(file)
            file.close()
            raise _taken(self.home, found)
        file.truncate(0)
        json.dump({"pid": os.getpid(), "since": datetime.now(UTC).isoformat()}, file)
        file.flush()
        self._file = file

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def refuse_second(home: Path) -> None:
    """
    Raises:
        ConfigError: another `kraken up` works for this home.
    """
    if (found := runs_here(home)) is not None:
        raise _taken(home, found)


def _taken(home: Path, found: str) -> ConfigError:
    return ConfigError(
        "Kraken runs for this home already",
        file=home,
        found=found,
        next_step="use that one, or end it; for another laboratory set another `home`.",
    )


def _locked(file: TextIOWrapper) -> bool:
    """Whether the lock is ours now. Who only asks holds it for a moment too, so not at once."""
    for _ in range(_TRIES):
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(_BETWEEN_TRIES_S)
    return False


def runs_here(home: Path) -> str | None:
    """Who runs `kraken up` for this home on this machine, in words; None if nobody does."""
    try:
        with (home / _LOCK_NAME).open("r", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _holder(file)
    except (FileNotFoundError, NotADirectoryError, PermissionError):  # nobody whom we may ask
        return None
    return None


def _holder(file: TextIOWrapper) -> str:
    file.seek(0)
    try:
        said = json.loads(file.read())
        return f"process {said['pid']}, since {said['since'][:19]} UTC"
    except (ValueError, KeyError, TypeError):  # it is about to write it
        return "a process that has just begun"


@dataclass
class Presence:
    """What other hosts are told of this `kraken up`."""

    store: Store
    instance: Instance

    @classmethod
    def of(cls, store: Store, config: KrakenConfig, *, now: datetime) -> "Presence":
        host, home = socket.gethostname(), str(config.home)
        instance = Instance(
            id=Instance.name(host, home),
            host=host,
            home=home,
            pid=os.getpid(),
            instruments=list(config.instruments),
            since=now,
            seen_at=now,
        )
        return cls(store, instance)

    def begin(self) -> None:
        """Says that it is there.

        Raises:
            ConfigError: another one serves one of its instruments.
            StoreUnavailable
        """
        now = self.instance.since
        for other in self.store.instances.living(serving=self.instance.instruments, now=now):
            if other.id == self.instance.id or _has_died(other):
                continue
            both = sorted(set(other.instruments) & set(self.instance.instruments))
            raise ConfigError(
                "Another Kraken works on this MongoDB for the same instruments",
                found=f"process {other.pid} on {other.host}, last sign of life "
                f"{other.seen_at:%Y-%m-%d %H:%M:%S} UTC, home {other.home!r}: {', '.join(both)}",
                next_step="end that one, or give each its own instruments by KRAKEN_INSTRUMENTS. "
                "One that died is forgotten after a minute.",
            )
        self.store.instances.seen(self.instance)

    def beat(self, *, now: datetime, loaded: list[Loaded], on_disk: OnDisk) -> None:
        """A sign of life, with what its processes run: that is what it serves by now."""
        daemon = [item.instruments for item in loaded if item.process in TICKS]
        changes = {"seen_at": now, "loaded": loaded, "on_disk": on_disk}
        if daemon and daemon[0]:
            changes["instruments"] = daemon[0]
        self.instance = self.instance.model_copy(update=changes)
        self.store.instances.seen(self.instance)

    def end(self, *, now: datetime) -> None:
        self.instance = self.instance.model_copy(update={"seen_at": now, "ended_at": now})
        self.store.instances.seen(self.instance)


def _has_died(other: Instance) -> bool:
    """Whether it was on this machine and is gone; of another machine nothing is known."""
    if other.host != socket.gethostname():
        return False
    return runs_here(Path(other.home)) is None


def end_all_of(home: Path) -> None:
    """Ends what `kraken up` has started and what that has started: code servers, runs.

    SIGTERM, and SIGKILL to what is still there after a while. Jobs are left alone: they have
    nothing of its environment.
    """
    for number, patience_s in (
        (signal.SIGTERM, _TERM_PATIENCE_S),
        (signal.SIGKILL, _KILL_PATIENCE_S),
    ):
        deadline = time.monotonic() + patience_s
        reported: set[int] = set()
        while (living := _processes_of(home)) and time.monotonic() < deadline:
            for pid in living - reported:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
            reported |= living
            time.sleep(0.1)
        if not living:
            return


def _processes_of(home: Path) -> set[int]:
    wanted = os.fsencode(f"{HOME_VARIABLE}={home}")
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is another user's
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.add(int(folder.name))
    return found - {os.getpid()}
