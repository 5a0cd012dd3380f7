"""The password of the embedded MongoDB server, and the user that has it.

It is made by chance, stands in the server's folder in a file that only Kraken's user can read, and
is in no command line, environment or log. A server that asks for passwords makes no users for
strangers, so the user is made by one that asks for none, and lets in who has a certificate that was
made a moment before, and nobody else.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError

from kraken_dagster.fs.processes.child_processes import LOOPBACK

USER = "kraken"
_PASSWORD = "password"  # noqa: S105 - the file's name
_MECHANISM = "SCRAM-SHA-256"
_AUTHENTICATION_FAILED = 18  # MongoDB's code
_TIMEOUT_MS = 60_000  # a busy machine's server has just begun
_HELLO_TIMEOUT_MS = 5000  # it is said again and again


def read_password(folder: Path) -> str | None:
    """None where there is none, or nothing that we have written."""
    with suppress(FileNotFoundError, UnicodeDecodeError):
        return (folder / _PASSWORD).read_text(encoding="ascii").strip() or None
    return None


def write_password(folder: Path, password: str) -> None:
    """Whole or not at all, and readable to nobody else from its first byte on."""
    part = folder / f"{_PASSWORD}.part"
    _write_private(part, f"{password}\n".encode())
    part.replace(folder / _PASSWORD)


def new_password() -> str:
    return secrets.token_hex(32)  # nothing that needs an escape in a URI


def uri_at(port: int, password: str | None) -> str:
    """The server's URI; without a password, of an older Kraken's server, which asks for none."""
    if password is None:
        return f"mongodb://{LOOPBACK}:{port}/"
    # The mechanism is named, so that who took the port can't ask for a weaker one.
    options = f"authSource=admin&authMechanism={_MECHANISM}"
    return f"mongodb://{USER}:{password}@{LOOPBACK}:{port}/?{options}"


def says_hello(uri: str, **options: Any) -> bool:
    """Whether a server answers there; that needs no password."""
    with _client(uri, _HELLO_TIMEOUT_MS, **options) as client:
        try:
            client.admin.command("hello")
        except PyMongoError:
            return False
    return True


def lets_in(uri: str) -> bool:
    """Whether the user and the password of the URI are the server's.

    Asked once more where no answer came: a server that has just come up may reset a connection.

    Raises:
        PyMongoError: it gives no answer.
    """
    try:
        return _lets_in(uri)
    except AutoReconnect:
        return _lets_in(uri)


def _lets_in(uri: str) -> bool:
    with _client(uri) as client:
        try:
            client.admin.command("usersInfo", 1)
        except OperationFailure as error:
            if error.code == _AUTHENTICATION_FAILED:
                return False
            raise
    return True


def set_user(uri: str, password: str, **options: Any) -> None:
    """Makes Kraken's user, or gives it this password; takes away everybody else.

    Where the server was open until now, anybody may have made a user to come back by.

    Raises:
        PyMongoError
    """
    facts: dict[str, Any] = {"pwd": password, "roles": ["root"], "mechanisms": [_MECHANISM]}
    with _client(uri, **options) as client:
        for found in client.admin["system.users"].find():
            client[found["db"]].command("dropUser", found["user"])
        client.admin.command("createUser", USER, **facts)


def _client(
    uri: str, timeout_ms: int = _TIMEOUT_MS, **options: Any
) -> "MongoClient[dict[str, Any]]":
    return MongoClient(uri, serverSelectionTimeoutMS=timeout_ms, **options)


@contextmanager
def certificate(folder: Path) -> Iterator[Path]:
    """A certificate and its key in one file, for a server and its only client; gone afterwards."""
    path = folder / "first_start.pem"
    path.unlink(missing_ok=True)
    _write_private(path, _key_and_certificate())
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _key_and_certificate() -> bytes:
    # A server that has its password is started without these, which take a while to load.
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, USER)])
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address(LOOPBACK))])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    return key.private_bytes(
        encoding, serialization.PrivateFormat.PKCS8, plain
    ) + made.public_bytes(encoding)


def _write_private(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(handle)
