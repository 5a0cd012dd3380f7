"""A secret in instruments.yaml reaches nothing that Dagster keeps or shows, and no message."""

import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner
from dagster._core.remote_representation.external_data import RepositorySnap

from kraken_dagster.cli.main import main
from kraken_dagster.config.loader import load_config
from kraken_dagster.definitions import build_defs
from kraken_dagster.model.errors import ConfigError
from kraken_dagster.operations.dagster_home import open_dagster, prepare_dagster
from kraken_dagster.store.connection import connect
from kraken_dagster_tests.support.helpers import write_config

PLANTED = "s3cret-that-nobody-else-says"
NOBODY = f"mongodb://kraken:{PLANTED}@127.0.0.1:9/krakendb"
COMMANDS = (
    ["status", "--json"],
    ["doctor", "--json"],
    ["settings", "list"],
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A configuration with a password in its URI, and one in what a cluster's jobs begin with."""
    cluster = {"type": "slurm", "host": "nowhere.invalid", "user": "u"}
    return write_config(
        tmp_path,
        NOBODY,
        engines={
            "local": {"type": "local"},
            "hpc": {**cluster, "setup": f"export LICENSE={PLANTED}"},
        },
    )


def _texts(value: object) -> Iterator[bytes]:
    """What a cell of a database holds, also where Dagster has compressed it."""
    content = value.encode() if isinstance(value, str) else value
    if isinstance(content, bytes):
        yield content
        try:
            yield zlib.decompress(content)
        except zlib.error:
            return


def _kept(home: Path) -> Iterator[tuple[str, bytes]]:
    """Everything in Dagster's home: files as they are, and cells of databases."""
    for file in (item for item in home.rglob("*") if item.is_file()):
        yield str(file), file.read_bytes()
        if file.suffix != ".db":
            continue
        with closing(sqlite3.connect(file)) as database:
            tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            for (table,) in tables.fetchall():
                for row in database.execute(f'SELECT * FROM "{table}"'):
                    for cell in row:
                        yield from ((f"{file} {table}", text) for text in _texts(cell))


@pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated")
@pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars`")
@pytest.mark.filterwarnings("ignore::dagster.PreviewWarning")
def test_what_dagster_keeps_and_shows_holds_no_secret(path: Path) -> None:
    config = load_config(path)
    home = config.home / "dagster"
    prepare_dagster(home, config, path)
    repository = build_defs(config).get_repository_def()
    with open_dagster(home) as instance:
        job = repository.get_job("purge")
        run = instance.create_run_for_job(job)  # keeps a snapshot of the job, as a launch does
        result = job.execute_in_process(instance=instance, raise_on_error=False)
        assert not result.success
        reported = dg.serialize_value(list(instance.all_logs(result.run_id)))
        # Texts of megabytes: a failed comparison is not to be drawn.
        assert ("MongoDB can't be reached" in reported, PLANTED in reported) == (True, False)
        assert instance.get_run_by_id(run.run_id) is not None
    shown = dg.serialize_value(RepositorySnap.from_def(repository))
    assert ("thermo1" in shown, PLANTED in shown) == (True, False)
    kept = list(_kept(home))
    assert any(b"purge" in text for name, text in kept if "snapshots" in name)
    assert [name for name, text in kept if PLANTED.encode() in text] == []


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_that_fails_says_no_secret(path: Path, command: list[str]) -> None:
    done = CliRunner().invoke(main, ["--config", str(path), *command])
    assert done.exit_code in (1, 2), done.output
    assert PLANTED not in done.output + done.stderr


@pytest.mark.parametrize(
    "uri", [NOBODY.replace(":9/", f":{PLANTED}/"), f"mongodb://u:{PLANTED}/x@h@i", f"x://{PLANTED}"]
)
def test_a_uri_that_cannot_be_understood_is_not_quoted(uri: str) -> None:
    with pytest.raises(ConfigError) as raised:
        connect(uri)
    assert PLANTED not in str(raised.value)
    assert raised.value.__cause__ is None
