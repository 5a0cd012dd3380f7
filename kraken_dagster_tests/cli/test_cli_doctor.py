"""`kraken doctor` on things that are really wrong."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import click.testing
import pymongo
import pytest
import yaml

from kraken_dagster.cli.main import main
from kraken_dagster.fs.processes.child_processes import free_port
from kraken_dagster.fs.stores.marker import MARKER_NAME
from kraken_dagster.model.raw_file import FALLBACK_PROJECT
from kraken_dagster.model.settings import Settings
from kraken_dagster.operations.doctor import checks as doctor
from kraken_dagster.operations.site_files import init
from kraken_dagster.store.connection import connect
from kraken_dagster_tests.support.helpers import write_config

Findings = dict[str, tuple[str, str]]


def examine_all(path: Path) -> tuple[int, list[tuple[str, str, str]]]:
    """The exit code, and level, what was examined and what was found of each finding."""
    result = click.testing.CliRunner().invoke(main, ["--config", str(path), "doctor", "--json"])
    found = json.loads(result.stdout)
    assert all(set(item) == {"level", "what", "found"} for item in found)
    return result.exit_code, [(item["level"], item["what"], item["found"]) for item in found]


def examine(path: Path) -> tuple[int, Findings]:
    """The exit code, and by what was examined the last level and what was found."""
    code, found = examine_all(path)
    return code, {what: (level, words) for level, what, words in found}


@pytest.fixture
def path(tmp_path, mongodb_uri):
    return write_config(tmp_path, mongodb_uri)


def examine_offline(path: Path) -> tuple[int, list[tuple[str, str, str]]]:
    arguments = ["--config", str(path), "doctor", "--offline", "--json"]
    result = click.testing.CliRunner().invoke(main, arguments)
    found = json.loads(result.stdout)
    return result.exit_code, [(item["level"], item["what"], item["found"]) for item in found]


def levels(found: Findings) -> dict[str, str]:
    return {what: level for what, (level, _) in found.items()}


def test_where_everything_is_well_doctor_says_so(path):
    code, found = examine(path)
    assert code == 0
    names = (
        *("configuration", "home", "backup", "output"),
        *("MongoDB", "access to MongoDB", "clocks"),
        *("thermo1", "bruker1"),
    )
    assert levels(found) == dict.fromkeys(names, "ok")
    assert "GB free" in found["thermo1"][1]


def test_the_table_says_the_same(path, tmp_path):
    (tmp_path / "instruments" / "thermo1").rmdir()
    result = click.testing.CliRunner().invoke(main, ["--config", str(path), "doctor"])
    assert result.exit_code == 1
    assert "mount the instrument's share" in result.stdout
    assert "clocks" in result.stdout


def test_an_instruments_folder_that_is_missing_is_found_and_the_other_one_is_fine(path, tmp_path):
    (tmp_path / "instruments" / "thermo1").rmdir()
    code, found = examine(path)
    assert code == 1
    assert levels(found)["bruker1"] == "ok"
    level, words = found["thermo1"]
    assert (level, "mount the instrument's share" in words) == ("error", True)


@pytest.mark.parametrize("name", ["backup", "output"])
def test_a_root_that_can_not_be_written_is_found(path, tmp_path, name):
    shutil.rmtree(tmp_path / name)
    (tmp_path / name).write_text("a file where the folder should be")
    code, found = examine(path)
    assert code == 1
    level, words = found[name]
    assert level == "error"
    assert "right to write there" in words


@pytest.mark.parametrize("name", ["backup", "output"])
@pytest.mark.parametrize("marker", [None, "kraken-store 1 {} 0123456789abcdef\n"])
def test_a_root_that_is_not_this_kraken_s_store_is_never_said_to_be_well(
    path, tmp_path, name, marker
):
    (tmp_path / name / MARKER_NAME).unlink()
    if marker is not None:
        (tmp_path / name / MARKER_NAME).write_text(marker.format(name))
    code, found = examine(path)
    assert code == 1
    level, words = found[name]
    assert (level, f"kraken init-store {name}" in words) == ("error", True)
    assert doctor._writable(name, tmp_path / name).level == ("error" if marker is None else "ok")


@pytest.mark.parametrize("name", ["backup", "output"])
def test_a_root_that_is_not_mounted_is_found_and_not_created(path, tmp_path, name):
    shutil.rmtree(tmp_path / name)
    code, found = examine(path)
    assert code == 1
    level, words = found[name]
    assert level == "error"
    assert words.startswith(f"{tmp_path / name}: No such file or directory; mount it")
    assert not (tmp_path / name).exists()


def test_doctor_leaves_nothing_behind_where_it_tried_to_write(path, tmp_path):
    examine(path)
    assert [it.name for it in (tmp_path / "backup").iterdir()] == [MARKER_NAME]


@pytest.fixture
def assigned(mongodb_uri):
    """Settings of a program of the laboratory's own."""
    settings = Settings(name="search", software="search.sh")
    now = datetime.now(UTC)
    with closing(connect(mongodb_uri)) as store:
        store.prepare()
        store.catalog.add_settings(settings, now=now)
        store.catalog.assign(FALLBACK_PROJECT, settings, now=now)


