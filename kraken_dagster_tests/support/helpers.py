"""What several test modules build: records, files of an instrument, and steps in a row."""

import hashlib
import json
import os
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from kraken_dagster.acquisition.watch import FolderScan, due_for_backup, look_at
from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.config.loader import load_config
from kraken_dagster.fs.stores.marker import Role
from kraken_dagster.fs.stores.marker_file import read_marker
from kraken_dagster.model.errors import StoreUnavailable
from kraken_dagster.model.jobs.job import QuantJob
from kraken_dagster.model.jobs.report import JobState
from kraken_dagster.model.raw_file import InstrumentFileStatus, Lease, RawFile, Status
from kraken_dagster.operations.init_store import mark
from kraken_dagster.quant.collect import collect
from kraken_dagster.quant.jobs.poll import poll
from kraken_dagster.quant.submit import submit_jobs
from kraken_dagster.runtime.services import Services
from kraken_dagster.runtime.stores import root_of
from kraken_dagster.simulation.clock import LabClock
from kraken_dagster.simulation.instruments import Acquisition, SimulatedInstrument
from kraken_dagster.store.connection import connect
from kraken_dagster.store.embedded.server import uri_of

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
# Names that a file system takes and that a shell, a terminal or a database may stumble over.
HOSTILE_STEMS = (
    "a b  c",
    " leading and trailing ",
    "quote'\"`",
    "new\nline",
    "tab\tand\x1b[31mescape",
    "$(touch pwned);&|<>*?",
    "$dollar.first.and.dots",
    "äöü 日本 🧪",
    "-rf",
    "back\\slash",
    "%enc:x",
    "...",
)


def database_uri(uri: str, name: str) -> str:
    """That of a database on the server, or beside the database, that a URI names."""
    return urlsplit(uri)._replace(path=f"/{name}").geturl()


def embedded_uri(home: Path) -> str:
    """With the password of the embedded server of this home."""
    folder = home / "mongodb"
    return uri_of(folder, json.loads((folder / "server.json").read_text())["port"])


def long_name(ending: str) -> str:
    """A name of 255 bytes, the longest that a file system takes."""
    return "x" * (255 - len(ending)) + ending


def record(name: str = "x.raw", **fields: Any) -> RawFile:
    standard = {
        "id": name,
        "original_name": name,
        "instrument_id": "thermo1",
        "status": Status.QUEUED_FOR_MONITORING,
        "instrument_file_status": InstrumentFileStatus.INITIAL,
        "created_at": NOW,
        "created_at_": NOW,
        "updated_at_": NOW,
    }
    return RawFile(**{**standard, **fields})


def lease(run_id: str = "run-1", *, until: datetime = NOW + timedelta(seconds=90)) -> Lease:
    return Lease(token=f"token of {run_id}", run_id=run_id, host="pc7", step="backup", until=until)


def job(name: str = "job-1", **fields: Any) -> QuantJob:
    standard = {
        "id": name,
        "raw_file": "x.raw",
        "instrument_id": "thermo1",
        "settings_name": "s",
        "settings_version": 1,
        "software_type": "custom",
        "software": "program",
        "metrics_type": "custom",
        "engine": "local",
        "attempt": 1,
        "state": JobState.INTENDED,
        "output_path": "/output/x",
        "relative_output_path": "x",
        "command": ["program"],
        "environment": {},
        "created_at": NOW,
    }
    return QuantJob(**{**standard, **fields})


def mark_stores(services: Services) -> None:
    """Initialises the stores whose folders are there; one that has a marker is adopted."""
    for role in Role:
        root = root_of(services, role)
        if not root.is_dir():
            continue
        found = read_marker(root).get(role)
        if found is None or found not in services.store.markers.ids(role):
            mark(services, role, found, by="a test")


def acquire(services: Services, instrument_id: str, name: str, **changes: Any) -> None:
    """An instrument writes an acquisition, from the first byte to the last."""
    vendor = services.instrument(instrument_id).type.value
    plan = Acquisition(name, vendor, **{"minutes": 1, "size_bytes": 50_000, "seed": 7, **changes})
    folder = services.instrument_folder(instrument_id)
    for _ in SimulatedInstrument(folder, vendor, LabClock(1e6)).steps(plan):
        pass


def finish(services: Services, instrument_id: str) -> None:
    """Looks until the acquisitions in the folder have stopped changing for long enough."""
    for _ in range(3):
        look_at(services, instrument_id)
        services.now.forward(minutes=61)


def backed_up(services: Services, instrument_id: str, name: str, **changes: Any) -> RawFile:
    """A file that was acquired, watched and backed up."""
    acquire(services, instrument_id, name, **changes)
    finish(services, instrument_id)
    back_up(services, name, run_id="backup", options=BackupOptions())
    return services.store.raw_files.get(name)


def each(slots: int) -> dict[str, int]:
    """As many slots on every engine."""
    return defaultdict(lambda: slots)


