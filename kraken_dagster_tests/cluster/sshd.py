"""A private SSH server for tests, with keys of its own; no tests in here."""

import os
import pwd
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kraken_dagster.engines.ssh import HeadNode, Login
from kraken_dagster.fs.processes.child_processes import die_with_parent, free_port
from kraken_dagster_tests.backup.copying.copying_cases import unavailable
from kraken_dagster_tests.support.helpers import wait_until

HOST = "127.0.0.1"
USER = pwd.getpwuid(os.geteuid()).pw_name
_PROGRAM = Path("/usr/sbin/sshd")
# Every command that the server runs has this in its environment.
_MARK = "KRAKEN_TEST_SSHD"


class Sshd:
    """Serves the user who runs the tests, on a port of this machine only."""

    def __init__(self, folder: Path, *options: str) -> None:
        if not _PROGRAM.exists():
            unavailable(f"no {_PROGRAM}: install openssh-server")
        self.folder = folder
        self.port = free_port()
        self.key = make_key(folder / "client_key")
        self.known_hosts = folder / "known_hosts"
        self._options = options
        self._log = folder / "sshd.log"
        self._server: subprocess.Popen[bytes] | None = None
        shutil.copy(folder / "client_key.pub", folder / "authorized_keys")
        self.change_host_key()
        self.trust()

    @property
    def head(self) -> HeadNode:
        return HeadNode(HOST, self.port)

    def login(self, *others: HeadNode, **changes: object) -> Login:
        """How to log in; `others` are head nodes that are asked first."""
        fields = {"user": USER, "key_file": self.key, "known_hosts": self.known_hosts}
        return Login(heads=(*others, self.head), **{**fields, **changes})

    def start(self) -> None:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        config = self.folder / "sshd_config"
        lines = (
            *self._options,
            f"Port {self.port}",
            f"ListenAddress {HOST}",
            f"HostKey {self.folder / 'host_key'}",
            f"AuthorizedKeysFile {self.folder / 'authorized_keys'}",
            "PidFile none",
            "UsePAM no",
            "StrictModes no",
            "PermitRootLogin yes",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "LogLevel VERBOSE",
            # A HOME without anybody's .bashrc.
            f"SetEnv {_MARK}={self.folder} HOME={self.folder}",
        )
        config.write_text("".join(f"{line}\n" for line in lines))
        self._log.write_text("")
        self._server = subprocess.Popen(
            [_PROGRAM, "-D", "-f", config, "-E", self._log],
            preexec_fn=die_with_parent,  # noqa: PLW1509 - does one system call
        )
        wait_until(lambda: "Server listening on" in self.log(), "sshd listens")

    def stop(self) -> None:
        """Ends the server, its sessions and the commands that they ran."""
        if self._server is not None:
            self._server.send_signal(signal.SIGSTOP)  # it starts no more
            for pid in [*_descendants(self._server.pid), *self._commands()]:
                _signal(pid, signal.SIGKILL)
            self._server.kill()
            self._server.wait()
            self._server = None

    def change_host_key(self) -> None:
        """The next start shows another key."""
        (self.folder / "host_key").unlink(missing_ok=True)
        make_key(self.folder / "host_key")

    def trust(self) -> None:
        """Writes the file of known hosts, with the key of now."""
        kind, key, *_ = (self.folder / "host_key.pub").read_text().split()
        self.known_hosts.write_text(f"[{HOST}]:{self.port} {kind} {key}\n")

    def fingerprint(self) -> str:
        """Of the host key, as ssh-keygen says."""
        command = ["ssh-keygen", "-l", "-f", self.folder / "host_key.pub"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[1]

    def kill_sessions(self) -> None:
        """Ends the connections; the commands that they ran go on."""
        assert self._server is not None
        for pid in _children(self._server.pid):
            _signal(pid, signal.SIGKILL)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Nothing of the server moves; its port still takes connections."""
        assert self._server is not None
        self._server.send_signal(signal.SIGSTOP)
        stopped = [*_descendants(self._server.pid), self._server.pid]
        for pid in stopped:
            _signal(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in stopped:
                _signal(pid, signal.SIGCONT)

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def connections_made(self) -> int:
        """How often somebody has logged in since the last start."""
        return len(re.findall(r"^Accepted publickey ", self.log(), re.MULTILINE))

    def _commands(self) -> list[int]:
        mark = f"{_MARK}={self.folder}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):  # it has ended meanwhile, or is somebody else's
                if mark in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
        return found


def make_key(path: Path, *, kind: str = "ed25519", passphrase: str = "") -> Path:
    command = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", str(path)]
    subprocess.run(command, check=True)
    return path


def _children(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(path.read_text().rpartition(") ")[2].split()[1]) == parent:
                found.append(int(path.parent.name))
    return found


def _descendants(parent: int) -> list[int]:
    return [pid for child in _children(parent) for pid in (child, *_descendants(child))]


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
