"""An S3 server that speaks HTTPS, with a certificate of its own, directly and through a proxy."""

import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kraken_dagster.model.errors import OffsiteRefused
from kraken_dagster.model.offsite import OffsiteStatus
from kraken_dagster.offsite.client import connect
from kraken_dagster.offsite.upload import upload_file
from kraken_dagster_tests.offsite.s3_server import MIB, NEEDS_S3, Line
from kraken_dagster_tests.retention.retention_cases import done
from kraken_dagster_tests.support.certificates import certificate

pytestmark = NEEDS_S3
SIZE = 6 * MIB  # two parts


def https(server, folder: Path, *, expires_in_days: float) -> Iterator[tuple[str, Path]]:
    path = folder / "s3.pem"
    key = certificate(path, expires=datetime.now(UTC) + timedelta(days=expires_in_days))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(path, key)
    line = Line(server.port, tls=tls)
    yield f"https://127.0.0.1:{line.port}", path
    line.close()


@pytest.fixture
def secure(server, tmp_path) -> Iterator[tuple[str, Path]]:
    """The server's address by HTTPS, and its certificate."""
    yield from https(server, tmp_path, expires_in_days=100)


@pytest.fixture
def expired(server, tmp_path) -> Iterator[tuple[str, Path]]:
    yield from https(server, tmp_path, expires_in_days=-1)


class _Tunnel(socketserver.StreamRequestHandler):
    """CONNECT as a proxy does it; any other request is refused, as a strict one does."""

    def handle(self) -> None:
        method, _, rest = self.rfile.readline().decode().partition(" ")
        while self.rfile.readline().strip():
            pass
        if method != "CONNECT":
            self.wfile.write(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n")
            return
        host, _, port = rest.split()[0].rpartition(":")
        assert isinstance(self.server, Proxy)
        self.server.asked.append(f"{host}:{port}")
        with socket.create_connection((host, int(port))) as there:
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_pump, args=(there, self.connection), daemon=True)
            back.start()
            _pump(self.connection, there)
            back.join(5)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while content := source.recv(65536):
            sink.sendall(content)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


class Proxy(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.asked: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with Proxy() as proxy:
        yield proxy
        proxy.shutdown()


def upload(services):
    return upload_file(services, connect(services.config.offsite), "x.raw", run_id="upload").state


def test_a_certificate_that_is_named_is_trusted(copying_to, bucket, secure):
    endpoint, path = secure
    services = copying_to(endpoint, bucket=bucket, ca_bundle=path)
    done(services, "thermo1", "x.raw", size_bytes=SIZE)
    assert upload(services).status is OffsiteStatus.DONE


def is_told_and_nothing_sent(services, server) -> None:
    done(services, "thermo1", "x.raw", size_bytes=SIZE)
    with pytest.raises(OffsiteRefused, match="certificate is not trusted") as caught:
        upload(services)
    assert "`offsite.ca_bundle`" in str(caught.value)
    bucket = services.config.offsite.bucket
    assert server.client().list_objects_v2(Bucket=bucket).get("Contents", []) == []
    after = services.store.raw_files.get("x.raw")
    assert (after.is_backed_up, after.offsite.status) == (True, OffsiteStatus.FAILED)


def test_one_that_nobody_named_is_not_trusted(copying_to, server, bucket, secure):
    is_told_and_nothing_sent(copying_to(secure[0], bucket=bucket), server)


def test_one_that_has_expired_is_not_trusted(copying_to, server, bucket, expired):
    endpoint, path = expired
    is_told_and_nothing_sent(copying_to(endpoint, bucket=bucket, ca_bundle=path), server)


def test_unchecked_certificates_are_taken_where_a_person_says_so(copying_to, bucket, secure):
    endpoint, _ = secure
    services = copying_to(endpoint, bucket=bucket, verify_tls=False)
    done(services, "thermo1", "x.raw")
    with pytest.warns(match="Unverified HTTPS request"):
        assert upload(services).status is OffsiteStatus.DONE


def test_through_a_proxy_the_server_is_reached_by_its_name(copying_to, bucket, secure, proxy):
    endpoint, path = secure
    services = copying_to(endpoint, bucket=bucket, ca_bundle=path, proxy=proxy.url)
    done(services, "thermo1", "x.raw", size_bytes=SIZE)
    assert upload(services).status is OffsiteStatus.DONE
    assert set(proxy.asked) == {endpoint.removeprefix("https://")}
