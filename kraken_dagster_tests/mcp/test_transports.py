"""The same answers by standard input and output, by HTTP and in this process; who is let in."""

import http.client
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import httpx2
import pytest
import uvicorn
from click.testing import CliRunner
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from kraken_dagster.cli import INTERRUPTED
from kraken_dagster.cli.main import main
from kraken_dagster.cli.operations import mcp as command
from kraken_dagster.config.dagit import Dagit, Place
from kraken_dagster.fs.processes.child_processes import free_port, is_free
from kraken_dagster.model.api_tokens import TokenScope
from kraken_dagster.operations.tokens import add_token, revoke_token
from kraken_dagster.runtime.services import Services
from kraken_dagster.web.mcp.serving import PATH, guarded
from kraken_dagster_tests.mcp.conftest import Laboratory, result_of
from kraken_dagster_tests.support.helpers import wait_until

ASKED = {"tool": "compare_runs", "files": ["thermo1_hela_020.raw", "thermo1_hela_039.raw"]}
RUN = "from kraken_dagster.cli import run; run()"


@contextmanager
def _served(services: Services, settings: Dagit | None = None) -> Iterator[str]:
    place = Place(settings or Dagit(), port=free_port(), name="The server")
    config = uvicorn.Config(
        guarded(services, place), port=place.port, log_level="error", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started, "the server listens")
        yield f"http://127.0.0.1:{place.port}{PATH}"
    finally:
        server.should_exit = True
        thread.join(30)


@pytest.fixture(scope="module")
def url(laboratory: Laboratory) -> Iterator[str]:
    with _served(laboratory.services) as url:
        yield url


def test_all_transports_give_the_same_answer(laboratory: Laboratory, url: str) -> None:
    words = ["-c", RUN, "--config", str(laboratory.path), "mcp"]
    by_stdio = stdio_client(StdioServerParameters(command=sys.executable, args=words))
    answers = [result_of(target, **ASKED) for target in (laboratory.server, by_stdio, url)]
    in_memory, *others = answers
    assert not in_memory.is_error
    for other in others:
        assert other.content == in_memory.content
        assert other.structured_content == in_memory.structured_content


def test_the_command_serves_http_until_it_is_ended(laboratory: Laboratory) -> None:
    port = free_port()
    words = ["--config", str(laboratory.path), "mcp", "--http", "--port", str(port)]
    with subprocess.Popen(
        [sys.executable, "-c", RUN, *words], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        try:
            wait_until(lambda: not is_free(port, "127.0.0.1"), "the server listens")
            found = result_of(f"http://127.0.0.1:{port}{PATH}", **ASKED)
            second = subprocess.run(
                [sys.executable, "-c", RUN, *words], capture_output=True, text=True, timeout=120
            )
        finally:
            process.terminate()
            process.wait(60)
        told = process.stderr.read()
    assert not found.is_error
    assert f"MCP: http://127.0.0.1:{port}{PATH}" in told
    assert "Traceback" not in told
    assert second.returncode == 1
    assert second.stderr.startswith("kraken: The server for assistants can't listen there")


def test_ctrl_c_ends_the_command_that_reads_standard_input(laboratory: Laboratory) -> None:
    words = ["--config", str(laboratory.path), "mcp"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", RUN, *words], stdin=pipe, stdout=pipe, stderr=pipe, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        process.stdin.write(json.dumps(ping) + "\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        try:
            code = process.wait(60)
        finally:
            process.kill()
        told = process.stderr.read()
    assert answer["id"] == 1
    assert (code, told.strip()) == (1, INTERRUPTED)


def test_without_its_package_the_command_says_what_to_install(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "find_spec", lambda _name: None)
    done = CliRunner().invoke(main, ["--config", str(laboratory.path), "mcp"])
    assert done.exit_code == 1
    assert "pip install 'kraken-dagster[mcp]'" in done.stderr


def _posted(url: str, path: str = PATH, method: str = "POST", **headers: str) -> tuple[int, Any]:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    connection = http.client.HTTPConnection(url.removeprefix("http://").partition("/")[0])
    given = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body=json.dumps(body), headers=given)
    with closing(connection):
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def test_a_foreign_name_page_path_method_or_token_is_refused(url: str) -> None:
    assert _posted(url)[0] == 200
    own = url.removesuffix(PATH)
    assert _posted(url, Origin=own)[0] == 200
    refused = [
        (421, _posted(url, Host="evil.example")),
        (403, _posted(url, Origin="http://evil.example")),
        (403, _posted(url, Origin=own, Sec_Fetch_Site="cross-site")),
        (404, _posted(url, path="/")),
        (404, _posted(url, path="/login?code=x", method="GET")),
        (405, _posted(url, method="PUT")),
        (401, _posted(url, Authorization="Bearer kraken_nothing")),
        (403, _posted(url, X_Forwarded_User="somebody")),
    ]
    for status, found in refused:
        assert (found[0], found[1]["jsonrpc"]) == (status, "2.0"), found
        assert found[1]["error"]["message"]


def test_where_others_can_connect_a_token_is_needed(laboratory: Laboratory) -> None:
    services = laboratory.services
    expires = services.now() + timedelta(days=1)
    secret = add_token(services, "assistant", TokenScope.READ, expires_at=expires, by="me")
    header = {"Authorization": f"Bearer {secret}"}
    with _served(services, Dagit(trusted_proxies=[ip_network("127.0.0.1/32")])) as url:
        status, answer = _posted(url)
        assert status == 401
        assert "kraken token add" in answer["error"]["message"]
        client = streamable_http_client(url, http_client=httpx2.AsyncClient(headers=header))
        found = result_of(client, "get_available_instruments")
        assert found.structured_content is not None
        assert len(found.structured_content["result"]) == 2
        revoke_token(services, "assistant", by="me")
        assert _posted(url, **header)[0] == 401


def test_who_asks_too_often_waits(laboratory: Laboratory) -> None:
    config = laboratory.services.config
    page = config.page.model_copy(update={"requests_a_minute": 2})
    strict = Services(
        config=config.model_copy(update={"page": page}),
        store=laboratory.services.store,
        engines={},
    )
    with _served(strict) as url:
        assert [_posted(url)[0] for _ in range(3)] == [200, 200, 429]
