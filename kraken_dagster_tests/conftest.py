"""Fixtures: a real MongoDB wire server, real folders, and a world that puts them together.

The server is the embedded one, started once per session (each of several workers has one), or
whatever KRAKEN_TEST_MONGODB_URI names. Every test has a database of its own.
"""

import os
import secrets
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import dagster as dg
import pymongo
import pytest

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.engines.factory import make_engines
from kraken_dagster.fs.processes.job_keeper import SITE_UMASK
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.connection import Store, connect
from kraken_dagster.store.embedded.server import ensure_running
from kraken_dagster_tests.cluster.slurm_fixtures import cluster, cluster_folder, slurm_cluster  # noqa: F401
from kraken_dagster_tests.rebuild.rebuilding import new_instance
from kraken_dagster_tests.support.helpers import database_uri, mark_stores
from kraken_dagster_tests.support.postgres import postgres, postgres_instance

Opened = Callable[[Path], AbstractContextManager[dg.DagsterInstance]]
URI_VARIABLE = "KRAKEN_TEST_MONGODB_URI"
SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_configure() -> None:
    """What a shell starts in its background ignores signals, and so would all that tests start."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Several workers begin with what takes longest, or one of them is left with it in the end.

    A module whose tests share a fixture goes to one of them, which makes it once.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        long = ("slurm", "lab")
        items.sort(key=lambda item: not any(map(item.get_closest_marker, long)))
        for item in items:
            if item.get_closest_marker("xdist_group") is None and _shares_a_fixture(item):
                item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


def _shares_a_fixture(item: pytest.Item) -> bool:
    assert isinstance(item, pytest.Function)
    found = item._fixtureinfo.name2fixturedefs.values()
    return any(used[-1].scope == "module" for used in found)


@pytest.fixture(autouse=True)
def _own_umask() -> Iterator[None]:
    """A command that a test gives in this process leaves others no rights, from then on."""
    before = os.umask(0)
    os.umask(before)
    yield
    os.umask(before)
    os.environ.pop(SITE_UMASK, None)


@pytest.fixture(scope="session")
def server_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if named := os.environ.get(URI_VARIABLE):
        yield named
        return
    server = ensure_running(tmp_path_factory.mktemp("mongodb"))
    yield server.uri
    server.stop()


@pytest.fixture
def mongodb_uri(server_uri: str) -> Iterator[str]:
    """The URI of a database of the test's own, dropped afterwards."""
    name = f"kraken_test_{secrets.token_hex(6)}"
    yield database_uri(server_uri, name)
    with pymongo.MongoClient(server_uri) as client:
        client.drop_database(name)


@pytest.fixture
def store(mongodb_uri: str) -> Iterator[Store]:
    store = connect(mongodb_uri)
    store.prepare()
    yield store
    store.close()


@pytest.fixture(scope="session")
def postgres_socket() -> Iterator[Path]:
    with postgres() as socket:
        yield socket


@pytest.fixture
def opened(request: pytest.FixtureRequest) -> Opened:
    """Makes Dagster anew in a folder: with SQLite, or the storage that the test asks for."""
    if getattr(request, "param", "SQLite") == "SQLite":
        return new_instance
    return partial(postgres_instance, request.getfixturevalue("postgres_socket"))


class Clock:
    """A clock that tests set forward."""

    def __init__(self) -> None:
        self.time = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def forward(self, **delta: float) -> None:
        self.time += timedelta(**delta)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def config(tmp_path: Path, mongodb_uri: str) -> KrakenConfig:
    """Three instruments, one of each vendor, with their folders made and the stores initialised."""
    instruments = {"thermo1": "thermo", "bruker1": "bruker", "sciex1": "sciex"}
    for name in instruments:
        (tmp_path / "instruments" / name).mkdir(parents=True)
    for name in ("backup", "output"):
        (tmp_path / name).mkdir()
    made = KrakenConfig.model_validate(
        {
            "mongodb": {"uri": mongodb_uri},
            "home": tmp_path / "home",
            "locations": {
                name: str(tmp_path / name)
                for name in ("instruments", "backup", "output", "settings", "software")
            },
            "instruments": {name: {"type": vendor} for name, vendor in instruments.items()},
        }
    )
    with closing(connect(mongodb_uri)) as store:
        mark_stores(Services(config=made, store=store, engines={}))
    return made


@pytest.fixture
def make_services(store: Store, clock: Clock, tmp_path: Path) -> Callable[[KrakenConfig], Services]:
    def make(config: KrakenConfig) -> Services:
        engines = make_engines(config.engines, tmp_path)
        services = Services(config=config, store=store, engines=engines, now=clock)
        mark_stores(services)
        return services

    return make


@pytest.fixture
def services(make_services: Callable[[KrakenConfig], Services], config: KrakenConfig) -> Services:
    return make_services(config)


@pytest.fixture
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"no vendor files beside the checkout ({SHARED.name}/)")
    return SHARED
