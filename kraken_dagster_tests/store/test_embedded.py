"""The embedded MongoDB server, run for real: found, ended, killed and started again."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest

from kraken_dagster.fs.processes.child_processes import accepts
from kraken_dagster.model.errors import StoreUnavailable
from kraken_dagster.store.connection import connect
from kraken_dagster.store.embedded import server as embedded
from kraken_dagster.store.embedded.server import EmbeddedServer, ensure_running
from kraken_dagster_tests.support.helpers import record, wait_until

STARTER = """
import sys
from pathlib import Path
from kraken_dagster.store.embedded.server import ensure_running
server = ensure_running(Path(sys.argv[1]))
print(server.port, server.process.pid if server.process else None, flush=True)
sys.stdin.read()
"""


@contextmanager
def running(folder: Path) -> Iterator[EmbeddedServer]:
    server = ensure_running(folder)
    try:
        yield server
    finally:
        if server.process is not None:
            server.process.kill()
            server.process.wait()


@contextmanager
def starter(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that wants the server of `folder`, and ends when its stdin does."""
    command = [sys.executable, "-c", STARTER, str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def reported(child: "subprocess.Popen[str]") -> tuple[int, int | None]:
    """The port that the process got, and the id of the server if that process started it."""
    port, pid = child.stdout.readline().split()
    return int(port), None if pid == "None" else int(pid)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a server that has run and has its password."""
    folder = tmp_path_factory.mktemp("mongodb")
    with running(folder):
        return folder


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_who_comes_second_finds_the_first_ones_server(tmp_path):
    with running(tmp_path) as first:
        assert first.process is not None
        second = ensure_running(tmp_path)
        assert (second.uri, second.process) == (first.uri, None)


def test_a_server_is_only_stopped_by_who_started_it(tmp_path):
    with running(tmp_path) as first:
        store = connect(first.uri)
        store.prepare()
        ensure_running(tmp_path).stop()
        assert accepts(first.port)
        first.stop()
        store.close()
        assert not accepts(first.port)
        first.stop()  # once more does no harm


def test_of_processes_that_start_at_once_exactly_one_starts_the_server(tmp_path):
    with starter(tmp_path) as one, starter(tmp_path) as two, starter(tmp_path) as three:
        found = [reported(child) for child in (one, two, three)]
    assert len({port for port, _ in found}) == 1
    assert sum(pid is not None for _, pid in found) == 1


@pytest.mark.parametrize("end", ["by itself", "killed"])
def test_the_server_ends_with_the_process_that_started_it(tmp_path, end):
    with starter(tmp_path) as child:
        port, pid = reported(child)
        assert accepts(port)
        if end == "killed":
            child.kill()
        else:
            child.stdin.close()
        child.wait()
        wait_until(lambda: is_gone(pid) and not accepts(port), "the server is gone")


def test_after_a_kill_the_port_is_the_same_and_every_acknowledged_write_is_there(tmp_path):
    with running(tmp_path) as first:
        store = connect(first.uri, timeout_s=1)
        acknowledged: list[str] = []
        enough = Event()

        def write(writer: int) -> None:
            try:
                for number in range(100_000):
                    name = f"{writer}-{number}.raw"
                    store.raw_files.register(record(name), reason="discovered")
                    acknowledged.append(name)
                    if len(acknowledged) >= 400:
                        enough.set()
            except StoreUnavailable:
                return

        writers = [Thread(target=write, args=(writer,)) for writer in range(4)]
        for thread in writers:
            thread.start()
        enough.wait(60)
        first.process.kill()
        first.process.wait()
        for thread in writers:
            thread.join()
    with running(tmp_path) as again:
        assert again.uri == first.uri
        assert again.process is not None
        # the same client finds it again by itself
        found = store.raw_files.known("thermo1", acknowledged)
        store.close()
    assert len(acknowledged) >= 400
    assert set(acknowledged) <= set(found)


@pytest.mark.parametrize(
    "left",
    [
        "",
        '{"port": 1',
        "[]",
        '{"port": null}',
        '{"port": 1, "pid": 999999999}',
        pytest.param(f'{{"port": 1, "pid": {os.getpid()}}}', id="a process that runs"),
    ],
)
def test_what_an_earlier_server_left_is_no_obstacle(home, left):
    (home / "server.json").write_text(left)
    with running(home) as server:
        assert server.process is not None
        assert ensure_running(home).uri == server.uri


def test_a_port_that_somebody_else_took_meanwhile_is_left_to_them(home):
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        port = somebody.getsockname()[1]
        (home / "server.json").write_text(json.dumps({"port": port, "pid": 999999999}))
        with running(home) as server:
            assert server.process is not None
            assert server.port != port


def test_who_wants_the_server_while_it_is_stopped_gets_a_new_one(home, monkeypatch):
    stopping = Event()
    stop = embedded._stop

    def told_before(*arguments):
        stopping.set()
        stop(*arguments)

    with running(home) as first:
        monkeypatch.setattr(embedded, "_stop", told_before)
        ending = Thread(target=first.stop)
        ending.start()
        assert stopping.wait(60)
        with running(home) as second:
            ending.join()
            assert second.process is not None
            with closing(connect(second.uri)) as store:
                store.prepare()


def test_a_first_start_leaves_nothing_in_the_log(home):
    """Or its last line is what people are told when a later start fails for another reason."""
    assert (home / "server.log").read_text() == ""


def test_a_server_that_does_not_come_up_is_told_with_its_log(tmp_path):
    (tmp_path / "data").write_text("a file where the server's folder should be")
    reported = r"does not come up.*it ended with 1: .*data.*server\.log"
    with pytest.raises(StoreUnavailable, match=reported):
        ensure_running(tmp_path)


def test_a_server_that_gives_no_answer_is_told_with_how_long_it_was_waited_for(
    tmp_path, monkeypatch
):
    program = tmp_path / "mute"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr(embedded, "_program", lambda: str(program))
    monkeypatch.setattr(embedded, "_START_TIMEOUT_S", 0.1)
    (tmp_path / "server.log").write_text("of an earlier start\n")
    with pytest.raises(StoreUnavailable, match=r"no answer within 0 s: nothing in its log"):
        ensure_running(tmp_path)


def test_a_program_that_is_not_installed_is_told_with_what_to_install(tmp_path):
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    environment = {"PATH": "", "PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run(
        [python, "-c", STARTER, tmp_path / "home"], env=environment, capture_output=True, text=True
    )
    assert found.returncode != 0
    assert "StoreUnavailable: No MongoDB is configured" in found.stderr
    assert "pip install 'kraken-dagster[embedded]'" in found.stderr
