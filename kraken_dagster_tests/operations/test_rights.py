"""Whose Kraken's own files are, and who may read what it leaves for others."""

import grp
import json
import os
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from kraken_dagster.backup.verify import Verdict, verify_backup
from kraken_dagster.cli.main import main
from kraken_dagster.config.loader import load_config
from kraken_dagster.engines.local import LocalJobs
from kraken_dagster.fs.private import be_private, make_folders, make_private, site_umask
from kraken_dagster.fs.processes.job_keeper import SITE_UMASK
from kraken_dagster.fs.rate_limit import RateLimit
from kraken_dagster.fs.stores.manifest import write_manifests
from kraken_dagster.model.errors import ConfigError
from kraken_dagster.model.files.vendors import Vendor
from kraken_dagster.model.jobs.job import JobSpec
from kraken_dagster.model.jobs.report import JobState
from kraken_dagster.runtime.homes import close_home
from kraken_dagster.runtime.services import Services
from kraken_dagster_tests.backup.copying.copying_cases import make
from kraken_dagster_tests.retention.retention_cases import done
from kraken_dagster_tests.support.helpers import wait_until, write_config
from kraken_dagster_tests.support.laboratory import KRAKEN
from kraken_dagster_tests.support.strangers import (
    NEEDS_ROOT,
    folder_for_all,
    open_to_others,
    readable_to_strangers,
)

GROUP = "daemon"  # there is one on every Linux, and only root is not in need of being in it


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def private(monkeypatch: pytest.MonkeyPatch) -> None:
    """As all of Kraken's processes are, started by somebody whose umask is 022."""
    monkeypatch.setenv(SITE_UMASK, "022")
    be_private()


@NEEDS_ROOT
def test_a_stranger_reads_nothing_of_a_home_that_an_older_kraken_has_made() -> None:
    with folder_for_all() as site:
        path = write_config(site, "mongodb://127.0.0.1:1/", home=".kraken")
        home = site / ".kraken"
        for name in ("mongodb/data", "dagster/history", "jobs/local/a"):
            (home / name).mkdir(parents=True)
            (home / name / "secret").write_text("x")
        (home / "link").symlink_to(path)
        os.chmod(home / "jobs/local/a/secret", 0o755)
        assert len(readable_to_strangers(home)) > 6
        close_home(load_config(path), path)
        assert readable_to_strangers(home) == []
        assert open_to_others(home) == []
        assert mode(home / "jobs/local/a/secret") == 0o700  # a program stays one
        assert mode(path) & 0o044 == 0o044  # a link is not followed


def test_a_home_that_holds_the_stores_keeps_them_open(tmp_path: Path) -> None:
    path = write_config(tmp_path, "mongodb://127.0.0.1:1/", home=str(tmp_path))
    (tmp_path / "dagster").mkdir()
    before = {name: mode(tmp_path / name) for name in (".", "backup", "output", "instruments.yaml")}
    close_home(load_config(path), path)
    assert {name: mode(tmp_path / name) for name in before} == before
    assert mode(tmp_path / "dagster") == 0o700


def test_what_a_command_writes_into_its_home_is_its_own_alone(tmp_path: Path) -> None:
    path = write_config(tmp_path, "", home=str(tmp_path / "home"))
    command = [KRAKEN, "--config", path, "status"]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("KRAKEN", "DAGSTER"))}
    subprocess.run(command, env=kept, capture_output=True, timeout=100)
    assert (tmp_path / "home" / "mongodb" / "data").is_dir()
    assert open_to_others(tmp_path / "home") == []


@pytest.mark.usefixtures("private")
@pytest.mark.parametrize(
    ("umask", "file", "folder"), [("022", 0o444, 0o555), ("027", 0o440, 0o550)]
)
def test_a_backup_is_readable_as_the_sites_umask_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: str, file: int, folder: int
) -> None:
    monkeypatch.setenv(SITE_UMASK, umask)
    case = make(tmp_path, Vendor.BRUKER)
    target = case.target / "thermo1" / "2026_03"
    case = replace(case, target=target)
    result = case.run(read_only=True)
    manifest = write_manifests(target, case.name, result.facts)
    files = [path for path in case.final.rglob("*") if path.is_file()]
    assert {mode(path) for path in (*files, manifest)} == {file}
    assert {mode(path) for path in (case.final, case.final / "1.m")} == {folder}
    assert {mode(path) for path in (target, target.parent)} == {folder | 0o200}