def unassign(services: Services, name: str) -> None:
    """Takes settings from the fallback project."""
    (found,) = [a for a in services.store.catalog.assigned(None) if a.settings.name == name]
    assert services.store.catalog.unassign(found.id)


def tick(services: Services, *, slots: int = 2) -> int:
    """What a tick of the sensors and the runs that it requests do; how many there were."""
    now, runs = services.now(), 0
    for instrument_id in services.config.instruments:
        for item in due_for_backup(services.store, instrument_id, now):
            if not item.is_backed_up:
                back_up(services, item.id, run_id="b", options=BackupOptions(), by_hand=False)
            submit_jobs(services, item.id, run_id="q", slots=each(slots), by_hand=False)
            runs += 1
    found = poll(services, slots=dict.fromkeys(services.config.engines, slots))
    for item in found.to_collect:
        collect(services, item.id, run_id="c")
    for item in found.to_submit:
        submit_jobs(services, item.id, run_id="q", slots=each(slots), by_hand=False)
    return runs + len(found.to_collect) + len(found.to_submit)


def tick_until_idle(services: Services, *, slots: int = 2) -> None:
    """Ticks, with every lease lapsed and every job ended in between, until nothing is due."""
    for _ in range(30):
        services.now.forward(minutes=31)
        wait_for_jobs(services)
        if tick(services, slots=slots) == 0:
            return
    raise AssertionError("the sensors request runs for ever")


def wait_for_jobs(services: Services) -> None:
    """Waits until every job that was started has ended."""

    def ended() -> bool:
        return all(
            report.state is not JobState.RUNNING
            for name, engine in services.engines.items()
            for report in engine.states(
                [item.cluster_job_id or item.id for item in services.store.jobs.uncollected(name)]
            ).values()
        )

    wait_until(ended, "no job runs any more")


def md5sum(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def manifest_holds(folder: Path, name: str) -> bool:
    """Whether the real md5sum proves a backup by its manifest."""
    command = ["md5sum", "--check", "--strict", "--quiet", "--", name]
    return subprocess.run(command, cwd=folder, capture_output=True).returncode == 0


class Bench:
    """An instrument's folder and the looks at it; with `uri` every look is a new process's."""

    def __init__(self, services: Services, instrument_id: str, *, uri: str | None = None) -> None:
        self.services = services
        self.instrument_id = instrument_id
        self.folder = services.instrument_folder(instrument_id)
        self._uri = uri

    def write(self, name: str, size: int = 100, *, created_at: datetime | None = None) -> Path:
        """The main file grows or shrinks to `size`; in a folder `name` if the vendor has one."""
        rules = self.services.rules(self.instrument_id)
        path = self.folder / rules.main_file(name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * size)
        if created_at is not None:
            os.utime(path, (created_at.timestamp(),) * 2)
        return path

    def scan(self, *, minutes: float = 0) -> FolderScan:
        """One look, `minutes` after the one before."""
        self.services.now.forward(minutes=minutes)
        if self._uri is None:
            return look_at(self.services, self.instrument_id)
        with closing(connect(self._uri)) as store:
            return look_at(replace(self.services, store=store), self.instrument_id)

    def statuses(self) -> dict[str, str]:
        found = self.services.store.raw_files.in_status(self.instrument_id, set(Status))
        return {item.id: item.status.value for item in found}

    def status(self, name: str) -> str:
        return self.statuses()[name]

    def acquisition(self, name: str) -> dict[str, Any]:
        return self.services.store.raw_files.get(name).acquisition


def write_config(folder: Path, uri: str, **changes: Any) -> Path:
    """A configuration file with a Thermo and a Bruker; their folders and the roots are there."""
    instruments = {"thermo1": {"type": "thermo"}, "bruker1": {"type": "bruker"}}
    for name in ("backup", "output", *(f"instruments/{item}" for item in instruments)):
        (folder / name).mkdir(parents=True, exist_ok=True)
    config = {
        "mongodb": {"uri": uri},
        "locations": {name: name for name in ("instruments", "backup", "output", "software")},
        "instruments": instruments,
    }
    path = folder / "instruments.yaml"
    path.write_text(yaml.safe_dump({**config, **changes}, sort_keys=False))
    mark_stores_of(path)
    return path


def mark_stores_of(path: Path) -> None:
    """The same, of a configuration file whose MongoDB runs; of another one nothing is marked."""
    config = load_config(path, environment=dict(os.environ))
    if config.mongodb.uri:
        with closing(connect(config.mongodb.uri)) as store, suppress(StoreUnavailable):
            mark_stores(Services(config=config, store=store, engines={}))


def wait_until(
    condition: Callable[[], Any], what: str, *, timeout_s: float = 60, every_s: float = 0.05
) -> Any:
    """What the condition returns once that is true; fails the test if it never is."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s in vain until {what}"
        time.sleep(every_s)
    return found
