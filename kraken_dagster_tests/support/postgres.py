"""A real PostgreSQL for Dagster: a server of its own, reached by a socket in its folder."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from kraken_dagster_tests.backup.copying.copying_cases import unavailable
from kraken_dagster_tests.support.laboratory import SHIPPED_DAGSTER_YAML

_USER = "postgres"  # the server refuses to be root
_SETTINGS = ("listen_addresses=", "fsync=off")


@contextmanager
def postgres() -> Iterator[Path]:
    """The folder of the server's socket, while it runs."""
    programs = _programs()
    if programs is None:
        unavailable("no initdb: install Debian's postgresql")
    assert programs is not None
    with tempfile.TemporaryDirectory(prefix="pg", dir="/tmp") as name:  # a socket's path is short
        folder = Path(name)
        owner = _USER if os.geteuid() == 0 else None
        if owner is not None:
            shutil.chown(folder, owner)

        def run(*command: str) -> None:
            environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
            done = subprocess.run(
                command,
                user=owner,
                cwd=folder,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            assert done.returncode == 0, done.stderr.decode()

        data = str(folder / "data")
        run(str(programs / "initdb"), "-D", data, "-A", "trust", "-U", _USER)
        control = (str(programs / "pg_ctl"), "-D", data, "-l", str(folder / "log"), "-w")
        options = " ".join(f"-c {item}" for item in (*_SETTINGS, f"unix_socket_directories={name}"))
        run(*control, "-o", options, "start")
        try:
            yield folder
        finally:
            run(*control, "-m", "immediate", "stop")


def _programs() -> Path | None:
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


@contextmanager
def postgres_instance(socket: Path, home: Path) -> Iterator[dg.DagsterInstance]:
    """Dagster as it is shipped, with its storage in a new database there."""
    home.mkdir()
    settings = yaml.safe_load(SHIPPED_DAGSTER_YAML.read_text())
    settings["storage"] = {"postgres": {"postgres_url": new_database(socket, str(home))}}
    (home / "dagster.yaml").write_text(yaml.safe_dump(settings))
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


def new_database(socket: Path, of: str) -> str:
    """The URL of a new database."""
    database = f"d{abs(hash(of))}"
    sql(socket, f"CREATE DATABASE {database}")
    return f"postgresql+psycopg2://{_USER}@/{database}?host={socket}"


def sql(socket: Path, statement: str) -> list[tuple[Any, ...]]:
    """The rows that a statement gives, sent to the database `postgres`."""
    import psycopg2

    connection = psycopg2.connect(host=str(socket), user=_USER, dbname="postgres")
    connection.autocommit = True
    try:
        cursor = connection.cursor()
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()
