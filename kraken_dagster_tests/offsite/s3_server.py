"""A real S3 server for tests, Ceph's radosgw, and a line to it that can be disturbed."""

import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from kraken_dagster.fs.processes.child_processes import free_port

# One server for all of these, and so one worker.
NEEDS_S3 = [pytest.mark.xdist_group("s3"), pytest.mark.timeout(300)]
SCRIPTS = Path(__file__).parents[1] / "radosgw"
USER, SECRET = "kraken", "kraken-secret"
MIB = 1024 * 1024


@dataclass(frozen=True)
class Server:
    port: int

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> Any:
        """Somebody else's client, with all rights."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=USER,
            aws_secret_access_key=SECRET,
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
        )

    def make_bucket(self, name: str, *, versions: bool = True, lock: bool = False) -> str:
        client = self.client()
        client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=lock)
        if versions and not lock:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name


def running(folder: Path) -> Iterator[Server]:
    """The server, while the caller goes on.

    A port that was free may be taken when it is needed, so others are tried.
    """
    for attempt in range(3):
        place = folder / str(attempt)
        try:
            port = free_port()
            if _starts(place, port, free_port()):
                yield Server(port)
                return
        finally:
            subprocess.run([SCRIPTS / "stop.sh", place], check=True, timeout=60)
    raise AssertionError(f"radosgw doesn't start; see the logs in {folder}")


def _starts(folder: Path, port: int, monitor_port: int) -> bool:
    started = subprocess.run(
        [SCRIPTS / "start.sh", folder, str(port), str(monitor_port)],
        check=False,
        timeout=180,
        env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return started.returncode == 0


@dataclass
class Line:
    """Passes connections on to the server, or disturbs them as `mode` says.

    `cut` ends a connection after `after_bytes`; `busy` answers 503 SlowDown; `hang` says nothing.
    With `tls` it speaks HTTPS to those who connect.
    """

    target: int
    mode: str = "through"
    after_bytes: int = 3 * MIB
    slow: bool = False
    disturbed: int = 0
    tls: ssl.SSLContext | None = None
    port: int = 0
    _socket: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.listen(100)
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                accepted, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(accepted,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with plain, suppress(OSError):
            self._talk(plain)

    def _talk(self, plain: socket.socket) -> None:
        with (
            plain if self.tls is None else self.tls.wrap_socket(plain, server_side=True) as accepted
        ):
            if self.mode == "busy":
                self.disturbed += 1
                self._say_busy(accepted)
                return
            if self.mode == "hang":
                self.disturbed += 1
                accepted.recv(65536)
                time.sleep(5)
                return
            with socket.create_connection(("127.0.0.1", self.target)) as server:
                back = threading.Thread(target=self._pump, args=(server, accepted), daemon=True)
                back.start()
                self._pump(accepted, server, bound=True)
                back.join(5)

    def _say_busy(self, accepted: socket.socket) -> None:
        accepted.recv(65536)
        body = b"<Error><Code>SlowDown</Code><Message>Please reduce your rate.</Message></Error>"
        head = (
            b"HTTP/1.1 503 Slow Down\r\nConnection: close\r\nContent-Type: application/xml\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body)
        )
        accepted.sendall(head + body)
        accepted.settimeout(1)
        while accepted.recv(65536):  # what was under way, or the answer is lost with a reset
            pass

    def _pump(self, source: socket.socket, sink: socket.socket, *, bound: bool = False) -> None:
        passed = 0
        with suppress(OSError):
            while content := source.recv(65536):
                passed += len(content)
                sink.sendall(content)
                if bound and self.slow:
                    time.sleep(0.01)
                if bound and self.mode == "cut" and passed > self.after_bytes:
                    self.disturbed += 1
                    break
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
