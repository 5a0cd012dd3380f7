"""What `--json` prints holds no secret of the configuration; Dagit's answers: test_browser."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import click
import pytest
from click.testing import CliRunner, Result

from kraken_dagster.cli.main import main
from kraken_dagster.config.dagit import Role
from kraken_dagster.config.loader import load_config
from kraken_dagster.dagit.access import PROXY, Access
from kraken_dagster.store.connection import Store
from kraken_dagster_tests.support.helpers import record, write_config

PLANTED = "s3cret-that-nobody-else-says"
CLUSTER = {"type": "slurm", "host": "nowhere.invalid", "user": "u"}
ENGINES = {
    "local": {"type": "local"},
    "hpc": {**CLUSTER, "setup": f"export LICENSE={PLANTED}"},
}
# What a command with --json is given beside that; a new command needs an entry.
ARGUMENTS = {
    "files": [],
    "metrics": [],
    "sensors list": [],
    "token actions": [],
    "token list": [],
    "status": [],
    "doctor": ["--stand-in"],
    "show": ["x.raw"],
    "verify": ["--all"],
    "purge": [],
    "init-store": [],
    "instrument list": [],
    "project list": [],
    "project show": ["p"],
    "project preview": ["x.raw", "thermo1"],
    "settings list": [],
    "settings show": ["n"],
    "alerts list": [],
    "alerts rules": [],
    "quality annotations": [],
    "quality guide-set list": [],
    "quality show": ["x.raw"],
    "quality verdicts": [],
}


def _with_json(group: click.Group, prefix: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _with_json(command, f"{prefix}{name} ")
        elif any("--json" in parameter.opts for parameter in command.params):
            yield f"{prefix}{name}"


def _run(path: Path, command: str) -> Result:
    words = [*command.split(), *ARGUMENTS[command], "--json"]
    return CliRunner().invoke(main, ["--config", str(path), *words])


def _found(secrets: set[str], done: Result) -> set[str]:
    return {item for item in secrets if item in done.output + done.stderr}


def _secrets(path: Path) -> set[str]:
    """The password and the tokens of a configuration, and what its cluster's jobs begin with."""
    config = load_config(path)
    password = urlsplit(config.mongodb.uri or "").password
    assert password
    access = Access(config.home)
    return {PLANTED, password, *(access.token(name) for name in (*Role, PROXY))}


@pytest.mark.parametrize("command", sorted(_with_json(main)))
@pytest.mark.parametrize("password", ["right", "wrong"])
def test_no_json_holds_a_secret(
    tmp_path: Path, mongodb_uri: str, store: Store, command: str, password: str
) -> None:
    """Neither with the MongoDB that the configuration names nor where that refuses it."""
    store.raw_files.register(record("x.raw"), reason="a test")
    known = str(urlsplit(mongodb_uri).password)
    uri = mongodb_uri if password == "right" else mongodb_uri.replace(known, PLANTED)
    path = write_config(tmp_path, uri, engines=ENGINES)
    secrets = _secrets(path)
    done = _run(path, command)
    assert done.exit_code in (0, 1, 2), done.output
    assert done.output + done.stderr
    assert _found(secrets, done) == set()


def test_the_search_finds_what_is_shown(tmp_path: Path, mongodb_uri: str, store: Store) -> None:
    path = write_config(tmp_path, mongodb_uri, engines=ENGINES)
    for number, secret in enumerate(sorted(_secrets(path))):
        store.raw_files.register(record(f"{number}-{secret}.raw"), reason="a test")
    assert _found(_secrets(path), _run(path, "files")) == _secrets(path)
