"""The embedded server's door: who has no password, a wrong one, or comes while it is put up."""

import json
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pymongo
import pytest
from click.testing import CliRunner
from pymongo.errors import PyMongoError

from kraken_dagster.cli.main import main
from kraken_dagster.fs.processes.child_processes import accepts, free_port
from kraken_dagster.model.errors import StoreUnavailable
from kraken_dagster.store.connection import connect
from kraken_dagster.store.embedded import server as embedded
from kraken_dagster.store.embedded.door import Door, tried
from kraken_dagster.store.embedded.password import lets_in, read_password, uri_at
from kraken_dagster.store.embedded.server import EmbeddedServer, ensure_running
from kraken_dagster_tests.support.helpers import database_uri, record, wait_until, write_config
from kraken_dagster_tests.support.strangers import (
    NEEDS_ROOT,
    as_stranger,
    folder_for_all,
    readable_to_strangers,
)

# All that a stranger tries, with each user that he can think of; prints what worked.
BURGLE = """
uri, password = sys.argv[1:]
tries = {
    "read": lambda c: c.krakendb.raw_file.find_one(),
    "insert": lambda c: c.krakendb.settings.insert_one({"software": "sh"}),
    "delete": lambda c: c.krakendb.raw_file.delete_many({}),
    "list": lambda c: c.list_database_names(),
    "make a user": lambda c: c.admin.command("createUser", "evil", pwd="x", roles=["root"]),
    "see users": lambda c: list(c.admin["system.users"].find()),
    "log": lambda c: c.admin.command("getLog", "global"),
}
for user in ({}, {"username": "kraken", "password": password}):
    for name, one in tries.items():
        with pymongo.MongoClient(uri, serverSelectionTimeoutMS=5000, **user) as client:
            try:
                one(client)
                print(name)
            except pymongo.errors.PyMongoError:
                pass
"""


@contextmanager
def running(folder: Path) -> Iterator[EmbeddedServer]:
    server = ensure_running(folder)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def open_server(folder: Path) -> Iterator[str]:
    """As an older Kraken started it: it asks nobody for a password. Its URI."""
    port = free_port()
    command = ["--standalone", "--port", str(port), "--storage-path", str(folder / "data")]
    with subprocess.Popen([embedded._program(), *command, "--log-level", "ERROR"]) as process:
        wait_until(lambda: accepts(port), "it listens")
        (folder / "server.json").write_text(f'{{"port": {port}, "pid": {process.pid}}}')
        try:
            yield f"mongodb://127.0.0.1:{port}/"
        finally:
            process.kill()  # a SIGTERM just after the start is lost now and then


@NEEDS_ROOT
def test_a_stranger_can_neither_read_nor_write() -> None:
    with folder_for_all() as folder, running(folder / "mongodb") as server:
        with closing(connect(server.uri)) as store:
            store.raw_files.register(record("x.raw"), reason="discovered")
            uri = f"mongodb://127.0.0.1:{server.port}/"
            assert as_stranger(BURGLE, uri, "a guess") == ""
            assert store.raw_files.get("x.raw").id == "x.raw"
            password = read_password(folder / "mongodb")
            assert "delete" in as_stranger(BURGLE, uri, password or "")
        assert readable_to_strangers(folder) == [str(folder)]


def test_the_password_is_in_no_command_line_environment_or_log(tmp_path: Path) -> None:
    folder = tmp_path / "mongodb"
    with running(folder) as server:
        password = read_password(folder)
        assert password is not None
        assert len(password) >= 32
        connect(server.uri).prepare()
        assert server.process is not None
        process = Path(f"/proc/{server.process.pid}")
        reported = (
            process.joinpath("cmdline").read_bytes() + process.joinpath("environ").read_bytes()
        )
        assert b"--auth" in reported
        assert password.encode() not in reported
        assert password not in repr(server)
        files = [path for path in folder.iterdir() if path.is_file() and path.name != "password"]
        assert [path.name for path in files if password in path.read_text()] == []
        assert not list(folder.glob("*.pem"))
    assert (folder / "password").stat().st_mode & 0o777 == 0o600


