"""The step `backup` when something is wrong: what is recorded, what is tried again, what not."""

import os
from datetime import timedelta

import pytest

from kraken_dagster.acquisition.watch import due_for_backup
from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.backup.outcome import BackupOutcome
from kraken_dagster.fs.stores.marker import MARKER_NAME
from kraken_dagster.model.errors import (
    BackupConflict,
    DigestMismatch,
    LeaseHeld,
    SourceChanged,
    SourceMissing,
    StoreUnavailable,
    UnsafePath,
)
from kraken_dagster.model.raw_file import Status
from kraken_dagster.operations.retry import retry
from kraken_dagster_tests.support.fakes import stumbling
from kraken_dagster_tests.support.helpers import (
    Bench,
    acquire,
    finish,
    lease,
    manifest_holds,
)


@pytest.fixture
def thermo(world):
    return Bench(world, "thermo1")


@pytest.fixture
def ended(world, thermo):
    """The path of a file whose acquisition is over."""
    path = thermo.write("x.raw")
    finish(world, "thermo1")
    return path


def copied(world, name: str = "x.raw", **options) -> BackupOutcome:
    return back_up(world, name, run_id="run-1", options=BackupOptions(**options), by_hand=False)


def stored(world, name: str = "x.raw"):
    return world.store.raw_files.get(name)


def something_else(world, name: str = "x.raw"):
    """A path in the backup where something else stands already."""
    target = world.backup_folder(stored(world, name)) / name
    target.parent.mkdir(parents=True)
    target.write_bytes(b"something else")
    return target


def test_something_else_in_the_backup_is_never_overwritten_and_the_message_says_what_to_do(
    world, ended
):
    target = something_else(world)
    with pytest.raises(BackupConflict):
        copied(world)
    raw_file = stored(world)
    assert target.read_bytes() == b"something else"
    assert [path.name for path in target.parent.iterdir()] == ["x.raw"]
    assert (raw_file.status, raw_file.backup_status) == (Status.ERROR, "copying_failed")
    assert (raw_file.file_info, raw_file.lease) == ({}, None)
    assert "set backup_overwrite_file_id" in raw_file.status_details


def test_a_file_goes_through_by_itself_once_a_person_has_moved_something_else_away(world, ended):
    target = something_else(world)
    with pytest.raises(BackupConflict):
        copied(world)
    target.rename(target.with_name("moved by hand"))
    world.now.forward(minutes=31)
    (due,) = due_for_backup(world.store, "thermo1", world.now())
    assert copied(world, due.id).reason == "copied and verified"


@pytest.mark.parametrize("option", ["x.raw", "INSTRUMENT_thermo1"])
def test_something_else_in_the_backup_is_moved_aside_where_the_option_says_so(world, ended, option):
    target = something_else(world)
    with pytest.raises(BackupConflict):
        copied(world, backup_overwrite_file_id="another.raw")
    retry(world, "x.raw", asked_by="a person")
    assert [item.id for item in due_for_backup(world.store, "thermo1", world.now())] == ["x.raw"]
    outcome = copied(world, backup_overwrite_file_id=option)
    aside = target.with_name("x.raw.1.alphakraken.bkp")
    assert outcome.set_aside == (aside,)
    assert aside.read_bytes() == b"something else"
    assert target.read_bytes() == ended.read_bytes()
    assert manifest_holds(target.parent, "x.raw.md5")
    copying = next(e for e in reversed(stored(world).history) if e["to"] == "copying")
    assert copying["options"] == {"backup_overwrite_file_id": option}


def test_another_bruker_folder_in_the_backup_is_moved_aside_as_a_whole(world):
    acquire(world, "bruker1", "x.d")
    finish(world, "bruker1")
    target = world.backup_folder(stored(world, "x.d")) / "x.d"
    target.mkdir(parents=True)
    (target / "analysis.tdf").write_bytes(b"something else")
    with pytest.raises(BackupConflict):
        copied(world, "x.d")
    assert (target / "analysis.tdf").read_bytes() == b"something else"
    copied(world, "x.d", backup_overwrite_file_id="x.d")
    aside = target.with_name("x.d.1.alphakraken.bkp")
    assert (aside / "analysis.tdf").read_bytes() == b"something else"
    assert manifest_holds(target.parent, "x.d.md5")


