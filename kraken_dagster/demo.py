"""`kraken demo`: Kraken at work on the simulated laboratory."""

import contextlib
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from kraken_dagster.clients.config_file import load_config
from kraken_dagster.clients.engines import make_engines
from kraken_dagster.clients.processes import die_with_parent
from kraken_dagster.clients.read_only import lift
from kraken_dagster.clients.store.catalog import RAWQC_SETTINGS
from kraken_dagster.domain.catalog import Project
from kraken_dagster.domain.config import KrakenConfig
from kraken_dagster.domain.errors import ConfigError
from kraken_dagster.domain.raw_file import FINAL, RawFile, Status
from kraken_dagster.domain.settings import Settings
from kraken_dagster.domain.stores import Role
from kraken_dagster.simulation.laboratory import DEMO_PROJECT, INSTRUMENTS, SIGN_NAME, Laboratory
from kraken_dagster.simulation.plans import ExpectedFile, expected_outcomes
from kraken_dagster.steps.init_store import mark
from kraken_dagster.steps.world import World, utc_now
from kraken_dagster.supervision import Supervisor, run_until_stopped, say
from resources.store import StoreResource

_TIMEOUT_S = 600.0
_PROGRAM = "simulated-search"
_ROOTS = ("instruments", "backup", "output", "settings", "software")
_SEARCH_SETTINGS = Settings(
    name="simulated_search",
    description="SIMULATION: writes tables in AlphaDIA's form; nothing is searched",
    software_type="custom",
    software=_PROGRAM,
    metrics_type="alphadia",
    config_params="RAW_FILE_PATH OUTPUT_PATH",
)


@dataclass
class Demo:
    """A laboratory below `home`, which is Kraken's own and is made anew for `run_once`."""

    home: Path
    files: int = 4
    speed: float = 400.0
    made: list[Role] = field(default_factory=list)  # the stores that this demo has made

    @property
    def config_path(self) -> Path:
        return self.home / "instruments.yaml"

    def serve(self, port: int) -> None:
        """Dagit, the daemon and a laboratory that goes on until Ctrl-C."""
        config = self._set_up()
        logs = self.home / "logs"
        supervisor = Supervisor(config, self.config_path, port=port, log_folder=logs)
        threading.Thread(target=self._acquire_once_up, args=(supervisor,), daemon=True).start()
        with self._private_dagster_home():
            run_until_stopped(supervisor)

    def run_once(self) -> tuple[list[dict[str, Any]], list[str]]:
        """One batch of files, start to end.

        Returns:
            A row per raw file, and what did not end as it should.
        """
        self._remove_old()
        config = self._set_up()
        start = datetime.now(UTC).replace(microsecond=0)
        expected = self._expected(start)
        logs = self.home / "logs"
        supervisor = Supervisor(config, self.config_path, port=None, log_folder=logs)
        say(f"SIMULATION of {len(expected)} instruments; Dagster's log is in {logs}")
        with self._private_dagster_home():
            try:
                supervisor.start()
                world = self._seeded_world(config)
                watching = threading.Thread(target=supervisor.watch, daemon=True)
                watching.start()
                laboratory = self._start_laboratory(start, forever=False)
                _wait(world, laboratory, sum(len(files) for files in expected.values()))
                return _judge(world, expected)
            finally:
                supervisor.stop()

    def farewell(self) -> str:
        config = shlex.quote(str(self.config_path))
        return (
            "SIMULATION: no instrument and no search was real. Look at it in Dagit with\n"
            f"  kraken --config {config} up\n"
            f"and in the terminal with\n  kraken --config {config} status"
        )

    def _set_up(self) -> KrakenConfig:
        self._refuse_anything_else()
        self.made = [role for role in Role if not (self.home / role).exists()]
        for name in _ROOTS:
            (self.home / name).mkdir(parents=True, exist_ok=True)
        for name in INSTRUMENTS:
            (self.home / "instruments" / name).mkdir(exist_ok=True)
        (self.home / SIGN_NAME).write_text("SIMULATION: everything in this folder is simulated.\n")
        program = self.home / "software" / _PROGRAM
        python = shlex.quote(sys.executable)
        program.write_text(f'#!/bin/sh\nexec {python} -m kraken_dagster.simulation.standin "$@"\n')
        program.chmod(0o755)
        self.config_path.write_text(
            f"# SIMULATION: written by `kraken demo`.\n{yaml.safe_dump(self._settings())}"
        )
        return load_config(self.config_path)

    def _settings(self) -> dict[str, Any]:
        return {
            "home": ".",
            "simulation": {"speed": self.speed},
            "locations": {name: name for name in _ROOTS},
            "defaults": {
                "sensors": "running",
                "watch_interval_s": 2,
                "lease_s": 60,
                "retry_after_s": 5,
                "file_move_delay_m": 0.1,
            },
            "instruments": {name: {"type": vendor} for name, vendor in INSTRUMENTS.items()},
        }

    def _seeded_world(self, config: KrakenConfig) -> World:
        store = StoreResource(home=str(config.home)).create_store(config.mongodb.uri)
        now, catalog = utc_now(), store.catalog
        project = Project(
            id=DEMO_PROJECT, name="Simulation", description="the simulated laboratory"
        )
        catalog.add_project(project, now=now)
        for settings, scopes in (
            (RAWQC_SETTINGS, ["bruker"]),
            (_SEARCH_SETTINGS, ["thermo", "sciex"]),
        ):
            catalog.add_settings(settings, now=now)
            for scope in scopes:
                catalog.assign(DEMO_PROJECT, settings, scope=scope, now=now)
        engines = make_engines(config.engines, config.home)
        world = World(config=config, store=store, engines=engines)
        for role in Role:
            root = self.home / role
            if role in self.made or not (os.path.ismount(root) or any(root.iterdir())):
                mark(world, role, by="kraken demo")
        return world

    def _expected(self, start: datetime) -> dict[str, list[ExpectedFile]]:
        laboratory = Laboratory(
            self.home / "instruments",
            speed=self.speed,
            files_per_instrument=self.files,
            is_backed_up=lambda *_: False,
            start=start,
        )
        return {name: expected_outcomes(plan) for name, plan in laboratory.plans.items()}

    def _start_laboratory(self, start: datetime, *, forever: bool) -> "subprocess.Popen[bytes]":
        command = [
            *(sys.executable, "-m", "kraken_dagster.simulation.laboratory"),
            *("--root", str(self.home / "instruments"), "--backup", str(self.home / "backup")),
            *("--speed", str(self.speed), "--files", str(self.files)),
            *("--start", start.isoformat(), "--project", DEMO_PROJECT),
        ]
        return subprocess.Popen(
            [*command, "--forever"] if forever else command,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - no threads' locks are touched in it
        )

    def _acquire_once_up(self, supervisor: Supervisor) -> None:
        """The laboratory of a demo that is served; it ends with this process."""
        while not supervisor.started.wait(0.5):
            if supervisor.stopping.is_set():
                return
        self._seeded_world(supervisor.config)
        start = datetime.now(UTC).replace(microsecond=0)
        laboratory = self._start_laboratory(start, forever=True)
        supervisor.stopping.wait()
        laboratory.terminate()

    def _refuse_anything_else(self) -> None:
        if not self.home.exists() or not any(self.home.iterdir()):
            return
        if not (self.home / SIGN_NAME).exists():
            raise ConfigError(
                "The folder for the demo holds something else",
                file=self.home,
                next_step="name another folder with --home.",
            )

    def _remove_old(self) -> None:
        """Removes an older demo: its own folders, and nothing that isn't one."""
        self._refuse_anything_else()
        for name in (*_ROOTS, "mongodb", "dagster", "jobs", "logs", "access"):
            if (self.home / name).is_dir():
                lift(self.home / name)  # backups can't be written to
                shutil.rmtree(self.home / name)

    @contextlib.contextmanager
    def _private_dagster_home(self) -> Iterator[None]:
        """A demo never writes into the Dagster home of a real installation."""
        before = os.environ.pop("DAGSTER_HOME", None)
        try:
            yield
        finally:
            if before is not None:
                os.environ["DAGSTER_HOME"] = before


