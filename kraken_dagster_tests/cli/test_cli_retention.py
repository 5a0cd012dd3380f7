"""`kraken verify`, `restore`, `purge`, and what `kraken status` tells of disks and refusals."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click.testing
import dagster as dg
import pytest

from kraken_dagster.cli import retention as cli_retention
from kraken_dagster.cli.main import main
from kraken_dagster.config.loader import load_config
from kraken_dagster.engines.local import LocalJobs
from kraken_dagster.model.raw_file import InstrumentFileStatus, RawFile, Status
from kraken_dagster.model.retention.rules import GB
from kraken_dagster.retention.archiving.archive import archive
from kraken_dagster.runtime.services import Services, utc_now
from kraken_dagster.store.connection import connect
from kraken_dagster_tests.retention.retention_cases import disk_is_full, hangs_at_the_second_file
from kraken_dagster_tests.support.helpers import (
    backed_up,
    tick_until_idle,
    wait_until,
    write_config,
)

NAMES = ("a.raw", "b.raw", "c.raw")


@pytest.fixture
def path(tmp_path, mongodb_uri):
    options = {"min_file_age_to_remove_in_days": 0}
    return write_config(
        tmp_path, mongodb_uri, options=options, defaults={"file_move_delay_m": 0, "lease_s": 2}
    )


@pytest.fixture
def kraken(path):
    def run(*arguments: str, exit_code: int = 0) -> str:
        runner = click.testing.CliRunner()
        result = runner.invoke(main, ["--config", str(path), *arguments])
        assert result.exit_code == exit_code, result.output
        return result.stdout

    return run


@pytest.fixture
def services(path, mongodb_uri, clock):
    """Three files of `thermo1`, backed up and ended."""
    config = load_config(path, environment={})
    store = connect(mongodb_uri)
    store.prepare()
    engines = {"local": LocalJobs(config.home / "jobs")}
    services = Services(config=config, store=store, engines=engines, now=clock)
    for name in NAMES:
        backed_up(services, "thermo1", name, seed=len(name))
    tick_until_idle(services)
    yield services
    store.close()


def backup_of(services, name: str) -> Path:
    return services.backup_folder(services.store.raw_files.get(name)) / name


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


# -- verify ---------------------------------------------------------------------------------------


def test_backups_that_are_whole_are_verified(kraken, services):
    assert kraken("verify", "--all") == "3 verified; 150000 bytes read\n"
    assert kraken("verify", "a.raw", "b.raw") == "2 verified; 100000 bytes read\n"
    assert kraken("verify", "--instrument", "bruker1") == "nothing to verify; 0 bytes read\n"
    found = json.loads(kraken("verify", "--instrument", "thermo1", "--json"))
    assert [(item["verdict"], item["files"]) for item in found] == [("verified", 1)] * 3


def test_only_proofs_that_are_old_enough_are_made_anew(kraken, services):
    assert "3 verified" in kraken("verify", "--older-than", "0")
    assert "nothing to verify" in kraken("verify", "--older-than", "1")


def test_a_mismatch_is_told_and_is_an_error_of_the_file(kraken, services):
    damage(backup_of(services, "b.raw"))
    reported = kraken("verify", "--all", exit_code=1)
    assert "MISMATCH: b.raw: The backup is not what was recorded" in reported
    assert "2 verified, 1 mismatch" in reported
    raw_file = services.store.raw_files.get("b.raw")
    assert (raw_file.status, raw_file.is_backed_up) == (Status.ERROR, False)
    # It is told again by whatever looks at it again.
    assert "MISMATCH: b.raw" in kraken("verify", "--all", exit_code=1)
    assert "MISMATCH: b.raw" in kraken("verify", "b.raw", exit_code=1)


def test_a_mismatch_is_a_failed_check_in_dagit_too(kraken, services):
    home = services.config.home / "dagster"
    home.mkdir(parents=True)
    (home / "dagster.yaml").touch()
    damage(backup_of(services, "b.raw"))
    kraken("verify", "--all", exit_code=1)
    assert checks(home) == {"a.raw": True, "b.raw": False, "c.raw": True}


def checks(home: Path) -> dict[str, bool]:
    """What the Dagster there knows of the backups."""
    key = dg.AssetCheckKey(dg.AssetKey(["thermo1", "backup"]), "digests_match")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        records = instance.event_log_storage.get_asset_check_execution_history(key, limit=10)
        return {
            check.partition: check.passed
            for record in records
            for check in [record.event.dagster_event.asset_check_evaluation_data]
        }


def test_a_file_that_is_named_and_can_not_be_verified_is_no_success(kraken, services):
    services.store._database["raw_file"].update_one(
        {"_id": "b.raw"}, {"$set": {"status": "quanting"}}
    )
    assert "2 verified, 1 skipped" in kraken("verify", "--all")
    assert "SKIPPED: b.raw: it is still worked on" in kraken("verify", "b.raw", exit_code=1)


def test_two_runs_never_have_one_name(monkeypatch):
    assert cli_retention._run_id() != cli_retention._run_id()

    def nameless():
        raise KeyError("getpwuid(): uid not found: 54321")

    monkeypatch.setattr("getpass.getuser", nameless)
    assert f"kraken of user {os.getuid()} on" in cli_retention._run_id()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["a.raw", "--all"],
        ["--instrument", "nobody"],
        ["--all", "--mb-per-s", "0"],
        ["--all", "--mb-per-s", "nan"],
        ["--older-than", "nan"],
    ],
)
def test_a_verification_of_nothing_in_particular_is_wrong_use(kraken, services, arguments):
    kraken("verify", *arguments, exit_code=2)


def test_an_unknown_file_is_told(kraken, services):
    kraken("verify", "nothing.raw", exit_code=1)


def test_a_verification_that_was_interrupted_goes_on_where_it_was(kraken, path, services):
    program = "from kraken_dagster.cli.main import main; main()"
    command = [sys.executable, "-c", program, "--config", str(path), "verify", "--all"]
    # 50 kB take over a second then
    process = subprocess.Popen([*command, "--mb-per-s", "0.04"], stdout=subprocess.DEVNULL)

    def files() -> list[RawFile]:
        return [services.store.raw_files.get(name) for name in NAMES]

    def proven() -> list[str]:
        return [item.id for item in files() if item.verified_at > services.now()]

    wait_until(proven, "a first one is proven")
    process.kill()
    process.wait()
    done = proven()
    assert 0 < len(done) < 3
    free = "the lease of who was killed has lapsed"
    wait_until(lambda: not any(item.leased(utc_now()) for item in files()), free)
    outcome = click.testing.CliRunner().invoke(
        main, ["--config", str(path), "verify", "--all", "--json"]
    )
    assert "going on with what was begun at" in outcome.stderr
    left = json.loads(outcome.stdout)
    assert {item["verdict"] for item in left} == {"verified"}
    assert sorted([*(item["raw_file_id"] for item in left), *done]) == sorted(NAMES)


# -- restore --------------------------------------------------------------------------------------


def test_a_backup_is_copied_out_and_proven(kraken, services, tmp_path):
    target = tmp_path / "restored"
    target.mkdir()
    assert "1 files, 1 copied, 0 there already" in kraken("restore", "a.raw", str(target))
    assert (target / "a.raw").read_bytes() == backup_of(services, "a.raw").read_bytes()
    assert "0 copied, 1 there already" in kraken("restore", "a.raw", str(target))


def test_what_can_not_be_restored_is_told_and_nothing_is_left(kraken, services, tmp_path):
    target = tmp_path / "restored"
    kraken("restore", "a.raw", str(target), exit_code=1)
    target.mkdir()
    damage(backup_of(services, "a.raw"))
    kraken("restore", "a.raw", str(target), exit_code=1)
    (target / "b.raw").write_text("somebody's")
    kraken("restore", "b.raw", str(target), exit_code=1)
    kraken("restore", "nothing.raw", str(target), exit_code=1)
    assert [item.name for item in target.iterdir()] == ["b.raw"]
    assert (target / "b.raw").read_text() == "somebody's"


# -- purge ----------------------------------------------------------------------------------------


@pytest.fixture
def short_of_space(path, tmp_path, mongodb_uri, services):
    """The same configuration, with more space wanted than any disk has; all files archived."""
    assert all(item.moved for item in archive(services, "thermo1", run_id="r"))
    write_config(
        tmp_path,
        mongodb_uri,
        options={"min_file_age_to_remove_in_days": 0, "min_free_space_gb": 1e9},
        defaults={"file_move_delay_m": 0},
    )
    return services


def on_instrument(services) -> list[str]:
    return sorted(os.listdir(services.instrument_folder("thermo1") / "Backup"))


def test_a_purge_is_a_plan_unless_it_is_told_to_delete(kraken, short_of_space):
    text = kraken("purge", "--instrument", "thermo1", exit_code=1)
    assert text.count("would be deleted") == 3
    found = json.loads(kraken("purge", "--json", exit_code=1))
    assert [item["instrument"] for item in found] == ["thermo1", "bruker1"]
    assert [item["raw_file_id"] for item in found[0]["to_delete"]] == list(NAMES)
    assert on_instrument(short_of_space) == list(NAMES)


def test_a_plan_says_that_the_backup_store_is_away(kraken, path, short_of_space):
    root = load_config(path, environment={}).locations.backup.path
    root.rename(root.with_name("elsewhere"))
    root.mkdir()
    text = kraken("purge", "--instrument", "thermo1", exit_code=1)
    assert "would be freed, but not now: The backup store is away" in text
    assert text.count("would be deleted") == 3
    [found] = json.loads(kraken("purge", "--instrument", "thermo1", "--json", exit_code=1))
    assert "it is not mounted" in found["error"]
    assert not found["enough"]


def test_a_purge_that_is_told_to_deletes_with_proof(kraken, short_of_space):
    damage(backup_of(short_of_space, "b.raw"))
    text = kraken("purge", "--instrument", "thermo1", "--delete", exit_code=1)
    assert "2 files purged, 100000 bytes freed" in text
    assert "The backup is not what was recorded" in text
    assert on_instrument(short_of_space) == ["b.raw"]
    statuses = {
        name: short_of_space.store.raw_files.get(name).instrument_file_status for name in NAMES
    }
    assert statuses == {
        "a.raw": InstrumentFileStatus.PURGED,
        "b.raw": InstrumentFileStatus.MOVED,
        "c.raw": InstrumentFileStatus.PURGED,
    }


def test_a_damaged_backup_is_no_success_and_a_failed_check_although_enough_is_free(
    kraken, short_of_space, monkeypatch, tmp_path, mongodb_uri
):
    services = short_of_space
    home = services.config.home / "dagster"
    home.mkdir(parents=True)
    (home / "dagster.yaml").touch()
    damage(backup_of(services, "a.raw"))
    disk_is_full(monkeypatch)
    options = {"min_file_age_to_remove_in_days": 0, "min_free_space_gb": 40_000 / GB}
    write_config(tmp_path, mongodb_uri, options=options)
    (found,) = json.loads(
        kraken("purge", "--instrument", "thermo1", "--delete", "--json", exit_code=1)
    )
    assert (found["enough"], found["error"]) == (True, None)
    assert [item["raw_file_id"] for item in found["deleted"]] == ["b.raw"]
    assert [(item["raw_file_id"], item["damaged"]) for item in found["kept"]] == [("a.raw", True)]
    assert checks(home) == {"a.raw": False}


def test_an_instrument_that_is_away_is_in_the_answer(kraken, short_of_space, tmp_path):
    short_of_space.instrument_folder("thermo1").rename(tmp_path / "away")
    found = json.loads(kraken("purge", "--json", exit_code=1))
    assert [item["instrument"] for item in found] == ["thermo1", "bruker1"]
    assert "The instrument's folder is not there" in found[0]["error"]


def test_what_was_deleted_before_it_was_stopped_is_told(kraken, short_of_space, monkeypatch):
    hangs_at_the_second_file(monkeypatch)
    text = kraken("purge", "--instrument", "thermo1", "--delete", exit_code=1)
    assert "1 files purged, 50000 bytes freed; then it was stopped: It hangs" in text
    assert re.search(r"deleted\W+a\.raw", text)


def test_a_purge_that_is_off_says_so(kraken, services):
    assert "nothing is purged: min_free_space_gb is 0 or less" in kraken("purge")


def test_an_instrument_that_does_not_exist_is_wrong_use(kraken, services):
    kraken("purge", "--instrument", "nobody", exit_code=2)


# -- status and show ------------------------------------------------------------------------------


def wrong(kraken) -> list[str]:
    return json.loads(kraken("status", "--json", exit_code=1))["wrong"]


def test_status_tells_of_files_that_can_not_be_moved(kraken, services):
    (services.instrument_folder("thermo1") / "Backup").mkdir()
    (services.instrument_folder("thermo1") / "Backup" / "a.raw").write_text("something else")
    archive(services, "thermo1", run_id="r")
    (reported,) = [line for line in wrong(kraken) if "a.raw" in line]
    assert "thermo1: 'a.raw' can't be archived, refused, looked at again at " in reported
    shown = json.loads(kraken("show", "a.raw", "--json"))
    assert "refused, looked at again at " in shown["cannot_be_moved"]
    kraken("retry", "a.raw")
    assert [line for line in wrong(kraken) if "a.raw" in line] == []


def test_status_tells_of_a_disk_that_stays_short_of_space(kraken, short_of_space):
    (reported,) = [
        line for line in wrong(kraken) if line.startswith("thermo1") and "shall be" in line
    ]
    assert "no purge in the last 24 h: is the schedule `purge` on" in reported
    kraken("purge", "--instrument", "thermo1", "--delete", exit_code=1)
    (reported,) = [
        line for line in wrong(kraken) if line.startswith("thermo1") and "shall be" in line
    ]
    assert "the last purge: 3 files purged" in reported


def test_a_purged_file_tells_what_proved_its_backup(kraken, short_of_space):
    kraken("purge", "--instrument", "thermo1", "--delete", exit_code=1)
    shown = json.loads(kraken("show", "a.raw", "--json"))
    assert shown["instrument_file"] == "purged"
    reasons = [event["reason"] for event in shown["history"]]
    assert any("every byte of them and of the backup read" in str(reason) for reason in reasons)
