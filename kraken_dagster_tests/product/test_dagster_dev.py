"""`dagster dev` in a fresh checkout, as who develops starts it: it works, and leaves nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from kraken_dagster.fs.processes.child_processes import free_port
from kraken_dagster_tests.support.helpers import wait_until
from kraken_dagster_tests.support.laboratory import PATIENCE_S, processes_of

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]
ROOT = Path(__file__).resolve().parents[2]
_PARTS = ("kraken_dagster", "resources", "instruments.yaml", "workspace.yaml", "dagster.yaml")
_SENSORS = b"""{"query": "{ workspaceOrError { ... on Workspace { locationEntries {
  locationOrLoadError { ... on PythonError { message } ... on RepositoryLocation {
  repositories { sensors { name } } } } } } } }"}""".replace(b"\n", b"")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What stands in a checkout, and nothing that was made in one."""
    for name in _PARTS:
        source, target = ROOT / name, tmp_path / "checkout" / name
        target.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return tmp_path / "checkout"


def _asked(port: int) -> Any:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/graphql", _SENSORS, headers)
    with suppress(OSError), urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        [entry] = json.load(answer)["data"]["workspaceOrError"]["locationEntries"]
        return entry["locationOrLoadError"]
    return None


def test_dagster_dev_in_a_checkout_works_and_leaves_nothing(checkout: Path) -> None:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("KRAKEN", "DAGSTER"))}
    kept |= {"PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"}
    port, program = free_port(), Path(sys.executable).with_name("dagster")
    log = checkout.parent / "dev.log"
    with log.open("wb") as said:
        dev = subprocess.Popen(
            [program, "dev", "--port", str(port)],
            cwd=checkout, env=kept, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            start_new_session=True,
        )  # fmt: skip
    try:
        found = wait_until(
            lambda: dev.poll() is not None or _asked(port),
            "Dagit answers", timeout_s=PATIENCE_S, every_s=0.5,
        )  # fmt: skip
        assert dev.poll() is None, log.read_text()
        [repository] = found["repositories"]
        names = {item["name"] for item in repository["sensors"]}
        assert {"astral1_watcher", "cluster_jobs", "alerts"} <= names
        os.killpg(dev.pid, signal.SIGINT)  # as Ctrl-C in a terminal
        dev.wait(PATIENCE_S)
        wait_until(
            lambda: not processes_of(checkout), "nothing runs any more", timeout_s=PATIENCE_S
        )
    finally:
        for pid in (*processes_of(checkout), *([dev.pid] if dev.poll() is None else [])):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    left = {path.name for path in checkout.iterdir()} - set(_PARTS)
    assert left == {".kraken"}, log.read_text()  # Kraken's own home, which is in .gitignore
