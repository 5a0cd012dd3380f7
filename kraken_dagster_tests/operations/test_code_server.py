"""The code server as a process: it loads the definitions anew, keeps what works, and lives on."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml

from kraken_dagster.config.loader import CONFIG_VARIABLE
from kraken_dagster.dagit.workspace import Workspace
from kraken_dagster.model.errors import ConfigError
from kraken_dagster.monitoring.loaded import CODE_SERVER, PROCESS_VARIABLE, loaded_now
from kraken_dagster.operations.code_server.place import CodeServerPlace, prepare, socket_of
from kraken_dagster.operations.code_server.reload import load_anew
from kraken_dagster.orchestration.dagster_internals import (
    DagsterGrpcClient,
    WorkspaceOpts,
    sync_list_repositories_grpc,
    workspace_opts_to_load_target,
)
from kraken_dagster.runtime.homes import DAGSTER_HOME
from kraken_dagster.runtime.open_store import HOME_VARIABLE
from kraken_dagster_tests.support.helpers import wait_until
from kraken_dagster_tests.support.laboratory import PATIENCE_S

pytestmark = pytest.mark.timeout(900)  # a guard against hanging
SHIPPED = Path(__file__).resolve().parents[2] / "workspace.yaml"


class Server:
    def __init__(self, home: Path, place: CodeServerPlace) -> None:
        self.home, self.place = home, place
        self.client = DagsterGrpcClient(socket=str(place.socket))

    @property
    def config(self) -> Path:
        return self.home / "instruments.yaml"

    def instruments(self) -> list[str]:
        """As the code server reports them."""
        return [name for item in loaded_now(self.home, []) for name in item.instruments]

    def child(self) -> int:
        [known] = loaded_now(self.home, [])
        return known.pid


def write(home: Path, *instruments: str, vendor: str = "thermo") -> None:
    values = {
        "home": ".",
        "locations": {name: str(home / name) for name in ("instruments", "backup", "output")},
        "instruments": {name: {"type": vendor} for name in instruments},
    }
    (home / "instruments.yaml").write_text(yaml.safe_dump(values))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("code_server")
    write(home, "one1")
    place = prepare(home, SHIPPED)
    assert place is not None
    (home / "dagster").mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("KRAKEN", "DAGSTER"))}
    ours = {
        DAGSTER_HOME: str(home / "dagster"),
        CONFIG_VARIABLE: str(home / "instruments.yaml"),
        HOME_VARIABLE: str(home),
        PROCESS_VARIABLE: CODE_SERVER,
    }
    found = Server(home, place)
    with subprocess.Popen(place.command(), env={**kept, **ours, **place.environment()}) as process:
        try:
            wait_until(place.answers, "it listens", timeout_s=PATIENCE_S)
            yield found
        finally:
            process.terminate()
            process.wait(PATIENCE_S)
    pid = found.child() if found.instruments() else 0
    gone = Path(f"/proc/{pid}")
    wait_until(lambda: not gone.exists(), "its child has ended too", timeout_s=PATIENCE_S)


def test_a_change_is_loaded_and_a_mistake_leaves_what_works(server: Server) -> None:
    first, pid = server.client.get_server_id(), server.child()
    assert server.instruments() == ["one1"]
    write(server.home, "one1", "two1")
    load_anew(server.place.socket)
    second = server.client.get_server_id()
    assert second != first
    assert server.child() != pid
    assert server.instruments() == ["one1", "two1"]
    good = server.config.read_text()

    server.config.write_text(good.replace("type: thermo", "type: termo"))
    with pytest.raises(ConfigError, match=r"key 'instruments.one1.type': Input should be") as told:
        load_anew(server.place.socket)
    assert "what was loaded before goes on" in str(told.value)
    assert "kraken_dagster.model" not in str(told.value)
    assert server.client.get_server_id() == second
    sync_list_repositories_grpc(server.client)  # would raise the error
    [known] = loaded_now(server.home, [])
    assert (known.instruments, known.stands) == (["one1", "two1"], False)
    assert "instruments.one1.type" in str(known.problem)
    # What its runs read, whatever stands in the file by now.
    copy = server.home / "loaded" / f"{CODE_SERVER}-{known.pid}.yaml"
    assert copy.read_text() == good
    dagit_says_it(server)
    server.config.write_text(good)


def dagit_says_it(server: Server) -> None:
    """And shows what goes on once it has asked again."""
    target = workspace_opts_to_load_target(WorkspaceOpts(workspace=(str(server.place.workspace),)))
    with (
        dg.DagsterInstance.from_config(str(server.home / "dagster")) as instance,
        Workspace(instance, workspace_load_target=target) as dagit,
    ):
        assert dagit.has_code_location("kraken")
        with pytest.warns(UserWarning, match="FAILED_PRECONDITION"):  # into Dagit's own log
            dagit.reload_code_location("kraken")
        error = dagit.get_current_workspace().code_location_entries["kraken"].load_error
        assert "key 'instruments.one1.type': Input should be" in error.message
        assert "What was loaded before goes on" in error.message
        wait_until(lambda: dagit.has_code_location("kraken"), "it is back", timeout_s=PATIENCE_S)


def test_a_child_that_dies_is_replaced(server: Server) -> None:
    before, pid = server.client.get_server_id(), server.child()
    os.kill(pid, signal.SIGKILL)
    wait_until(
        lambda: server.client.get_server_id() != before, "another one serves", timeout_s=PATIENCE_S
    )
    assert server.child() != pid
    sync_list_repositories_grpc(server.client)


def test_the_workspace_leads_to_a_private_socket(tmp_path: Path) -> None:
    place = prepare(tmp_path / "home", SHIPPED)
    assert place is not None
    [entry] = yaml.safe_load(place.workspace.read_text())["load_from"]
    assert entry["grpc_server"] == {"socket": str(place.socket), "location_name": "kraken"}
    assert socket_of(tmp_path / "home") == place.socket
    assert place.folder.stat().st_mode & 0o077 == 0
    assert not place.answers()
    place.remove()
    assert socket_of(tmp_path / "home") is None


def test_a_home_with_a_long_path_has_its_socket_elsewhere(tmp_path: Path) -> None:
    place = prepare(tmp_path / ("long_" * 20), SHIPPED)
    assert place is not None
    try:
        assert len(os.fsencode(place.socket)) <= 100
        assert place.socket.parent.stat().st_mode & 0o077 == 0
    finally:
        place.remove()
    assert not place.socket.parent.exists()


@pytest.mark.parametrize(
    ("entries", "name"),
    [
        ([{"python_module": "kraken_dagster.definitions"}], "kraken_dagster.definitions"),
        ([{"python_module": {"module_name": "kraken_dagster.definitions"}}], "*"),
        ([{"python_module": "site.definitions"}], None),
        (
            [{"python_module": {"module_name": "kraken_dagster.definitions", "attribute": "x"}}],
            None,
        ),
        ([{"python_module": "kraken_dagster.definitions"}, {"python_module": "more"}], None),
        ([{"grpc_server": {"host": "10.0.0.11", "port": 4000, "location_name": "host_1"}}], None),
        (["nonsense"], None),
        (None, None),
    ],
)
def test_a_workspace_with_locations_of_the_site_s_is_left_to_dagster(
    tmp_path: Path, entries: object, name: str | None
) -> None:
    path = tmp_path / "workspace.yaml"
    path.write_text(yaml.safe_dump({"load_from": entries}))
    place = prepare(tmp_path / "home", path)
    if name is None:
        assert place is None
    else:
        assert place is not None
        assert place.location_name == "kraken_dagster.definitions"