def test_a_file_that_vanished_is_tried_again_and_goes_through_once_it_is_back(world, ended):
    away = ended.rename(ended.with_name("hidden"))
    with pytest.raises(SourceMissing):
        copied(world)
    raw_file = stored(world)
    assert (raw_file.status, raw_file.failures) == (Status.ERROR, 1)
    assert raw_file.retry_at == world.now() + timedelta(seconds=60)
    assert due_for_backup(world.store, "thermo1", world.now()) == []
    away.rename(ended)
    world.now.forward(seconds=60)
    (due,) = due_for_backup(world.store, "thermo1", world.now())
    assert copied(world, due.id).done
    raw_file = stored(world)
    assert (raw_file.status, raw_file.failures, raw_file.retry_at) == (
        Status.COPYING_DONE,
        0,
        None,
    )


def test_the_wait_for_the_next_try_doubles_up_to_half_an_hour(world, ended):
    ended.unlink()
    waits = []
    for _ in range(8):
        with pytest.raises(SourceMissing):
            copied(world)
        waits.append((stored(world).retry_at - world.now()).total_seconds())
        world.now.forward(minutes=31)
    assert waits == [60, 120, 240, 480, 960, 1800, 1800, 1800]


def test_a_file_that_grew_after_its_acquisition_had_ended_is_refused_until_it_stands_still(
    world, thermo, ended
):
    for size in (200, 300):
        thermo.write("x.raw", size)
        with pytest.raises(SourceChanged, match=f"{size} bytes"):
            copied(world)
        raw_file = stored(world)
        assert (raw_file.status, raw_file.acquisition["ended_size"]) == (Status.ERROR, size)
        assert raw_file.retry_at is not None
    assert not any(world.config.locations.backup.path.rglob("*.raw"))
    assert copied(world).done
    assert stored(world).file_info["x.raw"].size == 300


def test_a_file_that_the_instrument_renamed_is_not_copied_and_has_failed(world, thermo):
    path = thermo.write("x.raw")
    thermo.look()
    path.rename(path.with_name("x_CORRUPTED.raw"))
    thermo.look(minutes=1)
    outcome = copied(world)
    raw_file = stored(world)
    assert (outcome.done, outcome.reason) == (False, "File got renamed: x_CORRUPTED.raw")
    assert (raw_file.status, raw_file.status_details) == (
        Status.ACQUISITION_FAILED,
        "File got renamed: x_CORRUPTED.raw",
    )
    assert (raw_file.backup_status, raw_file.instrument_file_status) == ("skipped", "renamed")
    assert [it.name for it in world.config.locations.backup.path.iterdir()] == [MARKER_NAME]


def test_a_folder_without_any_file_is_not_copied_and_has_failed(world):
    bruker = Bench(world, "bruker1")
    (bruker.folder / "x.d").mkdir()
    bruker.look()
    bruker.look(minutes=120)
    outcome = copied(world, "x.d")
    raw_file = stored(world, "x.d")
    assert (outcome.done, raw_file.status) == (False, Status.ACQUISITION_FAILED)
    assert raw_file.status_details == "Main file was not created: analysis.tdf_bin"
    assert (raw_file.backup_status, raw_file.instrument_file_status) == ("skipped", "initial")
    assert due_for_backup(world.store, "bruker1", world.now()) == []


def test_a_folder_without_its_main_file_is_backed_up_as_far_as_it_is_there(world):
    acquire(world, "bruker1", "x.d", outcome="no_main_file")
    bruker = Bench(world, "bruker1")
    bruker.look()
    bruker.look(minutes=120)
    assert copied(world, "x.d").done
    assert "x.d/analysis.tdf" in stored(world, "x.d").file_info
    assert "x.d/analysis.tdf_bin" not in stored(world, "x.d").file_info