def _wait(world: World, laboratory: "subprocess.Popen[bytes]", expected: int) -> None:
    """Until every expected file is known and final, or time is up."""
    deadline, told = time.monotonic() + _TIMEOUT_S, ""
    while time.monotonic() < deadline:
        found = _all_files(world)
        final = sum(item.status in FINAL - {Status.ERROR} for item in found)
        if (text := f"{final} of {expected} files have ended") != told:
            say(told := text)
        if laboratory.poll() is not None and final == len(found) >= expected:
            return
        time.sleep(1)
    laboratory.terminate()


def _all_files(world: World) -> list[RawFile]:
    return [
        item
        for instrument_id in world.config.instruments
        for item in world.store.raw_files.in_status(instrument_id, list(Status))
    ]


def _judge(
    world: World, expected: dict[str, list[ExpectedFile]]
) -> tuple[list[dict[str, Any]], list[str]]:
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    for instrument_id, files in expected.items():
        wanted = Counter(files)
        found = world.store.raw_files.in_status(instrument_id, list(Status))
        for item in sorted(found, key=lambda item: item.created_at):
            match = next((one for one in wanted if wanted[one] and _matches(item, one)), None)
            if match is None:
                problems.append(f"{item.id}: {item.status} ({item.status_details}) not expected")
            else:
                wanted[match] -= 1
            problems.extend(_unproven(world, item))
            rows.append(
                {
                    "instrument": instrument_id,
                    "file": item.id,
                    "status": item.status,
                    "expected": "as expected" if match else "NOT AS EXPECTED",
                    "size_bytes": item.size,
                    "reason": item.status_details,
                }
            )
        problems.extend(
            f"{one.original_name}: never ended as {one.expected_status}"
            for one in wanted.elements()
        )
    return rows, problems


def _matches(item: RawFile, expected: ExpectedFile) -> bool:
    return (
        item.original_name == expected.original_name
        and item.status == expected.expected_status
        and expected.reason_contains in (item.status_details or "")
    )


def _unproven(world: World, item: RawFile) -> Iterator[str]:
    """What in the backup is not what was recorded; read here without Kraken's own reader."""
    for name, fact in item.file_info.items():
        path = world.backup_folder(item) / name
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "md5").hexdigest()
        if found != fact.md5:
            yield f"{path}: MD5 {found}, recorded {fact.md5}"
