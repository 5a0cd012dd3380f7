"""The embedded MongoDB server: a process of its own, for trials and tests.

It speaks MongoDB's wire protocol on MongoDB's storage engine; its authors call it beta, and
production runs a real MongoDB. One server serves one data folder: whoever comes second finds the
first by what it left in `server.json`. It keeps its port over restarts, so that clients find it
again by themselves. It ends with the process that started it, also when that one is killed. It
asks for a password, which only Kraken's user can read (`embedded_password.py`).
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pymongo.errors import PyMongoError

from kraken_dagster.fs.private import PRIVATE_UMASK, make_private
from kraken_dagster.fs.processes.child_processes import (
    LOOPBACK,
    accepts,
    die_with_parent,
    free_port,
    is_free,
)
from kraken_dagster.model.errors import StoreUnavailable
from kraken_dagster.store.embedded.password import (
    certificate,
    lets_in,
    new_password,
    read_password,
    says_hello,
    set_user,
    uri_at,
    write_password,
)

_START_TIMEOUT_S = 120.0  # on a busy machine; one that ends by itself is told at once
_STOP_TIMEOUT_S = 20.0
_WAKE_EVERY_S = 0.1
_PROGRAM = "secantusd-py"
_NEEDS_BYTES = 1_000_000


@dataclass
class EmbeddedServer:
    """A server that answers at `uri`. `process` is set where this process started it."""

    uri: str = field(repr=False)  # with its password
    port: int
    folder: Path
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def address(self) -> str:
        """For people: without the password."""
        return f"{LOOPBACK}:{self.port}"

    def is_up(self) -> bool:
        """Whether it runs or, where another process started it, whether somebody listens there."""
        if self.process is not None:
            return self.process.poll() is None
        return accepts(self.port)

    def stop(self) -> None:
        """Ends the server if this process started it, and leaves anybody else's alone.

        Who wants the server meanwhile waits, and starts one: it still accepts while it ends.
        """
        if self.process is not None:
            with _locked(self.folder):
                _stop(self.process, self.port)


def ensure_running(folder: Path) -> EmbeddedServer:
    """Finds the server of this data folder, or starts it.

    Raises:
        StoreUnavailable: the program isn't installed, or doesn't come up.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(folder):
        known = _known(folder)
        port = known.get("port")
        if port is not None and _answers(port, known):
            return EmbeddedServer(uri_of(folder, port), port, folder)
        make_private(folder)  # an older Kraken's may be anybody's to read
        port = port if port is not None and is_free(port) else free_port()
        process = _start_closed(folder, port)
        facts = {"port": port, "pid": process.pid, "closed": True}
        (folder / "server.json").write_text(json.dumps(facts))
        return EmbeddedServer(uri_of(folder, port), port, folder, process)


def uri_of(folder: Path, port: int) -> str:
    """The URI of this folder's server, with its password.

    Raises:
        StoreUnavailable: it is gone, or another user's.
    """
    try:
        password = read_password(folder)
    except OSError as error:
        raise _no_password(folder, error.strerror) from error
    if password is None and _known(folder).get("closed"):
        raise _no_password(folder, "no file of that name")
    return uri_at(port, password)


def _no_password(folder: Path, found: str | None) -> StoreUnavailable:
    return StoreUnavailable(
        "The password of the embedded MongoDB can't be read",
        file=folder / "password",
        found=found,
        next_step="give the command as the user whom Kraken runs as. If the file was lost, end "
        "`kraken up` and start it again: it makes a new one, and no data is lost.",
    )


def _start_closed(folder: Path, port: int) -> "subprocess.Popen[bytes]":
    """Starts the server so that it asks for the password; makes that where there is none."""
    if read_password(folder) is None:
        _make_user(folder)
    options = ["--auth", "--log-level", "WARNING"]
    for last in (False, True):
        process = _start(folder, port, options, lambda: says_hello(uri_at(port, None)))
        try:
            if lets_in(uri_of(folder, port)):
                return process
        except PyMongoError as error:
            _stop(process, port)
            raise _does_not_come_up(folder, f"it does not tell who may enter: {error}") from error
        _stop(
            process, port
        )  # the password is of other data: a folder that was put together by hand
        if not last:
            _make_user(folder)
    raise _does_not_come_up(folder, "it has not kept the password that it was given")