def test_what_an_older_kraken_kept_is_there_and_closed_and_its_intruders_are_out(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "mongodb"
    folder.mkdir(mode=0o755)
    with open_server(folder) as uri, closing(connect(uri)) as store:
        store.prepare()
        store.raw_files.register(record("x.raw"), reason="discovered")
        with pymongo.MongoClient[dict[str, Any]](uri) as client:
            for name in ("admin", "krakendb"):
                roles = [{"role": "root", "db": "admin"}]
                client[name].command("createUser", "evil", pwd="x", roles=roles)
    with running(folder) as server:
        with closing(connect(server.uri)) as store:
            assert store.raw_files.get("x.raw").id == "x.raw"
        for database in ("admin", "krakendb"):
            evil = f"mongodb://evil:x@127.0.0.1:{server.port}/?authSource={database}"
            assert not _reads(evil)
    modes = {path.stat().st_mode & 0o077 for path in (folder, *(folder / "data").iterdir())}
    assert modes == {0}


def test_an_open_server_of_an_older_kraken_that_runs_is_used_until_it_ends(tmp_path: Path) -> None:
    folder = tmp_path / "mongodb"
    folder.mkdir()
    with open_server(folder) as uri:
        wait_until(lambda: _reads(uri), "it answers")
        found = ensure_running(folder)
        assert (found.uri, found.process) == (uri, None)


@pytest.mark.parametrize("lost", ["lost", "of other data", "no password"])
def test_a_password_that_does_not_fit_is_made_anew_and_no_data_is_lost(
    tmp_path: Path, lost: str
) -> None:
    with running(tmp_path) as server, closing(connect(server.uri)) as store:
        store.raw_files.register(record("x.raw"), reason="discovered")
    old, path = read_password(tmp_path), tmp_path / "password"
    if lost == "lost":
        path.unlink()
    else:
        path.write_bytes({"of other data": b"0" * 64, "no password": b"\xff\xfe"}[lost])
    with running(tmp_path) as server:
        with closing(connect(server.uri)) as store:
            assert store.raw_files.get("x.raw").id == "x.raw"
        assert read_password(tmp_path) not in (old, None)
        assert not _reads(uri_at(server.port, old))


def test_a_password_that_is_lost_while_the_server_runs_is_told_with_what_to_do(
    tmp_path: Path,
) -> None:
    with running(tmp_path):
        (tmp_path / "password").unlink()
        with pytest.raises(StoreUnavailable, match=r"password.*can't be read.*start it again"):
            ensure_running(tmp_path)


def test_nobody_gets_in_while_the_first_password_is_made(tmp_path: Path) -> None:
    """Everything that listens meanwhile is tried by a client without password or certificate."""
    tried: list[bool] = []
    kept = embedded.set_user

    def tried_before(uri: str, password: str, **options: Any) -> None:
        tried.append(_reads(uri))
        tried.append(_reads(f"{uri}?tls=true&tlsInsecure=true"))
        kept(uri, password, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded, "set_user", tried_before)
        with running(tmp_path):
            pass
    assert tried == [False, False]


def test_a_stranger_settings_file_in_the_working_directory_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secantusd.toml").write_text('[tls]\ncert_file = "/nowhere"\nkey_file = "/nowhere"')
    monkeypatch.chdir(tmp_path)
    with running(tmp_path / "mongodb") as server:
        assert _reads(server.uri)


def test_a_stranger_is_told_from_who_has_the_password(server_uri: str, tmp_path: Path) -> None:
    assert tried(server_uri) is Door.CLOSED
    assert tried(database_uri(server_uri, "nothing_there")) is Door.CLOSED
    assert tried(f"mongodb://127.0.0.1:{free_port()}/?connectTimeoutMS=1") is Door.SILENT
    with open_server(tmp_path) as uri:
        assert tried(uri) is Door.OPEN
        assert tried(uri.replace("//", "//kraken:secret@") + "x?authSource=admin") is Door.OPEN


@pytest.mark.parametrize(
    ("named", "level", "reported"),
    [(True, "warning", "switch access control on"), (False, "error", "start it again")],
)
def test_doctor_says_that_the_door_is_open(
    tmp_path: Path, named: bool, level: str, reported: str
) -> None:
    home = tmp_path / "home"
    (home / "mongodb").mkdir(parents=True)
    with open_server(home / "mongodb") as uri:
        wait_until(lambda: _reads(uri), "it answers")
        path = write_config(tmp_path, uri if named else "", home=str(home))
        command = ["--config", str(path), "doctor", "--json"]
        found = json.loads(CliRunner().invoke(main, command).stdout)
    [finding] = [item for item in found if item["what"] == "access to MongoDB"]
    assert finding["level"] == level
    assert "without a password" in finding["found"]
    assert reported in finding["found"]


def _reads(uri: str) -> bool:
    with (
        suppress(PyMongoError),
        pymongo.MongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=500) as client,
    ):
        client.krakendb.raw_file.find_one()
        return True
    return False


def _relay(listener: socket.socket, port: int) -> None:
    """Passes on what is asked; the first connection that asks for users is reset."""
    reset = Event()
    with suppress(OSError):
        while True:
            asked, _ = listener.accept()
            answered = socket.create_connection(("127.0.0.1", port))
            for one, other in ((asked, answered), (answered, asked)):
                Thread(target=_pass_on, args=(one, other, reset), daemon=True).start()


def _pass_on(one: socket.socket, other: socket.socket, reset: Event) -> None:
    with suppress(OSError), one, other:
        while said := one.recv(1 << 16):
            if b"usersInfo" in said and not reset.is_set():
                reset.set()
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            other.sendall(said)


def test_a_connection_that_a_new_server_resets_is_no_answer(tmp_path: Path) -> None:
    with (
        running(tmp_path / "home") as server,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        Thread(target=_relay, args=(listener, server.port), daemon=True).start()
        password = read_password(tmp_path / "home")
        assert lets_in(uri_at(listener.getsockname()[1], password))
