"""Dagster's home and its databases: made, and opened while several programs make them."""

import contextlib
import sqlite3
import time
from pathlib import Path

from alembic.script import ScriptDirectory
from alembic.util import CommandError
from dagster import DagsterInstance
from sqlalchemy.exc import SQLAlchemyError

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.operations.site_files import shipped
from kraken_dagster.orchestration.dagster_internals import get_alembic_config, sqlite_run_storage
from kraken_dagster.orchestration.pools import slots_of_all_engines
from kraken_dagster.runtime.homes import claim_homes

_TRIES = 10
_BETWEEN_TRIES_S = 0.5
_DATABASES = ("history/runs.db", "history/runs/index.db", "schedules/schedules.db")
_DELETE_OLDER = """DELETE FROM alembic_version WHERE version_num <> :newest
  AND EXISTS (SELECT 1 FROM alembic_version WHERE version_num = :newest)"""


def prepare_dagster(home: Path, config: KrakenConfig, config_path: Path) -> None:
    """Makes Dagster's home and its databases, or leaves those that are there.

    Below Kraken's own folder dagster.yaml is ours; in a home of the site's own it is the site's.
    """
    home.mkdir(parents=True, exist_ok=True)
    if home.is_relative_to(config.home) or not (home / "dagster.yaml").exists():
        own = config_path.parent / "dagster.yaml"
        text = own.read_text(encoding="utf-8") if own.exists() else shipped("dagster.yaml")
        (home / "dagster.yaml").write_text(text, encoding="utf-8")
    claim_homes(config, config_path)
    # Dagster's databases are made here, before several programs do so at the same time.
    with open_dagster(home) as instance:
        slots_of_all_engines(instance, config)  # the pool is there before the first tick


def open_dagster(home: Path) -> DagsterInstance:
    """Dagster's storage, made if it is not there.

    Deleted under programs that run, it is made by all of them at once: who comes second fails, or
    leaves a database with two versions, which nobody can open any more. So the older version goes,
    and there is another try.
    """
    for _ in range(_TRIES):
        try:
            return DagsterInstance.from_config(str(home))
        except (CommandError, SQLAlchemyError):
            _leave_one_version(home)
            time.sleep(_BETWEEN_TRIES_S)
    return DagsterInstance.from_config(str(home))


def _leave_one_version(home: Path) -> None:
    """Whichever program made a database, all of it is as the newest version has it."""
    script = ScriptDirectory.from_config(get_alembic_config(sqlite_run_storage.__file__))
    newest = script.get_current_head()
    for path in (home / name for name in _DATABASES):
        uri = f"{path.absolute().as_uri()}?mode=rw"
        with (
            contextlib.suppress(sqlite3.Error),
            contextlib.closing(sqlite3.connect(uri, uri=True)) as database,
            database,
        ):
            database.execute(_DELETE_OLDER, {"newest": newest})