def test_a_link_within_a_raw_file_is_refused_and_waits_for_a_person(world, tmp_path):
    bruker = Bench(world, "bruker1")
    bruker.write("x.d")
    (tmp_path / "elsewhere").write_bytes(b"not the instrument's")
    (bruker.folder / "x.d" / "link").symlink_to(tmp_path / "elsewhere")
    finish(world, "bruker1")
    with pytest.raises(UnsafePath):
        copied(world, "x.d")
    raw_file = stored(world, "x.d")
    assert (raw_file.status, raw_file.retry_at) == (Status.ERROR, None)
    assert "x.d/link" in raw_file.status_details
    assert not any(world.config.locations.backup.path.rglob("x.d"))


@pytest.mark.parametrize("instrument_id", ["bruker1", "sciex1"])
def test_a_member_whose_name_is_no_utf8_is_refused_and_waits_for_a_person(world, instrument_id):
    bench = Bench(world, instrument_id)
    name, member = {"bruker1": ("x.d", b"x.d/\xff"), "sciex1": ("x.wiff", b"x.\xff")}[instrument_id]
    bench.write(name)
    if instrument_id == "sciex1":
        (bench.folder / "x.wiff.scan").write_bytes(b"x" * 200)
    (bench.folder / os.fsdecode(member)).write_bytes(b"named in another encoding")
    finish(world, instrument_id)
    with pytest.raises(UnsafePath, match="UTF-8"):
        copied(world, name)
    raw_file = stored(world, name)
    assert (raw_file.status, raw_file.retry_at) == (Status.ERROR, None)
    assert r"\udcff" in raw_file.status_details


def test_a_run_that_meets_another_on_the_same_file_ends_at_once(world, ended):
    world.store.raw_files.take_lease(
        "x.raw", lease(until=world.now() + timedelta(seconds=90)), now=world.now()
    )
    before = stored(world)
    with pytest.raises(LeaseHeld, match="run run-1 on pc7"):
        back_up(world, "x.raw", run_id="run-2", options=BackupOptions())
    assert stored(world) == before


def test_checksums_that_were_recorded_differently_are_kept_and_wait_for_a_person(world, ended):
    recorded = {"x.raw": [100.0, "0" * 32]}
    world.store.raw_files.update(
        stored(world), {"file_info": recorded}, now=world.now(), note="by another program"
    )
    with pytest.raises(DigestMismatch):
        copied(world)
    raw_file = stored(world)
    assert (raw_file.status, raw_file.retry_at) == (Status.ERROR, None)
    assert raw_file.file_info["x.raw"].md5 == "0" * 32
    assert "set checksum_overwrite_file_id" in raw_file.status_details
    assert copied(world, checksum_overwrite_file_id="x.raw").done
    assert stored(world).file_info["x.raw"].md5 != "0" * 32


@pytest.mark.parametrize("instrument_id", ["thermo1", "bruker1"])
def test_a_run_may_die_after_any_call_to_mongodb_and_the_next_one_completes_it(
    world, instrument_id
):
    name = {"thermo1": "x.raw", "bruker1": "x.d"}[instrument_id]
    acquire(world, instrument_id, name)
    finish(world, instrument_id)
    calls = 0
    while True:
        (due,) = due_for_backup(world.store, instrument_id, world.now())
        try:
            copied(stumbling(world, calls), due.id)
        except StoreUnavailable:
            calls += 1
            world.now.forward(seconds=91)  # the dead run's lease lapses
        if stored(world, name).is_backed_up:
            break
    assert calls >= 4
    raw_file = stored(world, name)
    assert raw_file.status is Status.COPYING_DONE
    folder = world.backup_folder(raw_file)
    assert sorted(path.name for path in folder.iterdir()) == [name, f"{name}.md5"]
    assert manifest_holds(folder, f"{name}.md5")
