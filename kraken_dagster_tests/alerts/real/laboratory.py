"""The laboratory in which alerts are tried: `kraken up` on two simulated instruments, whose disks
and the backup are file systems of their own. Hours last seconds, and so do the thresholds.
"""

import json
import os
import shlex
import shutil
import signal
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from kraken_dagster.config.dagit import Role
from kraken_dagster.dagit.access import Access
from kraken_dagster.fs.processes.child_processes import free_port
from kraken_dagster.model.errors import KrakenError, StoreUnavailable
from kraken_dagster.model.raw_file import FALLBACK_PROJECT
from kraken_dagster.model.settings import Settings
from kraken_dagster.runtime.services import utc_now
from kraken_dagster.store.connection import Store, connect
from kraken_dagster_tests.alerts.real.received import Inbox, NotingMailServer, NotingWebhookServer
from kraken_dagster_tests.alerts.real.settings import SEARCH, dagster_settings, settings_of
from kraken_dagster_tests.chaos.mounts import Disk, clear
from kraken_dagster_tests.chaos.notes import Notebook
from kraken_dagster_tests.support.certificates import certificate
from kraken_dagster_tests.support.helpers import embedded_uri, wait_until
from kraken_dagster_tests.support.laboratory import KRAKEN, processes_of

_SIGN = "of a trial of Kraken's alerts; made anew by the next"
_PROGRAM = """#!/bin/sh
if [ -e {broken} ]; then echo "the program is broken" >&2; exit 7; fi
printf 'ms1_scans\\tgradient_length\\n5\\t21.0\\n' > "$2"/msqc_results.tsv
"""
_LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
STARTED_AGAIN_AFTER_S = 2.0


