"""Archiving: what is due, and what becomes of it."""

import pytest

from kraken_dagster.acquisition.watch import look_at
from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.fs.dir_handles import Folder
from kraken_dagster.model.raw_file import InstrumentFileStatus, Status
from kraken_dagster.retention.archiving.archive import ArchiveOptions, archive_members, due_for_move
from kraken_dagster_tests.retention.retention_cases import (
    INSTRUMENTS,
    aside,
    done,
    files_in,
    move_all,
    notes,
)
from kraken_dagster_tests.support.helpers import acquire, backed_up, finish


@pytest.mark.parametrize(("instrument_id", "name"), INSTRUMENTS.items())
def test_a_backed_up_file_is_renamed_into_backup_under_its_id(services, instrument_id, name):
    done(services, instrument_id, name)
    folder = services.instrument_folder(instrument_id)
    before = files_in(folder)
    inodes = {path.stat().st_ino for path in folder.rglob("*")}
    (outcome,) = move_all(services, instrument_id)
    assert outcome.moved, outcome.reason
    assert files_in(aside(services, instrument_id)) == before
    assert sorted(path.name for path in folder.iterdir()) == ["Backup"]
    assert inodes == {path.stat().st_ino for path in aside(services, instrument_id).rglob("*")}
    after = services.store.raw_files.get(name)
    assert after.instrument_file_status is InstrumentFileStatus.MOVED
    assert after.status is Status.DONE_NOT_QUANTED
    assert after.lease is None
    assert "archived to Backup/" in notes(after)[-1]


def test_a_flagged_file_gets_its_id_in_backup_and_both_are_kept(services):
    done(services, "thermo1", "x.raw")
    move_all(services, "thermo1")
    acquire(services, "thermo1", "x.raw", seed=8, size_bytes=60_000)
    (second,) = look_at(services, "thermo1").registered
    finish(services, "thermo1")
    back_up(services, second.id, run_id="b", options=BackupOptions())
    services.now.forward(minutes=6)
    (outcome,) = move_all(services, "thermo1")
    assert outcome.moved
    assert sorted(files_in(aside(services, "thermo1"))) == sorted(["x.raw", second.id])


def test_nothing_is_due_before_the_delay_is_over(services):
    backed_up(services, "thermo1", "x.raw")
    now = services.now()
    assert due_for_move(services, "thermo1", now, options=ArchiveOptions()) == []
    assert archive_members(services, "x.raw", run_id="m").reason.startswith("it is not due before")
    services.now.forward(minutes=5)
    (found,) = due_for_move(services, "thermo1", services.now(), options=ArchiveOptions())
    assert found.id == "x.raw"
    assert not aside(services, "thermo1").exists()


@pytest.mark.parametrize("options", [{"move_files": False}, {"file_move_delay_m": -1}])
def test_nothing_is_due_where_moving_is_off(services, options):
    done(services, "thermo1", "x.raw")
    assert move_all(services, "thermo1", **options) == []
    outcome = archive_members(services, "x.raw", run_id="m", options=ArchiveOptions(**options))
    assert not outcome.moved
    assert not aside(services, "thermo1").exists()


def test_the_delay_of_a_document_without_a_time_of_backup_counts_from_its_last_change(services):
    done(services, "thermo1", "x.raw")
    raw_file = services.store.raw_files.get("x.raw")
    now = services.now()
    services.store.raw_files.update(raw_file, {"backed_up_at": None}, now=now, note="AlphaKraken's")
    assert move_all(services, "thermo1") == []
    services.now.forward(minutes=5)
    assert [item.moved for item in move_all(services, "thermo1")] == [True]


def test_a_file_whose_status_alphakraken_calls_new_is_looked_for_too(services):
    done(services, "thermo1", "x.raw")
    collection = services.store._database["raw_file"]
    collection.update_one({"_id": "x.raw"}, {"$set": {"instrument_file_status": "new"}})
    plan = collection.find({"instrument_id": "thermo1", "instrument_file_status": "new"})
    assert [item["_id"] for item in plan] == ["x.raw"]
    found = services.store.retention.to_move("thermo1", now=services.now())
    # A version that can't parse it leaves it out, one that can must find it.
    assert [item.id for item in found] in ([], ["x.raw"])


def test_all_due_files_of_an_instrument_are_moved_in_one_run_oldest_first(services):
    for name in ("b.raw", "a.raw", "c.raw"):
        done(services, "thermo1", name)
    outcomes = move_all(services, "thermo1")
    assert [item.moved for item in outcomes] == [True] * 3
    dates = [item.raw_file.created_at for item in outcomes]
    assert dates == sorted(dates)
    assert move_all(services, "thermo1") == []


