"""Dagster's storage on a real PostgreSQL, with connections that are kept."""

import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml

from kraken_dagster.operations.site_files import init
from kraken_dagster_tests.support.postgres import new_database, sql

EVENTS = 30


@pytest.fixture
def home(tmp_path: Path, postgres_socket: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    init(tmp_path / "site", postgres=True)
    monkeypatch.setenv("KRAKEN_DAGSTER_POSTGRES", new_database(postgres_socket, str(tmp_path)))
    return tmp_path / "site"


@pytest.fixture
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


def connections(postgres_socket: Path) -> set[int]:
    """The server's processes, one for each connection to any database that is not this test's."""
    rows = sql(postgres_socket, "SELECT pid FROM pg_stat_activity WHERE datname LIKE 'd%'")
    return {pid for (pid,) in rows}


def report(instance: dg.DagsterInstance, number: int) -> None:
    event = dg.AssetMaterialization("a", partition=str(number))
    instance.report_runless_asset_event(event)


def test_one_connection_serves_all_that_is_written_and_read(
    instance: dg.DagsterInstance, postgres_socket: Path
) -> None:
    report(instance, 0)
    before = connections(postgres_socket)
    assert before
    for number in range(1, EVENTS):
        report(instance, number)
        instance.get_runs(limit=1)
        assert connections(postgres_socket) == before
    assert len(instance.get_materialized_partitions(dg.AssetKey("a"))) == EVENTS


def test_another_instance_of_dagster_in_the_process_opens_no_more(
    instance: dg.DagsterInstance, home: Path, postgres_socket: Path
) -> None:
    report(instance, 0)
    with dg.DagsterInstance.from_ref(instance.get_ref()) as other:
        before = connections(postgres_socket)
        report(other, 1)
        assert connections(postgres_socket) == before
    assert len(instance.get_materialized_partitions(dg.AssetKey("a"))) == 2


def test_a_connection_that_the_server_has_ended_is_made_anew(
    instance: dg.DagsterInstance, postgres_socket: Path
) -> None:
    report(instance, 0)
    ended = connections(postgres_socket)
    for pid in ended:
        sql(postgres_socket, f"SELECT pg_terminate_backend({pid})")
    report(instance, 1)
    assert len(instance.get_materialized_partitions(dg.AssetKey("a"))) == 2
    assert not ended & connections(postgres_socket)


def test_a_child_has_connections_of_its_own(
    instance: dg.DagsterInstance, postgres_socket: Path
) -> None:
    report(instance, 0)
    before = connections(postgres_socket)
    if (child := os.fork()) == 0:
        try:
            report(instance, 1)
            os._exit(0 if connections(postgres_socket) > before else 3)
        finally:
            os._exit(4)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    report(instance, 2)
    assert len(instance.get_materialized_partitions(dg.AssetKey("a"))) == 3


def test_the_document_shows_what_init_writes(tmp_path: Path) -> None:
    init(tmp_path / "site", postgres=True)
    written = yaml.safe_load((tmp_path / "site" / "dagster.yaml").read_text())
    text = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text()
    shown = yaml.safe_load("storage:" + text.split("```yaml\nstorage:", 1)[1].split("```", 1)[0])
    assert shown["storage"] == written["storage"]
