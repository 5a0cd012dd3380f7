"""`kraken up`: starts the embedded server, Dagster's programs and others, and again what dies."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from kraken_dagster.config.dagit import LOOPBACK, Place
from kraken_dagster.config.loader import CONFIG_VARIABLE
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.dagit import start
from kraken_dagster.dagit.access import Access
from kraken_dagster.fs.processes.child_processes import accepts
from kraken_dagster.model.errors import KrakenError, StoreError
from kraken_dagster.monitoring.loaded import (
    CODE_SERVER,
    forget_all,
    loaded_now,
    on_disk,
    remember,
)
from kraken_dagster.operations.child import Child, say
from kraken_dagster.operations.code_server.place import CodeServerPlace
from kraken_dagster.operations.code_server.place import prepare as place_code_server
from kraken_dagster.operations.code_server.reload import Follower
from kraken_dagster.operations.dagster_home import prepare_dagster
from kraken_dagster.operations.presence import HomeLock, Presence, end_all_of, refuse_second
from kraken_dagster.operations.site_files import beside
from kraken_dagster.runtime.homes import (
    DAGSTER_HOME,
    close_home,
    dagster_home,
    require_same_environment,
)
from kraken_dagster.runtime.open_store import HOME_VARIABLE, SUPERVISED_PORT_VARIABLE
from kraken_dagster.runtime.services import utc_now
from kraken_dagster.store.connection import connect
from kraken_dagster.store.embedded.server import EmbeddedServer, ensure_running
from kraken_dagster.store.instances import Loaded, OnDisk

_STOP_TIMEOUT_S = 20.0
_BEAT_EVERY_S = 10.0
# Dagit and the page are told together, last of all; whichever takes longer is told when it comes.
_TOGETHER_S = 60.0
_DAEMON_LOG_LEVEL = "DAGSTER_DAEMON_LOG_LEVEL"


@dataclass(frozen=True)
class Program:
    """One more that is kept running. `announcement` is said once it listens at port and address."""

    name: str
    command: Sequence[str]
    connects_to: tuple[int, str]
    announcement: Callable[[], str]


@dataclass
class Supervisor:
    """Keeps Kraken's processes running until it is told to stop. Says what it does on stdout.

    What its children say goes to files in `log_folder`, or to its own stdout without one.
    """

    config: KrakenConfig
    config_path: Path
    port: int | None = 3000
    host: str = LOOPBACK
    log_folder: Path | None = None
    is_verbose: bool = False
    # Asked for once nothing else is in the way, as they may have to say that their port is taken.
    find_programs: Callable[[], Sequence[Program]] = tuple
    stopping: threading.Event = field(default_factory=threading.Event)
    started: threading.Event = field(default_factory=threading.Event)
    _server: EmbeddedServer | None = None
    _children: list[Child] = field(default_factory=list)
    _lock: HomeLock | None = None
    _presence: Presence | None = None
    _beat_at: float = 0.0
    _programs: Sequence[Program] = ()
    _loaded: list[Loaded] = field(default_factory=list)
    _on_disk: OnDisk | None = None
    _code_server: CodeServerPlace | None = None
    _follower: Follower | None = None

    @property
    def home(self) -> Path:
        return dagster_home(self.config)

    def start(self) -> None:
        """Starts everything.

        Raises:
            ConfigError: the port is taken, or another Kraken works for this home or for one of
                its instruments.
            StoreUnavailable
        """
        require_same_environment(Path.cwd(), self.environment())
        refuse_second(self.config.home)  # before its port is found to be taken
        if self.place is not None:
            start.check(self.place)
        lock = HomeLock(self.config.home)
        lock.take()
        self._lock = lock
        close_home(self.config, self.config_path)
        uri = self.config.mongodb.uri or self._start_server()
        store = connect(uri)
        store.prepare()
        forget_all(self.config.home)
        presence = Presence.of(store, self.config, now=utc_now())
        presence.begin()
        self._presence = presence
        prepare_dagster(self.home, self.config, self.config_path)
        self._children = self._dagster_s_programs()
        self._programs = self.find_programs()
        self._children += [Child(item.name, item.command) for item in self._programs]
        for child in self._children:
            child.look_after(self.environment(), self.log_folder)
        self.started.set()

    def _dagster_s_programs(self) -> list[Child]:
        workspace = beside(self.config_path, "workspace.yaml", spare_folder=self.home)
        server = place_code_server(self.config.home, workspace)
        children, is_there = [], None
        if server is None:
            say(f"{workspace} names code locations of its own: no code server is started for them")
        else:
            self._code_server, self._follower = server, Follower(server.socket)
            extra = server.environment()
            children.append(Child(CODE_SERVER, server.command(), extra=extra))
            workspace, is_there = server.workspace, server.answers
        daemon = [*_plain("dagster-daemon"), "run", "-w", str(workspace)]
        children.append(Child("daemon", daemon, comes_after=is_there))
        if self.place is not None:
            Access(self.config.home).prepare(self.place.url)
            dagit = start.command(self.place, self.config_path, str(workspace))
            children.append(Child("dagit", dagit, comes_after=is_there))
        return children

    def watch(self) -> None:
        """Starts again what died, until `stopping` is set."""
        silent = [(item.connects_to, item.announcement) for item in self._programs]
        if self.place is not None:
            dagit = partial(self._dagit_announcement, self.place)
            silent.insert(0, (self.place.connects_to, dagit))
        together_until = time.monotonic() + _TOGETHER_S
        while not self.stopping.wait(0.5):
            self._look_after_server()
            self._give_a_sign_of_life()
            for child in self._children:
                child.look_after(self.environment(), self.log_folder)
            ready = [item for item in silent if accepts(*item[0])]
            if len(ready) == len(silent) or time.monotonic() > together_until:
                silent = [item for item in silent if item not in ready]
                for _, announcement in ready:
                    self._announce(announcement)

    def stop(self) -> None:
        """Ends everything, the embedded server last."""
        self.stopping.set()
        living = [child.process for child in self._children if child.process is not None]
        for process in living:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        for process in living:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._lock is not None:
            end_all_of(self.config.home)
        if self._code_server is not None:
            self._code_server.remove()
        if self._presence is not None:
            with contextlib.suppress(StoreError):
                self._presence.end(now=utc_now())
        if self._server is not None:
            self._server.stop()
        if self._lock is not None:
            self._lock.release()

    @property
    def place(self) -> Place | None:
        """Where Dagit listens, if it is served."""
        return None if self.port is None else Place(self.config.dagit, self.host, self.port)

    def _dagit_announcement(self, place: Place) -> str:
        return start.announcement(place, Access(self.config.home))

    @staticmethod
    def _announce(announcement: Callable[[], str]) -> None:
        try:
            say(announcement())
        except KrakenError as error:
            say(str(error))

    def _give_a_sign_of_life(self) -> None:
        if self._presence is None or time.monotonic() - self._beat_at < _BEAT_EVERY_S:
            return
        self._beat_at = time.monotonic()
        self._loaded = loaded_now(self.config.home, self._loaded)
        remember(self.config.home, self._loaded)
        self._on_disk = on_disk(self.config_path, self.environment(), self._on_disk)
        if self._follower is not None:
            self._follower.look(self._loaded, self._on_disk)
        with contextlib.suppress(StoreError):  # it is away: told by whoever needs it
            self._presence.beat(now=utc_now(), loaded=self._loaded, on_disk=self._on_disk)

    def environment(self) -> Mapping[str, str]:
        return {
            **({} if self.is_verbose else {_DAEMON_LOG_LEVEL: "warning"}),
            **os.environ,
            DAGSTER_HOME: str(self.home),
            CONFIG_VARIABLE: str(self.config_path),
            HOME_VARIABLE: str(self.config.home),
            **({} if self._server is None else {SUPERVISED_PORT_VARIABLE: str(self._server.port)}),
            "PYTHONUNBUFFERED": "1",
        }

    def _start_server(self) -> str:
        self._server = ensure_running(self.config.home / "mongodb")
        found = "found" if self._server.process is None else "started"
        say(f"embedded MongoDB server {found} at {self._server.address} (beta: for trials only)")
        return self._server.uri

    def _look_after_server(self) -> None:
        before = self._server
        if before is None or before.is_up():
            return
        say("the embedded MongoDB server has ended; starting it")
        try:
            uri = self._start_server()
        except KrakenError as error:
            say(str(error))
            return
        if uri != before.uri:  # its port was taken meanwhile: the children must be told
            if self._presence is not None:
                self._presence.store = connect(uri)
            for child in self._children:
                if child.process is not None:
                    child.process.terminate()


def _plain(program: str) -> list[str]:
    """One of Dagster's programs, whose colours no file and no journal wants."""
    path = str(Path(sys.executable).parent / program)
    if sys.stdout.isatty():
        return [path]
    return [sys.executable, "-P", "-m", "kraken_dagster.operations.without_colours", path]


def run_until_stopped(supervisor: Supervisor) -> None:
    """Starts, watches, and stops on SIGINT or SIGTERM."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: supervisor.stopping.set())
    try:
        supervisor.start()
        supervisor.watch()
    finally:
        supervisor.stop()