def test_a_file_without_a_verified_backup_is_not_moved(services):
    acquire(services, "thermo1", "x.raw")
    finish(services, "thermo1")
    assert move_all(services, "thermo1") == []
    outcome = archive_members(services, "x.raw", run_id="m")
    assert (outcome.moved, "no verified backup" in outcome.reason) == (False, True)


def ignored(services, instrument_id: str, name: str) -> None:
    """An acquisition that is over and ignored."""
    acquire(services, instrument_id, name)
    look_at(services, instrument_id)
    main = services.rules(instrument_id).main_file(name)
    size = (services.instrument_folder(instrument_id) / main).stat().st_size
    services.store.raw_files.transition(
        services.store.raw_files.get(name),
        Status.IGNORED,
        now=services.now(),
        reason="old",
        fields={"acquisition.ended_size": size},
    )
    services.now.forward(minutes=10)


@pytest.mark.parametrize(("instrument_id", "name"), INSTRUMENTS.items())
def test_failed_and_ignored_acquisitions_are_moved_only_if_asked_for(services, instrument_id, name):
    ignored(services, instrument_id, name)
    before = files_in(services.instrument_folder(instrument_id))
    assert move_all(services, instrument_id) == []
    (outcome,) = move_all(services, instrument_id, move_failed=True)
    assert outcome.moved, outcome.reason
    assert files_in(aside(services, instrument_id)) == before
    assert services.store.raw_files.get(name).instrument_file_status is InstrumentFileStatus.MOVED


@pytest.mark.parametrize(("instrument_id", "name"), [("thermo1", "x.raw"), ("bruker1", "x.d")])
def test_nothing_but_the_file_itself_is_looked_at(services, monkeypatch, instrument_id, name):
    """A share with thousands of files answers each look in its own time."""
    ignored(services, instrument_id, name)
    aside(services, instrument_id).mkdir()
    for number in range(5):
        (aside(services, instrument_id) / f"{number}.old").write_bytes(b"")
        (services.instrument_folder(instrument_id) / f"{number}.old").write_bytes(b"")
    looked: list[str] = []
    real = Folder.stat

    def stat(folder: Folder, name: str):
        looked.append(name)
        return real(folder, name)

    monkeypatch.setattr(Folder, "stat", stat)
    (outcome,) = move_all(services, instrument_id, move_failed=True)
    assert outcome.moved
    assert not [item for item in looked if item.endswith(".old")]


def test_a_failed_acquisition_of_which_nothing_is_left_is_recorded_as_such_once(services):
    ignored(services, "thermo1", "x.raw")
    folder = services.instrument_folder("thermo1")
    (folder / "x.raw").rename(folder / "kept for other reasons")
    (outcome,) = move_all(services, "thermo1", move_failed=True)
    assert not outcome.moved
    after = services.store.raw_files.get("x.raw")
    assert after.instrument_file_status is InstrumentFileStatus.NOT_APPLICABLE
    assert move_all(services, "thermo1", move_failed=True) == []


def test_what_was_moved_is_no_new_acquisition_and_its_name_is_free_again(services):
    done(services, "sciex1", "x.wiff")
    move_all(services, "sciex1")
    assert look_at(services, "sciex1").registered == ()
    acquire(services, "sciex1", "x.wiff", size_bytes=70_000, seed=3)
    (found,) = look_at(services, "sciex1").registered
    assert found.id != "x.wiff"


def test_only_what_is_in_backup_already_is_recorded_as_moved(services):
    done(services, "thermo1", "x.raw")
    folder = services.instrument_folder("thermo1")
    (folder / "Backup").mkdir()
    (folder / "x.raw").rename(folder / "Backup" / "x.raw")
    (outcome,) = move_all(services, "thermo1")
    assert outcome.moved
    assert "1 in Backup/ already" in outcome.reason


def test_some_companions_that_a_dead_run_moved_are_taken_as_moved(services):
    done(services, "sciex1", "x.wiff")
    folder = services.instrument_folder("sciex1")
    before = files_in(folder)
    (folder / "Backup").mkdir()
    (folder / "x.wiff.scan").rename(folder / "Backup" / "x.wiff.scan")
    (outcome,) = move_all(services, "sciex1")
    assert outcome.moved, outcome.reason
    assert files_in(folder / "Backup") == before