@pytest.mark.parametrize("there", [False, True])
def test_a_program_that_is_not_there_or_can_not_be_run_is_found(path, tmp_path, assigned, there):
    program = tmp_path / "software" / "search.sh"
    program.parent.mkdir()
    if there:
        program.write_text("#!/bin/sh\n")
        program.chmod(0o644)
    code, found = examine(path)
    assert code == 1
    level, words = found["software"]
    assert level == "error"
    assert "search version 1 wants 'search.sh'" in words
    assert str(program.parent) in words


def test_a_program_that_can_be_run_is_no_finding(path, tmp_path, assigned):
    program = tmp_path / "software" / "search.sh"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    code, found = examine(path)
    assert (code, "software" in found) == (0, False)


def test_what_settings_name_and_is_not_there_is_found(path, tmp_path, mongodb_uri):
    settings = Settings(
        name="s", software="kraken-rawqc", fasta_file_name="human.fasta", job_engine="docker"
    )
    with closing(connect(mongodb_uri)) as store:
        store.prepare()
        store.catalog.add_settings(settings, now=datetime.now(UTC))
        store.catalog.assign(FALLBACK_PROJECT, settings, now=datetime.now(UTC))
    code, found = examine_all(path)
    assert code == 1
    reported = {level: words for level, what, words in found if what == "settings"}
    assert "s version 1: The fasta that the settings name can't be used" in reported["error"]
    assert "s/human.fasta" in reported["error"]
    assert "s version 1 wants the engine 'docker', which is none of" in reported["warning"]


def test_settings_that_can_not_be_read_are_found(path, mongodb_uri):
    with pymongo.MongoClient(mongodb_uri) as client:
        client.get_default_database()["settings"].insert_one({"name": "odd", "num_threads": "x"})
    code, found = examine_all(path)
    assert code == 1
    assert ("error", "settings") in {(level, what) for level, what, _ in found}


def test_settings_that_nobody_assigned_are_told(path, mongodb_uri):
    with closing(connect(mongodb_uri)) as store:
        store.catalog.add_settings(Settings(name="s", software="x"), now=datetime.now(UTC))
    code, found = examine(path)
    assert code == 0
    assert found["settings"] == ("warning", "none are assigned, so that no file is processed")


def test_a_mongodb_that_is_away_is_found_after_what_can_be_found_without_it(tmp_path):
    path = write_config(tmp_path, f"mongodb://127.0.0.1:{free_port()}/")
    shutil.rmtree(tmp_path / "backup")
    code, found = examine(path)
    assert code == 1
    assert found["backup"][0] == "error"
    level, words = found["MongoDB"]
    assert level == "error"
    assert "Connection refused. Next: start it or repair the network" in words
    assert found["without MongoDB"] == (
        "skipped",
        "not looked at: clocks, settings, engines; thermo1, bruker1",
    )


