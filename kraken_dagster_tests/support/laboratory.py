"""The whole product as processes in a folder of its own: started as users start it, and killed.

Not the simulated laboratory, which plays instruments: here the tests write the files.
"""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from kraken_dagster.config.dagit import Role
from kraken_dagster.config.loader import load_config
from kraken_dagster.dagit.access import Access
from kraken_dagster.fs.copying.part_files import PART_PREFIX
from kraken_dagster.fs.processes.child_processes import free_port
from kraken_dagster.fs.stores.marker import MARKER_NAME
from kraken_dagster.model.errors import StoreUnavailable, UnknownRawFile
from kraken_dagster.model.raw_file import RawFile, Status
from kraken_dagster.runtime.services import Services
from kraken_dagster.simulation.clock import LabClock
from kraken_dagster.simulation.instruments import Acquisition, SimulatedInstrument
from kraken_dagster.store.connection import Store, connect
from kraken_dagster_tests.support.dagster_bench import install_search
from kraken_dagster_tests.support.files import files_below
from kraken_dagster_tests.support.helpers import embedded_uri, mark_stores, wait_until

INSTRUMENTS = {"thermo1": "thermo", "bruker1": "bruker", "share1": "thermo"}
KRAKEN = str(Path(sys.executable).with_name("kraken"))
SHIPPED_DAGSTER_YAML = Path(__file__).resolve().parents[2] / "dagster.yaml"
_OF_A_JOB = b"RAW_FILE_ID="  # stands in the environment of jobs, and of nothing else
PATIENCE_S = 300  # a guard against hanging: other tests may run beside this one
_LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
_BACKFILL = """mutation($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
_BACKFILLS = """{ partitionBackfillsOrError { ... on PartitionBackfills { results {
  id status title numPartitions tags { key value } error { message }
  runs(limit: 50) { runId status tags { key value } }
  assetBackfillData { assetBackfillStatuses { ... on AssetPartitionsStatusCounts {
    assetKey { path } numPartitionsTargeted numPartitionsMaterialized numPartitionsFailed } } }
} } } }"""


@dataclass
class Lab:
    """`kraken up` on three instruments; `share1` has a folder to mount something on."""

    home: Path
    sensors: str = "running"
    engine_slots: int = 4
    root: Path | None = None  # where the folders are that other instances share; else in `home`
    uri: str | None = None  # of a MongoDB that runs already; else the embedded server is used
    files: dict[str, Path] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None
    port: int = 0
    _store: Store | None = None

    def __post_init__(self) -> None:
        roots = ("instruments", "backup", "output", "settings", "software")
        self.home.mkdir(exist_ok=True)
        for name in (*roots, *(f"instruments/{item}" for item in INSTRUMENTS)):
            (self.folders / name).mkdir(parents=True, exist_ok=True)
        settings: dict[str, Any] = {
            "home": ".",
            "simulation": {"speed": 3600},  # a second without growth ends an acquisition
            "locations": {name: str(self.folders / name) for name in roots},
            "engines": {"local": {"slots": self.engine_slots}},
            "defaults": {
                "sensors": self.sensors,
                "watch_interval_s": 4,  # a tick of each of seven sensors costs a third of a second
                "folder_timeout_s": 2,
                "lease_s": 8,
                "retry_after_s": 1,
            },
            "instruments": {name: {"type": vendor} for name, vendor in INSTRUMENTS.items()},
        }
        settings["instruments"]["share1"]["copy_stall_s"] = 4
        if self.uri is not None:
            settings["mongodb"] = {"uri": self.uri}
        self.config_path.write_text(yaml.safe_dump(settings))
        (self.home / "dagster.yaml").write_text(yaml.safe_dump(impatient_dagster()))

    @property
    def folders(self) -> Path:
        return self.root or self.home

    @property
    def config_path(self) -> Path:
        return self.home / "instruments.yaml"

    @property
    def dagster_home(self) -> Path:
        return self.home / "dagster"

    @property
    def backup(self) -> Path:
        return self.folders / "backup"

    @property
    def log(self) -> str:
        path = self.home / "kraken.log"
        return path.read_text(errors="replace") if path.exists() else "never started"

    @property
    def store(self) -> Store:
        """The embedded server, which keeps its port, or the one that `uri` names."""
        if self._store is None:
            self._store = connect(self.uri or embedded_uri(self.home), timeout_s=1)
        return self._store

    def configure(self, **options: Any) -> None:
        """Sets `options` in instruments.yaml."""
        settings = yaml.safe_load(self.config_path.read_text())
        self.config_path.write_text(yaml.safe_dump({**settings, "options": options}))

    def up(self) -> None:
        """Starts Kraken, and waits until every instrument was looked at by it."""
        began, self.port = time.time(), free_port()
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("KRAKEN", "DAGSTER"))}
        with (self.home / "kraken.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    KRAKEN,
                    "--config",
                    str(self.config_path),
                    "up",
                    "--port",
                    str(self.port),
                    "--web-port",
                    "0",
                ],
                env=kept,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        what = "every instrument is looked at"
        wait_until(lambda: self._looked_at_since(began), what, timeout_s=PATIENCE_S)
        config = load_config(self.config_path, environment={})
        mark_stores(Services(config=config, store=self.store, engines={}))
        install_search(config, self.store)

    def stop(self) -> int:
        """Ends Kraken as Ctrl-C does; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)

    def wait_until_ended(self) -> None:
        """Waits until nothing runs any more; else says what still does."""
        try:
            wait_until(lambda: not self.processes(), "nothing runs any more")
        except AssertionError as error:
            error.add_note(f"These still run: {self.processes()}")
            raise

    def _looked_at_since(self, epoch: float) -> bool:
        with suppress(StoreUnavailable, FileNotFoundError, ValueError):
            boards = [self.store.health.engine("local")]
            if self.sensors == "running":
                boards = [self.store.health.get(name) for name in INSTRUMENTS]
            return all(item and item["updated_at_"].timestamp() > epoch for item in boards)
        return False

    def graphql(self, query: str, **variables: Any) -> Any:
        """What Dagit answers, as its pages ask it."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        token = Access(self.home).token(Role.OPERATOR)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/graphql", body, headers)
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            found = json.load(answer)
        assert "errors" not in found, found["errors"]
        return found["data"]

    def wait_for_dagit(self) -> None:
        def answers() -> bool:
            with suppress(OSError):
                return bool(self.graphql("{ version }"))
            return False

        wait_until(answers, "Dagit answers", timeout_s=PATIENCE_S, every_s=0.5)

    def launch(self, job: str, config: dict[str, Any]) -> str:
        """Launches a job as its launchpad in Dagit does; the run's id."""
        selector = {
            "repositoryLocationName": "kraken",
            "repositoryName": "__repository__",
            "jobName": job,
        }
        answer = self.graphql(_LAUNCH, params={"selector": selector, "runConfigData": config})
        assert "run" in answer["launchRun"], answer
        return str(answer["launchRun"]["run"]["runId"])

    def launch_backfill(self, assets: Sequence[str], partitions: Sequence[str], **tags: str) -> str:
        """Launches a backfill as the assets' page in Dagit does; its id."""
        params = {
            "assetSelection": [{"path": item.split("/")} for item in assets],
            "partitionNames": list(partitions),
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
        }
        answer = self.graphql(_BACKFILL, params=params)["launchPartitionBackfill"]
        assert "backfillId" in answer, answer
        return str(answer["backfillId"])

    def backfills(self) -> list[Any]:
        """All backfills, newest first, each with its status and counts by asset."""
        return list(self.graphql(_BACKFILLS)["partitionBackfillsOrError"]["results"])

    def processes(self) -> dict[int, str]:
        return processes_of(self.home)

    def find(self, program: str) -> int:
        """The process with this in its command line."""
        [pid] = [pid for pid, command in self.processes().items() if program in command]
        return pid

    def kill(self, program: str) -> None:
        os.kill(self.find(program), signal.SIGKILL)

    def kill_everything(self) -> None:
        """kill -9 of all processes; the supervisor can't start any of them again meanwhile."""
        supervisor = self.process
        if supervisor is None:
            return
        with suppress(ProcessLookupError):
            os.kill(supervisor.pid, signal.SIGSTOP)

        def only_supervisor_left() -> bool:
            found = self.processes().keys() - {supervisor.pid}
            for pid in found:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not found

        wait_until(only_supervisor_left, "everything else is dead", every_s=0.01)
        supervisor.kill()
        supervisor.wait(60)

    def add_thermo(self, name: str, *, megabytes: int = 1, folder: Path | None = None) -> str:
        """Writes a file of noise into the folder of `thermo1`, or another one."""
        path = (folder or self.folders / "instruments" / "thermo1") / name
        block = random.Random(name).randbytes(1_000_000)
        with path.open("wb") as file:
            for number in range(megabytes):
                file.write(number.to_bytes(4, "big") + block[4:])
        self.files[name] = path
        return name

    def add_bruker(self, name: str) -> str:
        folder = self.folders / "instruments" / "bruker1"
        acquisition = Acquisition(name=name, vendor="bruker", minutes=1, size_bytes=1_000_000)
        SimulatedInstrument(folder, "bruker", LabClock(1e5)).acquire(acquisition)
        self.files[name] = folder / name
        return name

    def file(self, name: str) -> RawFile | None:
        """What MongoDB knows of a file; nothing while the server is away."""
        with suppress(StoreUnavailable, UnknownRawFile):
            return self.store.raw_files.get(name)
        return None

    def status(self, name: str) -> Status | None:
        found = self.file(name)
        return None if found is None else found.status

    def parts(self) -> list[Path]:
        """The temporary files and folders of copies, as far as they stay while one looks."""
        return sorted(
            Path(folder, name)
            for folder, folders, files in os.walk(self.backup)
            for name in (*folders, *files)
            if name.startswith(PART_PREFIX)
        )

    def mid_copy(self, *, at_least_bytes: int, not_by: int = 0) -> tuple[int, Path]:
        """Waits for a copy at work: the process that makes it, and its temporary file."""

        def found() -> tuple[int, Path] | None:
            for part in self.parts():
                with suppress(FileNotFoundError):
                    pid = int(part.name.split("-")[3]) if part.is_file() else not_by
                    if pid != not_by and part.stat().st_size >= at_least_bytes:
                        return pid, part
            return None

        pid, part = wait_until(found, "a copy is at work", timeout_s=PATIENCE_S, every_s=0.01)
        return pid, part

    def health(self, instrument_id: str) -> dict[str, Any]:
        return self.store.health.get(instrument_id) or {}

    def run_of(self, name: str) -> str:
        """The Dagster run that holds the file's lease."""
        record = self.file(name)
        assert record is not None
        assert record.lease is not None
        return record.lease.run_id

    def run_status(self, run_id: str) -> dg.DagsterRunStatus:
        with dg.DagsterInstance.from_config(str(self.dagster_home)) as instance:
            run = instance.get_run_by_id(run_id)
        assert run is not None
        return run.status

    def wait_until_done(self, names: Sequence[str]) -> None:
        def done() -> bool:
            files = [self.file(name) for name in names]
            return all(item and item.status is Status.DONE and not item.lease for item in files)

        wait_until(done, f"{list(names)} are done", timeout_s=PATIENCE_S, every_s=0.5)

    def problems(self) -> list[str]:
        """What of all files isn't as it should be in the end; the backup is judged by md5sum."""
        left = [f"left behind: {path}" for path in self.parts()]
        return [*self._wrong_statuses(), *self._wrong_jobs(), *self._wrong_backup(), *left]

    def _wrong_statuses(self) -> Iterator[str]:
        known = [item.id for item in self.store.raw_files.latest(list(INSTRUMENTS), limit=1000)]
        if sorted(known) != sorted(self.files):
            yield f"MongoDB knows {known}"
        for item in map(self.store.raw_files.get, known):
            if item.status is not Status.DONE or item.lease is not None:
                yield f"{item.id}: {item.status} ({item.status_details}), lease {item.lease}"
            copies = [event for event in item.history if event["to"] == Status.COPYING_DONE]
            if len(copies) != 1:
                yield f"{item.id} was backed up {len(copies)} times"

    def _wrong_jobs(self) -> Iterator[str]:
        for name in self.files:
            if (count := len(self.store.jobs.of(name))) != 1:
                yield f"{count} jobs of {name} in MongoDB"
            if (count := len(self.store.metrics.of(name))) != 1:
                yield f"{count} results of {name} in MongoDB"
        if (count := len(list((self.home / "jobs" / "local").iterdir()))) != len(self.files):
            yield f"{count} folders of jobs for {len(self.files)} files"

    def _wrong_backup(self) -> Iterator[str]:
        expected: dict[str, str] = {}
        for name, source in self.files.items():
            for path, digest in _contents(source).items():
                expected[str(Path(name, path))] = digest
        manifests = list(self.backup.rglob("*.md5"))
        if len(manifests) != len(self.files):
            yield f"{len(manifests)} manifests of {len(self.files)} files"
        for manifest in manifests:
            done = subprocess.run(
                ["md5sum", "--strict", "--quiet", "-c", manifest.name],
                cwd=manifest.parent,
                capture_output=True,
                text=True,
            )
            if done.returncode != 0:
                yield f"{manifest}: {done.stdout}{done.stderr}"
        found = sorted(
            (str(Path(*path.relative_to(self.backup).parts[2:])), _sha256(path))
            for path in self.backup.rglob("*")
            if path.is_file() and path not in manifests and path.name != MARKER_NAME
        )
        if found != sorted(expected.items()):
            yield f"the backup holds {found}, expected {sorted(expected.items())}"