def _make_user(folder: Path) -> None:
    """By a server that lets in nobody but us; only what it has kept is written down."""
    password, port = new_password(), free_port()
    uri = uri_at(port, None)
    with certificate(folder) as pem:
        key, ours = str(pem), {"tls": True, "tlsCAFile": str(pem)}
        ours["tlsCertificateKeyFile"] = key
        # Its warnings would be about us, who knock before we say hello.
        options = ["--tls-require-client-cert", "--log-level", "ERROR", "--tls-ca-file", key]
        options += ["--tls-cert-file", key, "--tls-key-file", key]
        process = _start(folder, port, options, lambda: says_hello(uri, **ours))
        try:
            set_user(uri, password, **ours)
        except PyMongoError as error:
            raise _does_not_come_up(folder, f"it takes no password: {error}") from error
        finally:
            _stop(process, port)
    write_password(folder, password)


def _start(
    folder: Path, port: int, options: Sequence[str], is_ready: Callable[[], bool]
) -> "subprocess.Popen[bytes]":
    # Without a file of its own it takes one from the working directory, whoever has put it there.
    settings = folder / "secantusd.toml"
    settings.write_text("")
    command = [
        *(_program(), "--config", str(settings)),
        *("--standalone", "--host", LOOPBACK, "--port", str(port)),
        *("--storage-path", str(folder / "data"), *options),
    ]
    with (folder / "server.log").open("ab") as log:
        said_before = log.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            umask=PRIVATE_UMASK,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - no threads' locks are touched in it
        )
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            said = _last_line(folder / "server.log", said_before)
            raise _does_not_come_up(folder, f"it ended with {process.returncode}: {said}")
        # Not the port only: a SIGTERM before the first answer is lost on the server now and then.
        if accepts(port) and is_ready():
            return process
        time.sleep(0.05)
    process.kill()
    process.wait()
    said = _last_line(folder / "server.log", said_before)
    raise _does_not_come_up(folder, f"no answer within {_START_TIMEOUT_S:.0f} s: {said}")


def _stop(process: "subprocess.Popen[bytes]", port: int) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            process.wait(_WAKE_EVERY_S)
        except subprocess.TimeoutExpired:
            accepts(port)  # it ends only when somebody knocks, or after two seconds
        else:
            return
    process.kill()
    process.wait()


def _does_not_come_up(folder: Path, found: str) -> StoreUnavailable:
    free = shutil.disk_usage(folder).free
    if free < _NEEDS_BYTES:  # which it says nowhere: its log is on the same disk
        return StoreUnavailable(
            "The embedded MongoDB server does not come up, as its disk is full",
            file=folder,
            expected=f"{_NEEDS_BYTES} bytes free at least",
            found=f"{free}; {found}",
            next_step="free some; what waits goes on then.",
        )
    return StoreUnavailable(
        "The embedded MongoDB server does not come up",
        file=folder,
        found=found,
        next_step=f"try it again, read {folder / 'server.log'}, or set `mongodb.uri` to a real "
        "MongoDB.",
    )


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


def _known(folder: Path) -> dict[str, Any]:
    """What the one who started the server has left: `port`, `pid`, and whether it is `closed`.

    Nothing where one of the numbers is missing.
    """
    try:
        found = json.loads((folder / "server.json").read_text())
        return {**found, "port": int(found["port"]), "pid": int(found["pid"])}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {}


def _answers(port: int, known: Mapping[str, Any]) -> bool:
    """Whether our server listens there: the process that was recorded lives, and accepts."""
    try:
        os.kill(known["pid"], 0)
    except OSError:
        return False
    return accepts(port)


def _last_line(path: Path, start: int) -> str:
    """The last of what was written to the log since it had `start` bytes."""
    lines = path.read_bytes()[start:].decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "nothing in its log"
