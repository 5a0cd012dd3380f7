"""Every configuration has homes of its own, whatever an environment says."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kraken_dagster.cli.main import main
from kraken_dagster.config.loader import load_config
from kraken_dagster.model.errors import ConfigError
from kraken_dagster.operations.dagster_home import prepare_dagster
from kraken_dagster.runtime.homes import require_same_environment
from kraken_dagster_tests.support.helpers import write_config

Kraken = Callable[..., Result]
COMMANDS = (
    ("up", "--port", "39999"),
    ("status",),
    ("doctor",),
    ("files",),
    ("rebuild",),
    ("purge",),
    ("init-store",),
)


@pytest.fixture
def kraken(monkeypatch: pytest.MonkeyPatch) -> Kraken:
    """Runs the command with some variables exported, and none of Kraken's besides."""

    def run(path: Path, *arguments: str, **variables: str) -> Result:
        with monkeypatch.context() as patch:
            for name in [key for key in os.environ if key.startswith(("KRAKEN", "DAGSTER"))]:
                patch.delenv(name)
            for name, value in variables.items():
                patch.setenv(name, value)
            return CliRunner().invoke(main, ["--config", str(path), *arguments])

    return run


def lab(folder: Path, uri: str, **changes: object) -> Path:
    """A laboratory of which `kraken up` has made the homes."""
    folder.mkdir()
    path = write_config(folder, uri, **changes)
    config = load_config(path, environment=dict(os.environ))
    prepare_dagster(config.home / "dagster", config, path)
    return path


def test_a_dagster_home_of_another_laboratory_is_refused_in_one_sentence(
    tmp_path: Path, mongodb_uri: str, kraken: Kraken
) -> None:
    """Both of one that runs this version, and of one that has not said yet whose it is."""
    first = lab(tmp_path / "first", mongodb_uri)
    other = write_config(tmp_path, mongodb_uri)
    home = first.parent / ".kraken" / "dagster"
    up_lock = first.parent / ".kraken" / "up.lock"
    for owner in (home / "kraken-owner.json", up_lock):
        for command in COMMANDS:
            done = kraken(other, *command, DAGSTER_HOME=str(home))
            assert done.exit_code == 1, done
            assert len(done.stderr.splitlines()) == 1
            assert "DAGSTER_HOME is exported and names the home of another Kraken" in done.stderr
            assert "`unset DAGSTER_HOME`" in done.stderr
        up_lock.touch()
        owner.unlink()
    assert kraken(other, "files").exit_code == 0


def test_an_exported_home_of_kraken_leads_no_other_configuration_into_it(
    tmp_path: Path, mongodb_uri: str, kraken: Kraken
) -> None:
    first = lab(tmp_path / "first", mongodb_uri)
    (tmp_path / "other").mkdir()
    other = write_config(tmp_path / "other", mongodb_uri, home="${KRAKEN_HOME:-.kraken}")
    done = kraken(other, "files", KRAKEN_HOME=str(first.parent / ".kraken"))
    assert done.exit_code == 1
    assert "Kraken's home belongs to another configuration" in done.stderr
    assert str(first) in done.stderr
    assert "unset KRAKEN_HOME" in done.stderr
    assert kraken(other, "files").exit_code == 0
    first.rename(first.with_name("renamed.yaml"))
    assert kraken(first.with_name("renamed.yaml"), "files").exit_code == 0


def test_a_home_of_the_sites_own_and_a_copied_one_are_nobody_elses(
    tmp_path: Path, mongodb_uri: str, kraken: Kraken
) -> None:
    first = lab(tmp_path / "first", mongodb_uri)
    own = tmp_path / "own"
    for _ in range(2):
        done = kraken(first, "rebuild", DAGSTER_HOME=str(own))
        assert done.exit_code == 0, done.stderr
    other = lab(tmp_path / "other", mongodb_uri)
    assert kraken(other, "rebuild", DAGSTER_HOME=str(own)).exit_code == 1
    copied = tmp_path / "copied"
    shutil.copytree(first.parent, copied)
    assert kraken(copied / first.name, "rebuild").exit_code == 0


def test_env_files_that_name_another_configuration_are_refused(tmp_path: Path) -> None:
    """Dagster puts what stands in `.env` in the place of what is set."""
    ours = {"KRAKEN_CONFIG": "/ours.yaml", "KRAKEN_PASSWORD": "first"}
    (tmp_path / ".env").write_text("KRAKEN_CONFIG=/ours.yaml\nSOMETHING=else\n")
    require_same_environment(tmp_path, ours)
    (tmp_path / ".env").write_text("KRAKEN_CONFIG=/theirs.yaml\n")
    with pytest.raises(ConfigError, match=r"KRAKEN_CONFIG in \.env is not what.*/theirs\.yaml"):
        require_same_environment(tmp_path, ours)
    (tmp_path / ".env").write_text("KRAKEN_PASSWORD=second\n")
    with pytest.raises(ConfigError, match=r"KRAKEN_PASSWORD in \.env") as raised:
        require_same_environment(tmp_path, ours)
    assert "second" not in str(raised.value)
    assert "first" not in str(raised.value)


def test_a_shell_of_one_laboratory_becomes_that_of_another(
    tmp_path: Path, mongodb_uri: str, kraken: Kraken
) -> None:
    first, second = (lab(tmp_path / name, mongodb_uri) for name in ("first", "second"))
    home = first.parent / ".kraken" / "dagster"
    done = kraken(second, "env", DAGSTER_HOME=str(home), KRAKEN_CONFIG=str(first))
    assert done.exit_code == 0, done.output
    assert f"export DAGSTER_HOME={second.parent / '.kraken' / 'dagster'}\n" in done.stdout
    assert f"export KRAKEN_CONFIG={second}\n" in done.stdout
