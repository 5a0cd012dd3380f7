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
def thermo(services):
    return Bench(services, "thermo1")


@pytest.fixture
def ended(services, thermo):
    """The path of a file whose acquisition is over."""
    path = thermo.write("x.raw")
    finish(services, "thermo1")
    return path


def copied(services, name: str = "x.raw", **options) -> BackupOutcome:
    return back_up(services, name, run_id="run-1", options=BackupOptions(**options), by_hand=False)


def stored(services, name: str = "x.raw"):
    return services.store.raw_files.get(name)


def something_else(services, name: str = "x.raw"):
    """A path in the backup where something else stands already."""
    target = services.backup_folder(stored(services, name)) / name
    target.parent.mkdir(parents=True)
    target.write_bytes(b"something else")
    return target


def test_something_else_in_the_backup_is_never_overwritten_and_the_message_says_what_to_do(
    services, ended
):
    target = something_else(services)
    with pytest.raises(BackupConflict):
        copied(services)
    raw_file = stored(services)
    assert target.read_bytes() == b"something else"
    assert [path.name for path in target.parent.iterdir()] == ["x.raw"]
    assert (raw_file.status, raw_file.backup_status) == (Status.ERROR, "copying_failed")
    assert (raw_file.file_info, raw_file.lease) == ({}, None)
    assert "set backup_overwrite_file_id" in raw_file.status_details


def test_a_file_goes_through_by_itself_once_a_person_has_moved_something_else_away(services, ended):
    target = something_else(services)
    with pytest.raises(BackupConflict):
        copied(services)
    target.rename(target.with_name("moved by hand"))
    services.now.forward(minutes=31)
    (due,) = due_for_backup(services.store, "thermo1", services.now())
    assert copied(services, due.id).reason == "copied and verified"


@pytest.mark.parametrize("option", ["x.raw", "INSTRUMENT_thermo1"])
def test_something_else_in_the_backup_is_moved_aside_where_the_option_says_so(
    services, ended, option
):
    target = something_else(services)
    with pytest.raises(BackupConflict):
        copied(services, backup_overwrite_file_id="another.raw")
    retry(services, "x.raw", asked_by="a person")
    assert [item.id for item in due_for_backup(services.store, "thermo1", services.now())] == [
        "x.raw"
    ]
    outcome = copied(services, backup_overwrite_file_id=option)
    aside = target.with_name("x.raw.1.alphakraken.bkp")
    assert outcome.set_aside == (aside,)
    assert aside.read_bytes() == b"something else"
    assert target.read_bytes() == ended.read_bytes()
    assert manifest_holds(target.parent, "x.raw.md5")
    copying = next(e for e in reversed(stored(services).history) if e["to"] == "copying")
    assert copying["options"] == {"backup_overwrite_file_id": option}


def test_another_bruker_folder_in_the_backup_is_moved_aside_as_a_whole(services):
    acquire(services, "bruker1", "x.d")
    finish(services, "bruker1")
    target = services.backup_folder(stored(services, "x.d")) / "x.d"
    target.mkdir(parents=True)
    (target / "analysis.tdf").write_bytes(b"something else")
    with pytest.raises(BackupConflict):
        copied(services, "x.d")
    assert (target / "analysis.tdf").read_bytes() == b"something else"
    copied(services, "x.d", backup_overwrite_file_id="x.d")
    aside = target.with_name("x.d.1.alphakraken.bkp")
    assert (aside / "analysis.tdf").read_bytes() == b"something else"
    assert manifest_holds(target.parent, "x.d.md5")


def test_a_file_that_vanished_is_tried_again_and_goes_through_once_it_is_back(services, ended):
    away = ended.rename(ended.with_name("hidden"))
    with pytest.raises(SourceMissing):
        copied(services)
    raw_file = stored(services)
    assert (raw_file.status, raw_file.failures) == (Status.ERROR, 1)
    assert raw_file.retry_at == services.now() + timedelta(seconds=60)
    assert due_for_backup(services.store, "thermo1", services.now()) == []
    away.rename(ended)
    services.now.forward(seconds=60)
    (due,) = due_for_backup(services.store, "thermo1", services.now())
    assert copied(services, due.id).done
    raw_file = stored(services)
    assert (raw_file.status, raw_file.failures, raw_file.retry_at) == (
        Status.COPYING_DONE,
        0,
        None,
    )


def test_the_wait_for_the_next_try_doubles_up_to_half_an_hour(services, ended):
    ended.unlink()
    waits = []
    for _ in range(8):
        with pytest.raises(SourceMissing):
            copied(services)
        waits.append((stored(services).retry_at - services.now()).total_seconds())
        services.now.forward(minutes=31)
    assert waits == [60, 120, 240, 480, 960, 1800, 1800, 1800]


def test_a_file_that_grew_after_its_acquisition_had_ended_is_refused_until_it_stands_still(
    services, thermo, ended
):
    for size in (200, 300):
        thermo.write("x.raw", size)
        with pytest.raises(SourceChanged, match=f"{size} bytes"):
            copied(services)
        raw_file = stored(services)
        assert (raw_file.status, raw_file.acquisition["ended_size"]) == (Status.ERROR, size)
        assert raw_file.retry_at is not None
    assert not any(services.config.locations.backup.path.rglob("*.raw"))
    assert copied(services).done
    assert stored(services).file_info["x.raw"].size == 300


