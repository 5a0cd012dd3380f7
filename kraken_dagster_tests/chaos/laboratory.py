"""The laboratory of a fault run: disks, mounts and `kraken up`, all below one folder."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from kraken_dagster.fs.processes.child_processes import free_port
from kraken_dagster.model.errors import KrakenError, StoreUnavailable
from kraken_dagster.model.raw_file import FALLBACK_PROJECT
from kraken_dagster.model.settings import Settings
from kraken_dagster.runtime.services import utc_now
from kraken_dagster.store.connection import Store, connect
from kraken_dagster_tests.chaos.judging.gather import Places
from kraken_dagster_tests.chaos.mounts import Disk, clear, run
from kraken_dagster_tests.chaos.notes import Notebook
from kraken_dagster_tests.chaos.plan import INSTRUMENTS, STORES, Plan
from kraken_dagster_tests.support.helpers import embedded_uri, wait_until
from kraken_dagster_tests.support.laboratory import KRAKEN, impatient_dagster, processes_of

SPEED = 360  # ten seconds without growth end an acquisition
QUIET_S = 3600 / SPEED
HOME_MB = 1500
_SIGN = "of a fault run of Kraken's tests; made anew by the next"
_SEARCH = Settings(
    name="search",
    software_type="custom",
    software="search",
    metrics_type="msqc",
    config_params="RAW_FILE_PATH OUTPUT_PATH",
)


@dataclass
class ChaosLab:
    """Everything below `folder`, which is the lab's own."""

    folder: Path
    plan: Plan
    disks: dict[str, Disk] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None
    _store: Store | None = None
    _port: int = 0

    def __post_init__(self) -> None:
        self.folder = self.folder.absolute()
        for name in (*INSTRUMENTS, *STORES):
            self.disks[name] = self._disk(name)

    def _disk(self, name: str) -> Disk:
        at = f"instruments/{name}" if name in INSTRUMENTS else name
        return Disk(
            image=self.folder / "images" / f"{name}.img",
            root=self.folder / "disks" / name,
            mountpoint=self.folder / "mnt" / at,
            through_fuse=name in self.plan.through_fuse,
        )

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def config_path(self) -> Path:
        return self.home / "instruments.yaml"

    @property
    def notes(self) -> Notebook:
        return Notebook(self.folder / "notes.jsonl")

    def make(self) -> None:
        """Makes the folder anew; refuses one that holds something else."""
        if self.folder.exists() and any(self.folder.iterdir()):
            if not (self.folder / "SIGN").exists():
                raise SystemExit(f"{self.folder} holds something else: name another --folder")
            clear(self.folder)
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "SIGN").write_text(_SIGN)
        self.make_disks()
        for name in ("settings", "software"):
            (self.folder / name).mkdir()
        self._write_program()
        self.config_path.write_text(yaml.safe_dump(self._settings()))
        dagster = impatient_dagster()
        # Less would end runs that are about to start, on a machine as busy as this one is.
        dagster["run_monitoring"] |= {"start_timeout_seconds": 90, "poll_interval_seconds": 5}
        (self.home / "dagster.yaml").write_text(yaml.safe_dump(dagster))

    def make_disks(self) -> None:
        """Kraken's home too has a disk of its own; only the database of the trial is elsewhere."""
        home = Disk(self.folder / "images" / "home.img", self.home, self.home, size_mb=HOME_MB)
        home.make()
        for folder in (self.folder / "mongodb", self.home / "mongodb"):
            folder.mkdir()
        run("mount", "--bind", self.folder / "mongodb", self.home / "mongodb")
        for disk in self.disks.values():
            disk.make()
            disk.show()

    def _write_program(self) -> None:
        program = self.folder / "software" / _SEARCH.software
        parts = (sys.executable, "-I", "-S", Path(__file__).with_name("job.py"), self.ledger.path)
        command = shlex.join(map(str, parts))
        program.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        program.chmod(0o755)

    @property
    def ledger(self) -> Notebook:
        return Notebook(self.folder / "ledger.jsonl")

    def _settings(self) -> dict[str, Any]:
        places = {name: str(self.folder / name) for name in ("settings", "software")}
        mounts = {name: str(self.folder / "mnt" / name) for name in ("instruments", *STORES)}
        return {
            "home": ".",
            "simulation": {"speed": SPEED},
            "locations": places | mounts,
            "engines": {"local": {"slots": 4}},
            "defaults": {
                "sensors": "running",
                "watch_interval_s": 3,
                "folder_timeout_s": 8,
                "copy_stall_s": 8,
                "second_digest": "sha256",
                "lease_s": 30,
                "retry_after_s": 2,
                "file_move_delay_m": 0.3,
            },
            "options": {"min_free_space_gb": 100_000, "min_file_age_to_remove_in_days": 0},
            "instruments": {name: {"type": vendor} for name, vendor in INSTRUMENTS.items()},
        }

    def initialise(self) -> None:
        """Adopts the stores where such a command exists, and assigns what files are run with."""
        self.command("init-store", "--empty")
        store, now = self.store, utc_now()
        for item in store.catalog.assigned(FALLBACK_PROJECT):
            store.catalog.unassign(item.id)  # so that every job keeps the ledger
        store.catalog.add_settings(_SEARCH, now=now)
        store.catalog.assign(FALLBACK_PROJECT, _SEARCH, scope="*", now=now)

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """A command of Kraken's, as an operator gives it."""
        return subprocess.run(
            [KRAKEN, "--config", str(self.config_path), *arguments],
            env=self.environment(),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=600,
        )

    def environment(self) -> dict[str, str]:
        return {k: v for k, v in os.environ.items() if not k.startswith(("KRAKEN", "DAGSTER"))}

    def up(self) -> None:
        """Starts Kraken, if it does not run, and doesn't wait for it."""
        if self.process is not None and self.process.poll() is None:
            return
        self._port = self._port or free_port()
        with (self.folder / "kraken.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    KRAKEN,
                    "--config",
                    str(self.config_path),
                    "up",
                    "--port",
                    str(self._port),
                    "--web-port",
                    "0",
                ],
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_for_store(self) -> None:
        def answers() -> bool:
            with suppress(StoreUnavailable, KrakenError, OSError, KeyError, ValueError):
                self.store.raw_files.latest(list(INSTRUMENTS), limit=1)
                return True
            return False

        wait_until(answers, "MongoDB answers", timeout_s=120, every_s=0.5)

    def stop(self) -> None:
        """Ends Kraken as Ctrl-C does, and kills it if that takes too long."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def kill_everything(self) -> None:
        """kill -9 of `kraken up` first, so that nothing is started again, and then of the rest."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        deadline = time.monotonic() + 5
        while (found := self.processes()) and time.monotonic() < deadline:
            for pid in found:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def processes(self) -> dict[int, str]:
        """Kraken's processes, without jobs."""
        found = processes_of(self.home)
        return {pid: line for pid, line in found.items() if "fuse_through" not in line}

    @property
    def mongodb_uri(self) -> str:
        return embedded_uri(self.home)

    @property
    def store(self) -> Store:
        if self._store is None:
            self._store = connect(self.mongodb_uri, timeout_s=2)
        return self._store

    def places(self) -> Places:
        return Places(
            disks=self.folder / "disks",
            instruments=tuple(INSTRUMENTS),
            notes=self.notes.path,
            ledger=self.ledger.path,
            mongodb_uri=self.mongodb_uri,
            below=self.folder / "below",
        )

    def scan_below(self) -> None:
        """Shows the mount points without what is mounted on them, in `below`."""
        (self.folder / "below").mkdir(exist_ok=True)
        run("mount", "--bind", self.folder / "mnt", self.folder / "below")
