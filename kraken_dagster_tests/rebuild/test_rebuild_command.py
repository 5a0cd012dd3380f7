"""`kraken rebuild` as people run it: a home that is gone, one file, one instrument."""

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import click.testing
import dagster as dg
import pymongo
import pytest
import yaml
from alembic.util import CommandError

from kraken_dagster.cli.main import main
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.store.connection import Store
from kraken_dagster_tests.rebuild.rebuilding import Rebuilding
from kraken_dagster_tests.support.helpers import record

pytestmark = pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated")


def add(store: Store, *names: str) -> None:
    """Documents, without any file."""
    for name in names:
        assert store.raw_files.register(record(name), reason="test")


def versions(path: Path) -> list[str]:
    """Of one of Dagster's databases; of its databases of single runs there are none."""
    with closing(sqlite3.connect(path)) as database, suppress(sqlite3.OperationalError):
        return [row[0] for row in database.execute("SELECT version_num FROM alembic_version")]
    return []


@pytest.fixture
def kraken(config: KrakenConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs the command on the same database, with a Dagster home that is not there."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster_home"))
    path = tmp_path / "instruments.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_unset=True)))

    def run(*arguments: str) -> click.testing.Result:
        runner = click.testing.CliRunner()
        return runner.invoke(main, ["--config", str(path), "rebuild", *arguments])

    return run


def test_the_command_makes_a_home_that_is_gone(store, kraken, config, tmp_path):
    add(store, "a.raw", "b.raw")
    result = kraken()
    assert result.exit_code == 0, result.output
    assert "thermo1: 2 files: 2 partitions added, nothing reported" in result.stdout
    with dg.DagsterInstance.from_config(str(tmp_path / "dagster_home")) as instance:
        assert Rebuilding.on(config, store, instance).partitions() == ["a.raw", "b.raw"]
    assert "thermo1: 2 files: 0 partitions added" in kraken().stdout


def test_databases_that_two_programs_made_at_once_are_mended(store, kraken, tmp_path):
    """The one left a version beside that of the other; nothing of Dagster's opens it any more."""
    add(store, "a.raw")
    assert kraken().exit_code == 0
    home = tmp_path / "dagster_home"
    databases = [path for path in home.rglob("*.db") if versions(path)]
    assert len(databases) == 3
    before = [versions(path) for path in databases]
    for path in databases:
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("INSERT INTO alembic_version VALUES ('5771160a95ad')")
    with pytest.raises(CommandError, match="more than one head"):
        dg.DagsterInstance.from_config(str(home))
    assert "thermo1: 1 files: 0 partitions added" in kraken().stdout
    assert [versions(path) for path in databases] == before


def test_the_command_takes_one_file_or_one_instrument(store, kraken):
    add(store, "a.raw", "b.raw")
    assert "a.raw: 1 files: 1 partitions added" in kraken("--id", "a.raw").stdout
    reported = kraken("--instrument", "thermo1").stdout
    assert "thermo1: 2 files: 1 partitions added" in reported
    assert "bruker1" not in reported
    assert kraken("--id", "a.raw", "--instrument", "thermo1").exit_code == 2
    assert kraken("--instrument", "nobody").exit_code == 2
    missing = kraken("--id", "nothing.raw")
    assert (missing.exit_code, "No such raw file" in missing.stderr) == (1, True)


def test_a_document_that_can_not_be_read_is_told_and_hides_no_other(store, kraken, mongodb_uri):
    add(store, "a.raw", "b.raw")
    with pymongo.MongoClient(mongodb_uri) as client:
        raw_files = client.get_default_database()["raw_file"]
        raw_files.update_one({"_id": "a.raw"}, {"$set": {"size": "much"}})
    result = kraken()
    assert result.exit_code == 1
    assert "the document a.raw can't be read" in result.stderr
    assert "2 files: 1 partitions added" in result.stdout