def test_a_file_that_the_instrument_renamed_is_not_copied_and_has_failed(services, thermo):
    path = thermo.write("x.raw")
    thermo.scan()
    path.rename(path.with_name("x_CORRUPTED.raw"))
    thermo.scan(minutes=1)
    outcome = copied(services)
    raw_file = stored(services)
    assert (outcome.done, outcome.reason) == (False, "File got renamed: x_CORRUPTED.raw")
    assert (raw_file.status, raw_file.status_details) == (
        Status.ACQUISITION_FAILED,
        "File got renamed: x_CORRUPTED.raw",
    )
    assert (raw_file.backup_status, raw_file.instrument_file_status) == ("skipped", "renamed")
    assert [it.name for it in services.config.locations.backup.path.iterdir()] == [MARKER_NAME]


def test_a_folder_without_any_file_is_not_copied_and_has_failed(services):
    bruker = Bench(services, "bruker1")
    (bruker.folder / "x.d").mkdir()
    bruker.scan()
    bruker.scan(minutes=120)
    outcome = copied(services, "x.d")
    raw_file = stored(services, "x.d")
    assert (outcome.done, raw_file.status) == (False, Status.ACQUISITION_FAILED)
    assert raw_file.status_details == "Main file was not created: analysis.tdf_bin"
    assert (raw_file.backup_status, raw_file.instrument_file_status) == ("skipped", "initial")
    assert due_for_backup(services.store, "bruker1", services.now()) == []


def test_a_folder_without_its_main_file_is_backed_up_as_far_as_it_is_there(services):
    acquire(services, "bruker1", "x.d", outcome="no_main_file")
    bruker = Bench(services, "bruker1")
    bruker.scan()
    bruker.scan(minutes=120)
    assert copied(services, "x.d").done
    assert "x.d/analysis.tdf" in stored(services, "x.d").file_info
    assert "x.d/analysis.tdf_bin" not in stored(services, "x.d").file_info


def test_a_link_within_a_raw_file_is_refused_and_waits_for_a_person(services, tmp_path):
    bruker = Bench(services, "bruker1")
    bruker.write("x.d")
    (tmp_path / "elsewhere").write_bytes(b"not the instrument's")
    (bruker.folder / "x.d" / "link").symlink_to(tmp_path / "elsewhere")
    finish(services, "bruker1")
    with pytest.raises(UnsafePath):
        copied(services, "x.d")
    raw_file = stored(services, "x.d")
    assert (raw_file.status, raw_file.retry_at) == (Status.ERROR, None)
    assert "x.d/link" in raw_file.status_details
    assert not any(services.config.locations.backup.path.rglob("x.d"))


@pytest.mark.parametrize("instrument_id", ["bruker1", "sciex1"])
def test_a_member_whose_name_is_no_utf8_is_refused_and_waits_for_a_person(services, instrument_id):
    bench = Bench(services, instrument_id)
    name, member = {"bruker1": ("x.d", b"x.d/\xff"), "sciex1": ("x.wiff", b"x.\xff")}[instrument_id]
    bench.write(name)
    if instrument_id == "sciex1":
        (bench.folder / "x.wiff.scan").write_bytes(b"x" * 200)
    (bench.folder / os.fsdecode(member)).write_bytes(b"named in another encoding")
    finish(services, instrument_id)
    with pytest.raises(UnsafePath, match="UTF-8"):
        copied(services, name)
    raw_file = stored(services, name)
    assert (raw_file.status, raw_file.retry_at) == (Status.ERROR, None)
    assert r"\udcff" in raw_file.status_details


def test_a_run_that_meets_another_on_the_same_file_ends_at_once(services, ended):
    services.store.raw_files.take_lease(
        "x.raw", lease(until=services.now() + timedelta(seconds=90)), now=services.now()
    )
    before = stored(services)
    with pytest.raises(LeaseHeld, match="run run-1 on pc7"):
        back_up(services, "x.raw", run_id="run-2", options=BackupOptions())
    assert stored(services) == before


def test_checksums_that_were_recorded_differently_are_kept_and_wait_for_a_person(services, ended):
    recorded = {"x.raw": [100.0, "0" * 32]}
    services.store.raw_files.update(
        stored(services), {"file_info": recorded}, now=services.now(), note="by another program"
    )
    with pytest.raises(DigestMismatch):
        copied(services)
    raw_file = stored(services)
    assert (raw_file.status, raw_file.retry_at) == (Status.ERROR, None)
    assert raw_file.file_info["x.raw"].md5 == "0" * 32
    assert "set checksum_overwrite_file_id" in raw_file.status_details
    assert copied(services, checksum_overwrite_file_id="x.raw").done
    assert stored(services).file_info["x.raw"].md5 != "0" * 32


@pytest.mark.parametrize("instrument_id", ["thermo1", "bruker1"])
def test_a_run_may_die_after_any_call_to_mongodb_and_the_next_one_completes_it(
    services, instrument_id
):
    name = {"thermo1": "x.raw", "bruker1": "x.d"}[instrument_id]
    acquire(services, instrument_id, name)
    finish(services, instrument_id)
    calls = 0
    while True:
        (due,) = due_for_backup(services.store, instrument_id, services.now())
        try:
            copied(stumbling(services, calls), due.id)
        except StoreUnavailable:
            calls += 1
            services.now.forward(seconds=91)  # the dead run's lease lapses
        if stored(services, name).is_backed_up:
            break
    assert calls >= 4
    raw_file = stored(services, name)
    assert raw_file.status is Status.COPYING_DONE
    folder = services.backup_folder(raw_file)
    assert sorted(path.name for path in folder.iterdir()) == [name, f"{name}.md5"]
    assert manifest_holds(folder, f"{name}.md5")