@dataclass
class AlertsLab:
    """Everything below `folder`, which is the laboratory's own.

    Args:
        look_every_s: `alerts.look_every_s`; Kraken's default is 60.
        digest_in: how long after `make` the digest is due.
    """

    folder: Path
    look_every_s: int = 10
    digest_in: timedelta = timedelta(minutes=6)
    process: "subprocess.Popen[bytes] | None" = None
    mail: NotingMailServer = field(init=False)
    hook: NotingWebhookServer = field(init=False)
    inbox: Inbox = field(init=False)
    _store: Store | None = None
    _ports: tuple[int, int] = (0, 0)
    _died_at: float | None = None

    def __post_init__(self) -> None:
        self.folder = self.folder.absolute()
        self.inbox = Inbox(self.notes)
        self.mail = NotingMailServer(inbox=self.inbox)
        self.hook = NotingWebhookServer(inbox=self.inbox)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def config_path(self) -> Path:
        return self.home / "instruments.yaml"

    @property
    def notes(self) -> Notebook:
        return Notebook(self.folder / "notes.jsonl")

    @property
    def certificate(self) -> Path:
        return self.home / "dagit.pem"

    @property
    def broken(self) -> Path:
        """While this file is there, the search program fails."""
        return self.folder / "broken"

    def disk(self, name: str) -> Disk:
        """Of `astral1`, `astral2` or `backup`."""
        at = name if name == "backup" else f"instruments/{name}"
        return Disk(
            image=self.folder / "images" / f"{name}.img",
            root=self.folder / "disks" / name,
            mountpoint=self.folder / "mnt" / at,
        )

    def make(self) -> None:
        """Makes the folder anew; refuses one that holds something else."""
        if self.folder.exists() and any(self.folder.iterdir()):
            if not (self.folder / "SIGN").exists():
                raise SystemExit(f"{self.folder} holds something else: name another --folder")
            clear(self.folder)
            shutil.rmtree(self.folder)
        for name in ("home", "settings", "software", "mnt/output"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "SIGN").write_text(_SIGN)
        for name in ("astral1", "astral2", "backup"):
            self.disk(name).make()
            self.disk(name).show()
        program = self.folder / "software" / SEARCH
        program.write_text(_PROGRAM.format(broken=shlex.quote(str(self.broken))))
        program.chmod(0o755)
        self.new_certificate(timedelta(days=300))
        self._write_settings()

    def new_certificate(self, valid_for: timedelta) -> None:
        certificate(self.certificate, expires=utc_now() + valid_for)

    def _write_settings(self) -> None:
        settings = settings_of(
            self.folder,
            certificate=self.certificate,
            look_every_s=self.look_every_s,
            digest_at=datetime.now(UTC) + self.digest_in,
            smtp_port=self.mail.port,
            webhook_url=self.hook.url,
        )
        self.config_path.write_text(yaml.safe_dump(settings))
        (self.home / "dagster.yaml").write_text(yaml.safe_dump(dagster_settings()))

    def initialise(self) -> None:
        """Has the stores known, and a program for those few files that are processed."""
        self.command("init-store", "--empty")
        store, now = self.store, utc_now()
        for item in store.catalog.assigned(FALLBACK_PROJECT):
            store.catalog.unassign(item.id)
        search = Settings(
            name=SEARCH,
            software_type="custom",
            software=SEARCH,
            metrics_type="msqc",
            config_params="RAW_FILE_PATH OUTPUT_PATH",
        )
        store.catalog.add_settings(search, now=now)
        store.catalog.assign(FALLBACK_PROJECT, search, scope="*", now=now)

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """A command of Kraken's, as an operator gives it."""
        return subprocess.run(
            [KRAKEN, "--config", str(self.config_path), *arguments],
            env=environment(),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=600,
        )

    def up(self) -> None:
        self._ports = self._ports if all(self._ports) else (free_port(), free_port())
        dagit, page = map(str, self._ports)
        command = [KRAKEN, "--config", str(self.config_path)]
        with (self.folder / "kraken.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "up", "--port", dagit, "--web-port", page],
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def look_after(self) -> None:
        """Starts Kraken again a moment after it died, as systemd does."""
        if self.process is None or self.process.poll() is None:
            self._died_at = None
            return
        self._died_at = self._died_at or time.monotonic()
        if time.monotonic() - self._died_at > STARTED_AGAIN_AFTER_S:
            self._died_at = None
            self.up()

    def stop(self) -> None:
        """Ends Kraken as Ctrl-C does, and kills it if that takes too long."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def processes(self) -> dict[int, str]:
        return processes_of(self.home)

    @property
    def store(self) -> Store:
        if self._store is None:
            self._store = connect(embedded_uri(self.home), timeout_s=2)
        return self._store

    def wait_for_store(self) -> None:
        def answers() -> bool:
            with suppress(KrakenError, OSError, KeyError, ValueError):
                self.store.raw_files.latest(["astral1"], limit=1)
                return True
            return False

        wait_until(answers, "MongoDB answers", timeout_s=180, every_s=0.5)

    def last_look(self) -> float | None:
        """When alerts were last looked after, epoch; None if MongoDB doesn't tell."""
        with suppress(StoreUnavailable):
            at = self.store.alerts.last_look().get("looked_at")
            return at.timestamp() if isinstance(at, datetime) else None
        return None

    def launch(self, job: str, config: Mapping[str, Any]) -> None:
        """Launches a job as its launchpad in Dagit does.

        Raises:
            OSError: Dagit does not answer, or refuses.
        """
        selector = {
            "repositoryLocationName": "kraken",
            "repositoryName": "__repository__",
            "jobName": job,
        }
        variables = {"params": {"selector": selector, "runConfigData": config}}
        body = json.dumps({"query": _LAUNCH, "variables": variables}).encode()
        token = Access(self.home).token(Role.OPERATOR)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        url = f"https://127.0.0.1:{self._ports[0]}/graphql"
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        request = urllib.request.Request(url, body, headers)
        with urllib.request.urlopen(request, timeout=60, context=context) as answer:
            found = json.load(answer)
        if "runId" not in json.dumps(found):
            raise OSError(f"{job} is not launched: {found}")


def environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("KRAKEN", "DAGSTER"))}