@NEEDS_ROOT
@pytest.mark.usefixtures("private")
def test_with_a_group_a_backup_is_the_groups_to_read_and_nobody_elses(tmp_path: Path) -> None:
    group = grp.getgrnam(GROUP).gr_gid
    case = make(tmp_path, Vendor.BRUKER)
    target = case.target / "bruker1" / "2026_03"
    case = replace(case, target=target)
    result = case.run(read_only=True, group=group)
    manifest = write_manifests(target, case.name, result.facts, group)
    made = [target.parent, target, manifest, case.final, *case.final.rglob("*")]
    assert {path.stat().st_gid for path in made} == {group}
    assert {mode(path) for path in made if path.is_file()} == {0o440}
    assert {mode(case.final), mode(case.final / "1.m")} == {0o550}
    assert {mode(target), mode(target.parent)} == {0o750}


@NEEDS_ROOT
def test_a_verification_gives_the_group_what_was_there_before(services: Services) -> None:
    raw_file = done(services, "bruker1", "a.d")
    backup = services.config.locations.backup
    grouped = backup.model_copy(update={"group": GROUP})
    locations = services.config.locations.model_copy(update={"backup": grouped})
    services = replace(services, config=services.config.model_copy(update={"locations": locations}))
    top = services.backup_folder(raw_file) / "a.d"
    assert mode(top) == 0o555
    for _ in range(2):
        assert (
            verify_backup(services, raw_file.id, run_id="v", rate_limit=RateLimit()).verdict
            is Verdict.VERIFIED
        )
        assert (mode(top), mode(top / "analysis.tdf")) == (0o550, 0o440)
        assert top.stat().st_gid == grp.getgrnam(GROUP).gr_gid


def test_a_group_that_is_not_there_is_told_in_one_sentence(
    tmp_path: Path, mongodb_uri: str
) -> None:
    path = write_config(tmp_path, mongodb_uri)
    config = yaml.safe_load(path.read_text())
    config["locations"]["backup"] = {"path": "backup", "group": "no_such_group"}
    path.write_text(yaml.safe_dump(config))
    done = CliRunner().invoke(main, ["--config", str(path), "doctor", "--json"])
    found = {item["what"]: item for item in json.loads(done.stdout)}
    assert done.exit_code == 1
    assert found["backup group"]["level"] == "error"
    assert "no group of this machine" in found["backup group"]["found"]
    assert "'no_such_group'" in found["backup group"]["found"]


def test_doctor_says_that_the_home_is_open(tmp_path: Path, mongodb_uri: str) -> None:
    path = write_config(tmp_path, mongodb_uri, home=str(tmp_path / "home"))
    (tmp_path / "home").mkdir(mode=0o755)
    levels = []
    for _ in range(2):
        done = CliRunner().invoke(main, ["--config", str(path), "doctor", "--json"])
        levels += [item["level"] for item in json.loads(done.stdout) if item["what"] == "home"]
        make_private(tmp_path / "home")
    assert levels == ["warning", "ok"]


@pytest.mark.usefixtures("private")
def test_a_job_writes_results_for_others_and_its_log_for_kraken_alone(tmp_path: Path) -> None:
    jobs, output = LocalJobs(tmp_path / "jobs"), tmp_path / "output" / "thermo1" / "x"
    script = "umask; echo told; mkdir deep; echo 1 > deep/result; env | grep -c UMASK > umasks"
    jobs.submit(JobSpec("job", ("/bin/sh", "-c", script), {}, str(output)))
    wait_until(lambda: jobs.states(["job"])["job"].state is not JobState.RUNNING, "it has ended")
    assert jobs.log_tail(JobSpec("job", (), {}, "")).split() == ["0022", "told"]
    assert open_to_others(tmp_path / "jobs") == []
    assert (mode(output / "deep"), mode(output / "deep" / "result")) == (0o755, 0o644)
    assert (mode(output), mode(output.parent)) == (0o755, 0o755)
    assert (output / "umasks").read_text().strip() == "0"


@pytest.mark.usefixtures("private")
def test_folders_are_made_as_the_umask_of_the_start_says(tmp_path: Path) -> None:
    assert site_umask() == 0o022
    (tmp_path / "here").mkdir(mode=0o700)
    make_folders(tmp_path / "here" / "a" / "b")
    assert [mode(tmp_path / "here" / name) for name in (".", "a", "a/b")] == [0o700, 0o755, 0o755]
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        make_folders(tmp_path / "file" / "a")
    with pytest.raises(FileExistsError):
        make_folders(tmp_path / "file")


def test_init_writes_files_that_another_user_may_read(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["init", str(tmp_path / "site")])
    assert done.exit_code == 0, done.output
    assert mode(tmp_path / "site" / "instruments.yaml") == 0o666 & ~site_umask()


def test_a_world_without_that_group_makes_no_backup(services: Services) -> None:
    backup = services.config.locations.backup.model_copy(update={"group": "no_such_group"})
    locations = services.config.locations.model_copy(update={"backup": backup})
    services = replace(services, config=services.config.model_copy(update={"locations": locations}))
    with pytest.raises(ConfigError, match=r"no group of this machine.*correct the name"):
        _ = services.backup_group
