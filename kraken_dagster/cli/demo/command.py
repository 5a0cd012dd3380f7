"""`kraken demo`: Kraken at work on the simulated laboratory."""

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from dagster import DagsterInstance

from kraken_dagster.cli.demo.watch import Watch, judge, to_practise, wait_for_scans
from kraken_dagster.cli.web import page_of
from kraken_dagster.config.dagit import LOOPBACK
from kraken_dagster.config.loader import load_config
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.engines.factory import make_engines
from kraken_dagster.fs.processes.child_processes import die_with_parent
from kraken_dagster.fs.stores.marker import Role
from kraken_dagster.fs.stores.read_only import lift
from kraken_dagster.model.errors import ConfigError
from kraken_dagster.model.projects import Project
from kraken_dagster.model.settings import Settings
from kraken_dagster.operations.dagster_home import open_dagster
from kraken_dagster.operations.init_store import mark
from kraken_dagster.operations.supervisor import Supervisor, run_until_stopped, say
from kraken_dagster.runtime.open_store import open_store
from kraken_dagster.runtime.services import Services, utc_now
from kraken_dagster.simulation.laboratory import DEMO_PROJECT, INSTRUMENTS, SIGN_NAME, Laboratory
from kraken_dagster.simulation.plans import ExpectedFile, expected_outcomes
from kraken_dagster.store.catalog.catalog import RAWQC_SETTINGS

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


# A demo runs on any disk.
_FREE_GB = ("instrument_free_gb", "backup_free_gb", "output_free_gb", "local_free_gb")


@dataclass
class Demo:
    """A laboratory below `home`, which is Kraken's own and is made anew for `run_once`."""

    home: Path
    files: int = 4
    speed: float = 400.0
    made: list[Role] = field(default_factory=list)  # the stores that this demo has made
    practice: list[str] = field(default_factory=list)  # raw files that wait for `kraken retry`

    @property
    def config_path(self) -> Path:
        return self.home / "instruments.yaml"

    def serve(self, port: int) -> None:
        """Dagit, the daemon and a laboratory that goes on until Ctrl-C."""
        config = self._set_up()
        logs = self.home / "logs"
        supervisor = Supervisor(
            config,
            self.config_path,
            port=port,
            log_folder=logs,
            find_programs=partial(page_of, config, self.config_path, LOOPBACK, None),
        )
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
                services = self._seeded_services(config)
                watching = threading.Thread(target=supervisor.watch, daemon=True)
                watching.start()
                with open_dagster(supervisor.home) as instance:
                    return self._follow(services, instance, start, expected)
            finally:
                supervisor.stop()

    def run_beside(self, config: KrakenConfig) -> tuple[list[dict[str, Any]], list[str]]:
        """One batch of files for a Kraken that runs already, as in containers.

        Returns:
            As `run_once`.
        """
        self._make_folders()
        services = self._seeded_services(config)
        start = datetime.now(UTC).replace(microsecond=0)
        with DagsterInstance.get() as instance:
            return self._follow(services, instance, start, self._expected(start))

    def _follow(
        self,
        services: Services,
        instance: DagsterInstance,
        start: datetime,
        expected: dict[str, list[ExpectedFile]],
    ) -> tuple[list[dict[str, Any]], list[str]]:
        wait_for_scans(services)
        laboratory = self._start_laboratory(start, forever=False)
        stuck = Watch(services, instance, laboratory, expected).wait()
        rows, problems = judge(services, instance, expected)
        self.practice = to_practise(services)
        return rows, [*stuck, *problems]

    def farewell(self) -> list[str]:
        """What one can do next, line by line."""
        kraken = f"kraken --config {shlex.quote(str(self.config_path))}"
        lines = [
            "SIMULATION: no instrument and no search was real. Look at it in Dagit with",
            f"  {kraken} up",
            "and in the terminal with",
            f"  {kraken} status",
        ]
        for raw_file_id in self.practice:
            lines += [
                "One search failed on purpose, as searches do. To practise: read why, and have it",
                "done again while `up` runs; this time it succeeds.",
                f"  {kraken} show {shlex.quote(raw_file_id)}",
                f"  {kraken} retry {shlex.quote(raw_file_id)}",
            ]
        return lines

    def _set_up(self) -> KrakenConfig:
        self._make_folders()
        self.config_path.write_text(
            f"# SIMULATION: written by `kraken demo`.\n{yaml.safe_dump(self._settings())}"
        )
        return load_config(self.config_path)

    def _make_folders(self) -> None:
        self._refuse_anything_else()
        self.made = [role for role in Role if not (self.home / role).exists()]
        for name in _ROOTS:
            (self.home / name).mkdir(parents=True, exist_ok=True)
        for name in INSTRUMENTS:
            (self.home / "instruments" / name).mkdir(exist_ok=True)
        (self.home / SIGN_NAME).write_text("SIMULATION: everything in this folder is simulated.\n")
        program = self.home / "software" / _PROGRAM
        python, standin = shlex.quote(sys.executable), "-m kraken_dagster.simulation.search_program"
        state = shlex.quote(str(self.home / "software" / "searched"))
        program.write_text(f'#!/bin/sh\nexec {python} {standin} --state {state} "$@"\n')
        program.chmod(0o755)

    def _settings(self) -> dict[str, Any]:
        return {
            "home": ".",
            "simulation": {"speed": self.speed},
            "locations": {name: name for name in _ROOTS},
            "defaults": {
                "sensors": "running",
                "watch_interval_s": 5,
                "lease_s": 60,
                "retry_after_s": 5,
                "file_move_delay_m": 0.1,
            },
            "instruments": {name: {"type": vendor} for name, vendor in INSTRUMENTS.items()},
            "alerts": {"thresholds": dict.fromkeys(_FREE_GB, 1)},
        }

    def _seeded_services(self, config: KrakenConfig) -> Services:
        store = open_store(config.home, config.mongodb.uri)
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
        services = Services(config=config, store=store, engines=engines)
        for role in Role:
            root = self.home / role
            if role in self.made or not (os.path.ismount(root) or any(root.iterdir())):
                mark(services, role, by="kraken demo")
        return services

    def _expected(self, start: datetime) -> dict[str, list[ExpectedFile]]:
        laboratory = Laboratory(
            self.home / "instruments",
            speed=self.speed,
            files_per_instrument=self.files,
            start=start,
        )
        return {name: expected_outcomes(plan) for name, plan in laboratory.plans.items()}

    def _start_laboratory(self, start: datetime, *, forever: bool) -> "subprocess.Popen[bytes]":
        command = [
            *(sys.executable, "-m", "kraken_dagster.simulation.laboratory"),
            *("--root", str(self.home / "instruments")),
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
        self._seeded_services(supervisor.config)
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
