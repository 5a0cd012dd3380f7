"""Backups that are copied out."""

import os

import pytest

from kraken_dagster.backup.restore import restore
from kraken_dagster.model.errors import (
    BackupDamaged,
    BackupUnwritable,
    ConfigError,
    NotRecorded,
    RestoreRefused,
    UnknownRawFile,
    UnsafePath,
)
from kraken_dagster.model.raw_file import Status
from kraken_dagster_tests.retention.retention_cases import (
    INSTRUMENTS,
    content,
    created,
    done,
    fields,
    files_in,
    flip_a_bit,
    move_all,
    moved,
    purge_all,
)
from kraken_dagster_tests.support.helpers import acquire, finish


@pytest.fixture
def target(tmp_path):
    folder = tmp_path / "restored"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(("instrument_id", "name"), INSTRUMENTS.items())
def test_a_purged_file_comes_back_byte_by_byte_with_its_times(
    services, target, instrument_id, name
):
    done(services, instrument_id, name)
    folder = services.instrument_folder(instrument_id)
    before = files_in(folder)
    times = {path: (folder / path).stat().st_mtime_ns for path in before}
    moved_and_purged(services, instrument_id, name)
    store = content(services.config.locations.backup.path)
    result = restore(services, name, target)
    assert files_in(target) == before
    assert {path: (target / path).stat().st_mtime_ns for path in before} == times
    assert (result.copied, result.proven) == (len(before), 0)
    assert content(services.config.locations.backup.path) == store


def moved_and_purged(services, instrument_id: str, name: str) -> None:
    assert [item.moved for item in move_all(services, instrument_id)] == [True]
    created(services, name, days_ago=30)
    assert len(purge_all(services, instrument_id).deleted) == 1


def test_what_is_there_already_is_proven_and_what_is_missing_added(services, target):
    done(services, "sciex1", "x.wiff")
    restore(services, "x.wiff", target)
    (target / "x.wiff.scan").unlink()
    result = restore(services, "x.wiff", target)
    assert (result.copied, result.proven) == (1, len(files_in(target)) - 1)


@pytest.mark.parametrize("name", ["x.raw", "x.d"])
def test_something_else_under_that_name_is_never_replaced(services, target, name):
    done(services, "thermo1" if name == "x.raw" else "bruker1", name)
    (target / name).write_text("a stranger's")
    with pytest.raises(RestoreRefused, match="something else"):
        restore(services, name, target)
    assert (target / name).read_text() == "a stranger's"


def test_no_id_and_no_link_leads_out_of_the_folder(services, target, tmp_path):
    raw_file = moved(services, "thermo1", "a.raw")
    backup = services.backup_folder(raw_file)
    (backup / "sub").mkdir()
    (backup / "a.raw").rename(backup / "sub" / "a.raw")
    document = {**fields(services, "a.raw"), "_id": "sub/a.raw"}
    document["file_info"] = {"sub/a.raw": document["file_info"]["a.raw"]}
    services.store._database["raw_file"].insert_one(document)
    outside = tmp_path / "outside"
    outside.mkdir()
    (target / "sub").symlink_to(outside)
    with pytest.raises(UnsafePath):
        restore(services, "sub/a.raw", target)
    assert content(outside) == {}


def test_a_file_of_an_instrument_that_is_not_configured_any_more_is_told(
    services, make_services, target
):
    done(services, "thermo1", "a.raw")
    with pytest.raises(ConfigError, match=r"not in instruments\.yaml: 'thermo1'"):
        restore(make_services(services.config.only({"bruker1"})), "a.raw", target)


@pytest.mark.parametrize("damage", [flip_a_bit, lambda path: path.unlink()])
def test_a_damaged_backup_is_not_copied_out(services, target, damage):
    raw_file = moved(services, "bruker1", "x.d")
    damage(services.backup_folder(raw_file) / "x.d" / "analysis.tdf")
    with pytest.raises(BackupDamaged):
        restore(services, "x.d", target)
    assert os.listdir(target) == []


def test_the_status_does_not_matter_as_long_as_there_is_a_record(services, target):
    raw_file = done(services, "thermo1", "x.raw")
    services.store.raw_files.transition(
        raw_file, Status.ERROR, now=services.now(), reason="whatever"
    )
    assert restore(services, "x.raw", target).copied == 1


def test_without_a_record_or_a_folder_or_the_store_it_is_refused_in_words(services, target):
    acquire(services, "thermo1", "new.raw")
    finish(services, "thermo1")
    with pytest.raises(NotRecorded, match="no backup of this file yet"):
        restore(services, "new.raw", target)
    with pytest.raises(UnknownRawFile):
        restore(services, "nobody.raw", target)
    done(services, "thermo1", "x.raw")
    with pytest.raises(RestoreRefused, match="not a folder"):
        restore(services, "x.raw", target / "missing")
    root = services.config.locations.backup.path
    root.rename(root.with_name("away"))
    with pytest.raises(BackupUnwritable):
        restore(services, "x.raw", target)
    assert os.listdir(target) == []


def test_nothing_is_copied_out_into_the_backup_store_itself(services, target):
    done(services, "thermo1", "x.raw")
    root = services.config.locations.backup.path
    before = sorted(root.rglob("*"))
    (target / "link").symlink_to(root)
    for folder in (root, root / "thermo1", target / "link"):
        with pytest.raises(RestoreRefused, match="a folder of the backup store"):
            restore(services, "x.raw", folder)
    assert sorted(root.rglob("*")) == before


def test_a_folder_that_refuses_is_not_called_the_backup_store(services, target, monkeypatch):
    def refusing(*_args, **_kwargs):
        raise BackupUnwritable("The backup store refuses", found="Permission denied")

    done(services, "thermo1", "x.raw")
    monkeypatch.setattr("kraken_dagster.backup.restore.copy_members", refusing)
    with pytest.raises(RestoreRefused, match="The folder refuses: Permission denied"):
        restore(services, "x.raw", target)
