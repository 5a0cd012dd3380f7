"""Fixtures: one S3 server for all tests of this folder, and a laboratory that copies to it."""

import os
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kraken_dagster.config.offsite import Offsite
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.runtime.services import Services
from kraken_dagster_tests.backup.copying.copying_cases import unavailable
from kraken_dagster_tests.offsite.s3_server import SECRET, USER, Line, Server, running


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if port := os.environ.get("KRAKEN_TEST_S3_PORT"):  # one that runs already
        yield Server(int(port))
        return
    if os.geteuid() != 0:
        unavailable("radosgw is started as root")
    yield from running(tmp_path_factory.mktemp("s3"))


@pytest.fixture
def bucket(server: Server) -> str:
    return server.make_bucket(f"kraken-{secrets.token_hex(6)}")


@pytest.fixture
def line(server: Server) -> Iterator[Line]:
    line = Line(server.port)
    yield line
    line.close()


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", USER)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def copying_to(
    make_services: Callable[[KrakenConfig], Services], config: KrakenConfig
) -> Callable[..., Services]:
    """Services whose second copy goes to this server, with these options."""

    def make(endpoint: str, **options: Any) -> Services:
        given = {"endpoint": endpoint, "part_mb": 5, "timeout_s": 2, **options}
        offsite = Offsite.model_validate(given)
        return make_services(config.model_copy(update={"offsite": offsite}))

    return make


@pytest.fixture
def laboratory(copying_to: Callable[..., Services], server: Server, bucket: str) -> Services:
    return copying_to(server.endpoint, bucket=bucket)
