"""`kraken doctor --stand-in`: what would go wrong before it does."""

import json
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import click.testing
import pymongo
import pytest
import yaml
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, InstigatorType

from kraken_dagster.cli.main import main
from kraken_dagster.fs.processes.child_processes import free_port
from kraken_dagster.model.raw_file import FALLBACK_PROJECT, InstrumentFileStatus
from kraken_dagster.model.settings import Settings
from kraken_dagster.runtime.exclusive_runs import archive_of
from kraken_dagster.store.connection import connect
from kraken_dagster_tests.rebuild.rebuilding import new_instance
from kraken_dagster_tests.support.helpers import record, write_config

pytestmark = pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated")
SETTINGS = Settings(name="search", software="kraken-rawqc", config_params="RAW_FILE_PATH")
OPTIONS = {"move_files": False, "remove_files": False, "output_exists_mode": "associate"}


@pytest.fixture(autouse=True)
def dagster_home(tmp_path, monkeypatch) -> Path:
    home = tmp_path / "dagster"
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    return home


@pytest.fixture
def path(tmp_path, mongodb_uri) -> Path:
    """A configuration that is as a stand-in's should be."""
    return write_config(tmp_path, mongodb_uri, options=OPTIONS, defaults={"sensors": "running"})


def change(path: Path, **changes) -> None:
    path.write_text(
        yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}, sort_keys=False)
    )


def kraken(path: Path, *arguments: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, ["--config", str(path), *arguments])


def examine(path: Path, *arguments: str) -> tuple[int, list[tuple[str, str, str]]]:
    """The exit code, and level, what and found of what only a stand-in is asked."""
    everyone = json.loads(kraken(path, "doctor", "--json").stdout)
    result = kraken(path, "doctor", "--stand-in", "--json", *arguments)
    found = json.loads(result.stdout)[len(everyone) :]
    return result.exit_code, [(item["level"], item["what"], item["found"]) for item in found]


def wrong(found: list[tuple[str, str, str]], level: str = "error") -> list[tuple[str, str]]:
    return [(what, words) for its_level, what, words in found if its_level == level]


@pytest.fixture
def store(mongodb_uri):
    with closing(connect(mongodb_uri)) as store:
        store.prepare()
        store.catalog.add_settings(SETTINGS, now=datetime.now(UTC))
        store.catalog.assign(FALLBACK_PROJECT, SETTINGS, now=datetime.now(UTC))
        yield store


@pytest.fixture
def exported(path, store, tmp_path) -> str:
    """The settings of the other instance, which are the same here."""
    file = tmp_path / "settings.yaml"
    assert kraken(path, "settings", "export", "--output", str(file)).exit_code == 0
    return str(file)


def test_an_instance_that_can_stand_in_is_told_so(path, exported):
    code, found = examine(path, "--settings", exported)
    assert (code, wrong(found), wrong(found, "warning")) == (0, [], [])
    reported = {(what, words) for _, what, words in found}
    assert ("MongoDB", "empty") in reported
    assert ("thermo1", "its files stay where they are") in reported
    assert ("sensors", "the watchers and cluster_jobs are on") in reported


def test_settings_without_stand_in_are_wrong_use(path, exported):
    assert kraken(path, "doctor", "--settings", exported).exit_code == 2


@pytest.mark.parametrize("name", ["move_files", "remove_files"])
def test_an_instance_that_takes_files_away_can_not_stand_in(path, exported, name):
    change(path, options={**OPTIONS, name: True})
    code, found = examine(path, "--settings", exported)
    assert code == 1
    assert [what for what, _ in wrong(found)] == ["thermo1", "bruker1"]
    assert f"set {name}: false" in wrong(found)[0][1]


def test_the_database_of_an_instance_that_moves_files_is_not_taken(path, store, mongodb_uri):
    assert store.raw_files.register(record("a.raw"), reason="test")
    code, found = examine(path)
    assert (code, wrong(found)) == (0, [])
    assert ("ok", "MongoDB", "1 files, none archived: filled by a stand-in") in found
    with pymongo.MongoClient(mongodb_uri) as client:
        raw_files = client.get_default_database()["raw_file"]
        moved = {"instrument_file_status": InstrumentFileStatus.MOVED.value}
        raw_files.update_one({"_id": "a.raw"}, {"$set": moved})
    code, found = examine(path)
    ((what, words),) = wrong(found)
    assert (code, what) == (1, "MongoDB")
    assert "1 files of thermo1 are recorded as archived" in words