def test_a_broken_configuration_is_told(path):
    path.write_text("hme: x")
    result = click.testing.CliRunner().invoke(main, ["--config", str(path), "doctor", "--json"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "line 1, key 'hme': no such key" in result.stderr


def test_the_installed_command_warns_of_several_instruments_on_the_embedded_server(tmp_path):
    path = write_config(tmp_path, "", home=str(tmp_path / "home"))
    kraken = Path(sys.executable).with_name("kraken")
    made = [kraken, "--config", path, "init-store", "--empty"]
    subprocess.run(made, capture_output=True, text=True, check=True)
    command = [kraken, "--config", path, "doctor", "--json"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0
    found = json.loads(result.stdout)
    warnings = [item["found"] for item in found if item["level"] == "warning"]
    assert any("its authors call beta" in words for words in warnings)
    assert {"level": "ok", "what": "MongoDB", "found": "the embedded server answers"} in found


def test_what_jobs_of_this_machine_could_do_to_the_backup_is_told(path):
    level, words = examine(path)[1]["backup"]
    who = "root" if os.geteuid() == 0 else "the user who makes the backup"
    assert (level, f"run as {who}" in words, "looked after" in words) == ("ok", True, True)


def test_offline_asks_no_mount_no_mongodb_and_no_cluster(tmp_path):
    """What it would ask is all away, and all that it says is told as what it did not look at."""
    nowhere = str(tmp_path / "nowhere")
    path = write_config(
        tmp_path,
        f"mongodb://127.0.0.1:{free_port()}/x",
        locations={name: f"{nowhere}/{name}" for name in ("instruments", "backup", "output")},
        engines={
            "cluster": {
                "type": "slurm",
                "host": "127.0.0.1",
                "port": free_port(),
                "user": "nobody",
                "known_hosts": nowhere,
            }
        },
        defaults={"engine": "cluster"},
    )
    code, found = examine_offline(path)
    assert code == 0
    assert [level for level, _, _ in found] == ["ok", "skipped"]
    left_out = "backup, output, MongoDB, clocks, engine cluster, thermo1, bruker1"
    assert found[-1][2] == f"not looked at: {left_out}"
    assert not (tmp_path / "nowhere").exists()
    assert not (tmp_path / ".kraken").exists()


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("dagster.yaml", "telemetri: {enabled: false}", '"telemetri"'),
        ("dagster.yaml", "concurrency: {runs: {max_concurrent_runs: many}}", '"many"'),
        ("dagster.yaml", "telemetry: [", "line 1"),
        ("dagster.yaml", "- a list", "dictionary"),
        ("workspace.yaml", "load_from: [{python_modul: x}]", '"python_modul"'),
        ("workspace.yaml", "", "valid yaml"),
        ("workspace.yaml", "- a list", "Mapping"),
    ],
)
def test_a_file_of_dagsters_with_a_mistake_is_an_error_offline_and_otherwise(
    path, name, text, words
):
    (path.parent / name).write_text(text)
    for code, found in (examine_offline(path), examine_all(path)):
        assert code == 1
        ((what, said),) = [(what, said) for level, what, said in found if level == "error"]
        assert what == name
        assert str(path.parent / name) in said
        assert words in said
        assert len(said) < 700


def test_many_instruments_on_sqlite_get_a_warning(tmp_path, mongodb_uri):
    def found(instruments: int) -> list[str]:
        known = {f"tof{number}": {"type": "thermo"} for number in range(instruments)}
        path = write_config(tmp_path, mongodb_uri, instruments=known)
        _, findings = examine_offline(path)
        return [said for level, what, said in findings if what == "Dagster's storage"]

    assert found(19) == []
    (said,) = found(20)
    assert said.startswith("SQLite, for 20 instruments")
    init(tmp_path / "new", postgres=True)
    shutil.copy(tmp_path / "new" / "dagster.yaml", tmp_path)
    assert found(20) == []


def test_offline_loads_the_sites_own_functions(path):
    config = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**config, "metrics": {"mine": "no_such_module:read"}}))
    code, found = examine_offline(path)
    assert code == 1
    assert [what for level, what, _ in found if level == "error"] == ["metrics mine"]


def test_offline_and_stand_in_are_wrong_use(path):
    arguments = ["--config", str(path), "doctor", "--offline", "--stand-in"]
    result = click.testing.CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "--offline and --stand-in exclude each other" in result.stderr
