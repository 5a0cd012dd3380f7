"""The embedded MongoDB server: a process of its own, for trials and tests.

It speaks MongoDB's wire protocol on MongoDB's storage engine; its authors call it beta, and
production runs a real MongoDB. One server serves one data folder: whoever comes second finds the
first by what it left in `server.json`. It keeps its port over restarts, so that clients find it
again by themselves. It ends with the process that started it, also when that one is killed.
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from kraken_dagster.clients.processes import accepts, die_with_parent, free_port, is_free
from kraken_dagster.domain.errors import StoreUnavailable

_START_TIMEOUT_S = 30.0
_PROGRAM = "secantusd-py"


@dataclass
class EmbeddedServer:
    """A server that answers at `uri`. `process` is set where this process started it."""

    uri: str
    process: "subprocess.Popen[bytes] | None" = None

    def is_up(self) -> bool:
        """Whether it runs or, where another process started it, whether somebody listens there."""
        if self.process is not None:
            return self.process.poll() is None
        return accepts(int(self.uri.rstrip("/").rpartition(":")[2]))

    def stop(self, timeout_s: float = 20.0) -> None:
        """Ends the server if this process started it, and leaves anybody else's alone."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def ensure_running(folder: Path) -> EmbeddedServer:
    """Finds the server of this data folder, or starts it.

    Raises:
        StoreUnavailable: the program isn't installed, or doesn't come up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        port = _known_port(folder)
        if port is not None and _answers(port, folder):
            return EmbeddedServer(_uri(port))
        port = port if port is not None and is_free(port) else free_port()
        process = _start(folder, port)
        (folder / "server.json").write_text(json.dumps({"port": port, "pid": process.pid}))
        return EmbeddedServer(_uri(port), process)


def _uri(port: int) -> str:
    return f"mongodb://127.0.0.1:{port}/"


def _start(folder: Path, port: int) -> "subprocess.Popen[bytes]":
    command = [
        *(_program(), "--standalone", "--host", "127.0.0.1", "--port", str(port)),
        *("--storage-path", str(folder / "data"), "--log-level", "WARNING"),
    ]
    log_path = folder / "server.log"
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - no threads' locks are touched in it
        )
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        # Not the port only: a SIGTERM before the first answer is lost on the server now and then.
        if accepts(port) and _says_hello(port):
            return process
        time.sleep(0.05)
    process.kill()
    raise StoreUnavailable(
        "The embedded MongoDB server does not come up",
        file=folder,
        found=_last_line(log_path),
        next_step=f"read {log_path}; or set `mongodb.uri` to a real MongoDB.",
    )


def _says_hello(port: int) -> bool:
    with MongoClient[dict[str, Any]](_uri(port), serverSelectionTimeoutMS=1000) as client:
        try:
            client.admin.command("hello")
        except PyMongoError:
            return False
    return True


def _program() -> str:
    beside = Path(sys.executable).with_name(_PROGRAM)
    program = str(beside) if beside.exists() else shutil.which(_PROGRAM)
    if program is None:
        raise StoreUnavailable(
            "No MongoDB is configured, and the embedded server is not installed",
            expected=f"`mongodb.uri` in instruments.yaml, or the program {_PROGRAM}",
            next_step="set the URI, or `pip install 'kraken-dagster[embedded]'` for a trial.",
        )
    return program


def _die_with_parent() -> None:
    # Not SIGTERM: one that comes just after the start is lost on the server now and then. Every
    # acknowledged write is in its journal.
    die_with_parent(signal.SIGKILL)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _known_port(folder: Path) -> int | None:
    try:
        return int(json.loads((folder / "server.json").read_text())["port"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _answers(port: int, folder: Path) -> bool:
    """Whether our server listens there: the process that was recorded lives, and accepts."""
    try:
        pid = json.loads((folder / "server.json").read_text())["pid"]
        os.kill(pid, 0)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return accepts(port)


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    return lines[-1] if lines else "nothing in its log"