def test_the_database_of_an_instance_whose_archiver_ran_is_not_taken(path, store):
    store.exclusive_runs.next_attempt(archive_of("bruker1"))
    ((what, _),) = wrong(examine(path)[1])
    assert what == "MongoDB"


def test_settings_that_differ_are_named(path, exported, store):
    entries = yaml.safe_load(Path(exported).read_text())["settings"]
    (search,) = [item for item in entries if item["name"] == "search"]
    entries.append({**search, "version": 7})
    search["digest"] = "sha256:other"
    Path(exported).write_text(yaml.safe_dump({"settings": entries}))
    code, found = examine(path, "--settings", exported)
    reported = [words for what, words in wrong(found) if what == "settings"]
    assert (code, len(reported)) == (1, 2)
    assert "search version 1 says something else here" in reported[0]
    assert "search version 7 is not here: `kraken settings import`" in reported[1]


def test_settings_that_only_the_stand_in_uses_are_told(path, exported, store):
    Path(exported).write_text(yaml.safe_dump({"settings": []}))
    _, found = examine(path, "--settings", exported)
    assert any(
        "search version 1, used by _FALLBACK" in words for _, words in wrong(found, "warning")
    )


def test_settings_that_were_not_compared_are_told(path, store):
    _, found = examine(path)
    assert any("not compared" in words for _, words in wrong(found, "warning"))


def test_a_file_that_is_no_export_is_refused(path, store, tmp_path):
    (tmp_path / "other.yaml").write_text("[1]")
    result = kraken(path, "doctor", "--stand-in", "--settings", str(tmp_path / "other.yaml"))
    assert (result.exit_code, "can't be read" in result.stderr) == (1, True)


def test_a_mongodb_that_is_away_is_told_with_the_rest(path):
    change(path, mongodb={"uri": f"mongodb://127.0.0.1:{free_port()}/"})
    result = kraken(path, "doctor", "--stand-in", "--json")
    found = [(item["level"], item["what"]) for item in json.loads(result.stdout)]
    assert (result.exit_code, ("error", "MongoDB") in found) == (1, True)
    assert ("ok", "backup") in found


def _done_by_the_other(tmp_path: Path, name: str) -> None:
    """The acquisition, its backup and its result."""
    for place in (
        f"instruments/thermo1/{name}",
        f"backup/thermo1/2026_03/{name}",
        f"output/_FALLBACK/2026_03/out_{name}/custom",
    ):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        if place.endswith("custom"):
            (tmp_path / place).mkdir()
        else:
            (tmp_path / place).write_bytes(b"x")


def test_what_the_other_instance_has_done_is_counted(path, exported, tmp_path):
    _done_by_the_other(tmp_path, "a.raw")
    (tmp_path / "instruments" / "thermo1" / "new.raw").write_bytes(b"x")
    code, found = examine(path, "--settings", exported)
    assert code == 0
    words = [words for level, what, words in found if (level, what) == ("ok", "thermo1")]
    assert "2 acquisitions in its folder; 1 have a backup" in words[1]
    assert words[1].endswith("and 1 a result")


def test_results_that_would_end_in_an_error_are_told(path, exported, tmp_path):
    _done_by_the_other(tmp_path, "a.raw")
    change(path, options={**OPTIONS, "output_exists_mode": "raise"})
    code, found = examine(path, "--settings", exported)
    ((what, words),) = wrong(found)
    assert (code, what) == (1, "thermo1")
    assert "1 results are there, and output_exists_mode is raise" in words


def test_another_backup_store_is_suspected(path, exported, tmp_path):
    (tmp_path / "instruments" / "thermo1" / "a.raw").write_bytes(b"x")
    _, found = examine(path, "--settings", exported)
    ((what, words),) = wrong(found, "warning")
    assert (what, "locations.backup has nothing of it" in words) == ("thermo1", True)


def test_sensors_that_would_not_run_are_told(path, exported, dagster_home):
    change(path, defaults={"sensors": "stopped"})
    ((what, words),) = wrong(examine(path, "--settings", exported)[1], "warning")
    assert (what, words.startswith("thermo1_watcher, bruker1_watcher would")) == ("sensors", True)

    with new_instance(dagster_home) as instance:
        for name in ("thermo1_watcher", "bruker1_watcher"):
            instance.add_instigator_state(_switched_on(name))
    assert wrong(examine(path, "--settings", exported)[1], "warning") == []


def _switched_on(name: str) -> InstigatorState:
    from dagster._core.remote_origin import (
        InProcessCodeLocationOrigin,
        RemoteInstigatorOrigin,
        RemoteRepositoryOrigin,
    )
    from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

    location = InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name="m"))
    origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(location, "repository"), name)
    return InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING)