def processes_of(home: Path) -> dict[int, str]:
    """Kraken's own processes, without the jobs that it has started: command lines by id."""
    found: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (folder / "cmdline").read_bytes()
            environment = (folder / "environ").read_bytes()
            ours = os.fsencode(home) in command + environment
            if command and ours and _OF_A_JOB not in environment:
                found[int(folder.name)] = os.fsdecode(command.replace(b"\0", b" "))
    found.pop(os.getpid(), None)
    return found


def impatient_dagster() -> dict[str, Any]:
    """The shipped settings of Dagster, but for how long it waits."""
    shipped: dict[str, Any] = yaml.safe_load(SHIPPED_DAGSTER_YAML.read_text())
    shipped["run_monitoring"] |= {"start_timeout_seconds": 25, "poll_interval_seconds": 2}
    shipped["run_queue"] |= {"dequeue_interval_seconds": 1}
    return shipped


def _contents(source: Path) -> dict[Path, str]:
    """Digests of a raw file's members, wherever it stands: it may be archived at any moment."""
    for _ in range(5):
        for place in (source, source.parent / "Backup" / source.name):
            with suppress(FileNotFoundError):
                members = list(files_below(place)) or [place]
                return {path.relative_to(place): _sha256(path) for path in members}
    raise AssertionError(f"{source} is neither in its folder nor in Backup")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
