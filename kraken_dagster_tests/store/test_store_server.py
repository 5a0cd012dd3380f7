"""The contract of the store: indexes that answer its queries, and a server that is not there.

Runs on the embedded server, or on the MongoDB that KRAKEN_TEST_MONGODB_URI names.
"""

from typing import Any

import pymongo
import pytest
from pymongo.monitoring import CommandListener

from kraken_dagster.fs.processes.child_processes import free_port
from kraken_dagster.model.errors import ConfigError, StoreUnavailable
from kraken_dagster.model.raw_file import Status
from kraken_dagster.store.catalog import catalog, settings_versions
from kraken_dagster.store.connection import Store, connect
from kraken_dagster.store.quant import jobs, metrics
from kraken_dagster.store.raw_files import collection as raw_files
from kraken_dagster_tests.support.helpers import NOW, record

DECLARED = {
    "raw_file": raw_files.INDEXES,
    "quant_job": jobs.INDEXES,
    "metrics": metrics.INDEXES,
    "settings": settings_versions.INDEXES,
    "project_settings": catalog.PROJECT_SETTINGS_INDEXES,
}


@pytest.mark.parametrize("name", DECLARED)
def test_every_declared_index_exists(store, mongodb_uri, name):
    with pymongo.MongoClient(mongodb_uri) as client:
        found = client.get_default_database()[name].index_information()
    for index in DECLARED[name]:
        wanted = index.document
        assert found[wanted["name"]]["key"] == list(wanted["key"].items())
        assert found[wanted["name"]].get("unique", False) == wanted.get("unique", False)


class Recorder(CommandListener):
    def __init__(self) -> None:
        self.queries: list[dict[str, Any]] = []

    def started(self, event) -> None:
        if event.command_name == "find":
            kept = ("find", "filter", "sort", "limit", "projection")
            self.queries.append({key: event.command[key] for key in kept if key in event.command})

    def succeeded(self, event) -> None: ...

    def failed(self, event) -> None: ...


HOT = {
    "known": lambda store: store.raw_files.known("thermo1", ["x.raw", "y.raw"]),
    "in_status": lambda store: store.raw_files.in_status("thermo1", {Status.ERROR, Status.DONE}),
    "due_again": lambda store: store.raw_files.due_again("thermo1", NOW),
    "latest": lambda store: store.raw_files.latest(["thermo1"]),
    "uncollected": lambda store: store.jobs.uncollected("local"),
    "of": lambda store: store.jobs.of("x.raw"),
    "metrics": lambda store: store.metrics.of("x.raw"),
}


@pytest.mark.parametrize("name", HOT)
def test_a_query_of_every_tick_is_answered_by_an_index(store, mongodb_uri, name):
    recorder = Recorder()
    with pymongo.MongoClient(mongodb_uri, tz_aware=True, event_listeners=[recorder]) as client:
        HOT[name](Store(client, mongodb_uri))
        (query,) = recorder.queries
        plan = str(client.get_default_database().command("explain", query)["queryPlanner"])
    assert "'IXSCAN'" in plan
    assert "'COLLSCAN'" not in plan


@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.raw_files.get("x.raw"),
        lambda store: store.raw_files.register(record(), reason="discovered"),
        lambda store: store.jobs.uncollected("local"),
        lambda store: store.health.get("thermo1"),
        lambda store: store.prepare(),
    ],
)
def test_a_mongodb_that_is_away_is_told_with_what_to_do(use):
    away = connect(f"mongodb://127.0.0.1:{free_port()}/krakendb", timeout_s=0.1)
    with pytest.raises(StoreUnavailable, match=r"refused.*start it or repair the network"):
        use(away)
    away.close()


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "http://localhost/",
        "mongodb://",
        "mongodb://localhost:port/",
        "mongodb://user:p@ss@localhost/",
        "mongodb://localhost/a b?w=x=y",
    ],
)
def test_an_uri_that_is_none_is_a_configuration_error(uri):
    with pytest.raises(ConfigError, match=r"`mongodb.uri`.*Expected mongodb://"):
        connect(uri)
