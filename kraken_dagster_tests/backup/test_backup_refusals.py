"""What a backup refuses rather than guess: stores that are away, others' folders, doubtful ends."""

import shutil
from pathlib import Path

import pytest

from kraken_dagster.acquisition.watch import due_for_backup
from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.backup.copier import CopyPlan, copy_members
from kraken_dagster.backup.outcome import BackupOutcome
from kraken_dagster.fs.stores.manifest import write_manifest
from kraken_dagster.model.errors import BackupConflict, Lasting, StoreAway, Unexpected
from kraken_dagster.model.raw_file import FileFact, Status, Step
from kraken_dagster.runtime.leases import holding
from kraken_dagster.runtime.services import World
from kraken_dagster_tests.support.helpers import Bench, acquire, backed_up, finish, manifest_holds


def ask(world: World, name: str) -> BackupOutcome:
    return back_up(world, name, run_id="run", options=BackupOptions(), by_hand=False)


def test_a_backup_store_that_is_not_mounted_is_never_made_up(world):
    acquire(world, "thermo1", "x.raw")
    finish(world, "thermo1")
    root = world.config.locations.backup.path
    root.rename(root.with_name("unmounted"))
    with pytest.raises(StoreAway, match="mount it"):
        ask(world, "x.raw")
    assert not root.exists()
    assert world.store.raw_files.get("x.raw").status is Status.MONITORING_DONE
    root.with_name("unmounted").rename(root)
    assert ask(world, "x.raw").raw_file.status is Status.COPYING_DONE


def test_an_output_that_is_not_mounted_is_never_made_up(world):
    from kraken_dagster_tests.support.helpers import tick

    backed_up(world, "bruker1", "x.d")
    root = world.config.locations.output.path
    shutil.rmtree(root)
    with pytest.raises(StoreAway):
        tick(world)
    assert not root.exists()


def test_somebodys_file_under_the_manifests_name_is_moved_aside_and_kept(world):
    acquire(world, "thermo1", "x.raw")
    finish(world, "thermo1")
    raw_file = world.store.raw_files.get("x.raw")
    folder = world.backup_folder(raw_file)
    folder.mkdir(parents=True)
    (folder / "x.raw.md5").write_text("somebody's")
    ask(world, "x.raw")
    assert manifest_holds(folder, "x.raw.md5")
    assert (folder / "x.raw.md5.1.alphakraken.bkp").read_text() == "somebody's"


def test_a_member_that_has_the_manifests_name_is_backed_up_and_keeps_it(world):
    bench = Bench(world, "sciex1")
    bench.write("s.wiff")
    (bench.folder / "s.wiff.scan").write_bytes(b"s" * 200)
    (bench.folder / "s.wiff.md5").write_bytes(b"the instrument's own")
    for minutes in (0, 61, 61):
        bench.look(minutes=minutes)
    folder = world.backup_folder(ask(world, "s.wiff").raw_file)
    assert (folder / "s.wiff.md5").read_bytes() == b"the instrument's own"
    assert manifest_holds(folder, "s.wiff.kraken.md5")


def test_a_manifest_that_is_there_already_is_left_untouched(tmp_path):
    facts = {"x.raw": FileFact(size=1, md5="0" * 32)}
    path = write_manifest(tmp_path, "x.raw", facts)
    before = path.stat()
    assert write_manifest(tmp_path, "x.raw", facts) == path
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert [item.name for item in tmp_path.iterdir()] == ["x.raw.md5"]


@pytest.mark.parametrize("other", ["same size", "another size", "one more file"])
def test_nothing_is_mixed_into_a_folder_of_somebody_else(tmp_path: Path, other: str):
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "x.d").mkdir(parents=True)
    (target / "x.d").mkdir(parents=True)
    for name in ("a", "b", "z"):
        (source / "x.d" / name).write_bytes(b"ours")
    if other == "one more file":
        (target / "x.d" / "more").write_bytes(b"theirs")
    else:
        (target / "x.d" / "z").write_bytes(b"them" if other == "same size" else b"others")
    before = {path.name for path in (target / "x.d").iterdir()}
    names = [f"x.d/{name}" for name in ("a", "b", "z")]
    plan = CopyPlan(source, target, {name: name for name in names}, "x.d", True)
    with pytest.raises(BackupConflict):
        copy_members(plan, list_members=lambda: names, still_ours=lambda: True)
    assert {path.name for path in (target / "x.d").iterdir()} == before


def test_a_file_that_came_back_after_it_vanished_is_watched_before_it_is_copied(world):
    bench = Bench(world, "thermo1")
    path = bench.write("x.raw")
    bench.write("other.raw")  # an empty folder would tell nothing
    bench.look()
    path.unlink()
    bench.look(minutes=1)
    bench.look(minutes=121)
    assert world.store.raw_files.get("x.raw").status is Status.MONITORING_DONE
    bench.write("x.raw", 26)
    outcome = ask(world, "x.raw")
    assert outcome.raw_file.status is Status.QUEUED_FOR_MONITORING
    assert outcome.raw_file.file_info == {}
    bench.write("x.raw", 5000)
    for _ in range(3):
        bench.look(minutes=61)
    assert ask(world, "x.raw").raw_file.size == 5000


def test_a_file_that_was_aborted_and_deleted_ends_as_failed(world):
    bench = Bench(world, "thermo1")
    path = bench.write("x.raw")
    bench.write("other.raw")  # an empty folder would tell nothing
    bench.look()
    path.unlink()
    bench.look(minutes=1)
    bench.look(minutes=121)
    assert ask(world, "x.raw").raw_file.status is Status.ACQUISITION_FAILED
    bench.write("x.raw", 7)
    assert [item.original_name for item in bench.look(minutes=1).registered] == ["x.raw"]


def test_a_scan_file_that_still_grows_keeps_its_acquisition_open(world):
    bench = Bench(world, "sciex1")
    bench.write("s.wiff")
    for number in range(6):
        (bench.folder / "s.wiff.scan").write_bytes(b"s" * (200 + number))
        bench.look(minutes=61)
    assert world.store.raw_files.get("s.wiff").status is Status.MONITORING_ACQUISITION


def test_a_folder_beside_a_sciex_file_holds_up_nothing(world):
    bench = Bench(world, "sciex1")
    bench.write("s.wiff")
    (bench.folder / "s.wiff.scan").write_bytes(b"s" * 200)
    (bench.folder / "s.results").mkdir()
    for minutes in (0, 61, 61):
        bench.look(minutes=minutes)
    assert set(ask(world, "s.wiff").facts) == {"s.wiff", "s.wiff.scan"}


def test_a_lease_is_lost_by_its_holders_own_clock_too(world):
    acquire(world, "thermo1", "x.raw")
    finish(world, "thermo1")
    with holding(world, "x.raw", step=Step.BACKUP, run_id="run") as held:
        assert held.still_ours()
        world.now.forward(seconds=91)  # as if the process had been stopped meanwhile
        assert not held.still_ours()


def test_an_error_that_nobody_foresaw_is_in_mongodb_too(world, monkeypatch):
    acquire(world, "bruker1", "x.d")
    finish(world, "bruker1")

    def broken(*_args, **_kwargs):
        raise ZeroDivisionError("a fault in a library")

    acquire(world, "sciex1", "s.wiff")
    finish(world, "sciex1")
    monkeypatch.setattr("kraken_dagster.backup.source.names_of_files", broken)
    with pytest.raises(Unexpected, match="ZeroDivisionError"):
        ask(world, "s.wiff")
    raw_file = world.store.raw_files.get("s.wiff")
    assert raw_file.status is Status.ERROR
    assert "a fault in a library" in raw_file.status_details
    assert raw_file.retry_at is not None


def test_one_document_that_can_not_be_read_holds_up_no_other(world, mongodb_uri):
    import pymongo

    acquire(world, "thermo1", "good.raw")
    acquire(world, "thermo1", "odd.raw", seed=8)
    finish(world, "thermo1")
    with pymongo.MongoClient(mongodb_uri) as client:
        files = client.get_default_database()["raw_file"]
        files.update_one({"_id": "odd.raw"}, {"$set": {"backup_status": "no such status"}})
    finish(world, "thermo1")
    due = due_for_backup(world.store, "thermo1", world.now())
    assert [item.id for item in due] == ["good.raw"]
    assert "backup_status" in world.store.raw_files.get("odd.raw").status_details


def test_an_error_that_nobody_has_sorted_is_tried_a_few_times_and_then_waits(world, monkeypatch):
    acquire(world, "sciex1", "s.wiff")
    finish(world, "sciex1")

    def broken(*_args, **_kwargs):
        raise ZeroDivisionError("a fault in a library")

    monkeypatch.setattr("kraken_dagster.backup.source.names_of_files", broken)
    tries = 0
    while due_for_backup(world.store, "sciex1", world.now()):
        with pytest.raises(Unexpected):
            ask(world, "s.wiff")
        world.now.forward(minutes=31)
        tries += 1
    raw_file = world.store.raw_files.get("s.wiff")
    assert (tries, raw_file.status, raw_file.retry_at) == (5, Status.ERROR, None)
    assert "kraken retry" in raw_file.status_details


def test_an_unsorted_error_between_others_does_not_count_with_earlier_ones(world, monkeypatch):
    acquire(world, "sciex1", "s.wiff")
    finish(world, "sciex1")
    error: Exception = ZeroDivisionError("a fault in a library")

    def broken(*_args, **_kwargs):
        raise error

    monkeypatch.setattr("kraken_dagster.backup.source.names_of_files", broken)
    for number in range(12):
        error = OSError(116, "Stale file handle") if number % 4 == 3 else ZeroDivisionError("odd")
        with pytest.raises(Unexpected):
            ask(world, "s.wiff")
        assert world.store.raw_files.get("s.wiff").retry_at is not None


def test_an_error_that_time_does_not_cure_waits_at_once(world, monkeypatch):
    acquire(world, "sciex1", "s.wiff")
    finish(world, "sciex1")

    def broken(*_args, **_kwargs):
        raise OverflowError("a number of more than 64 bits")

    monkeypatch.setattr("kraken_dagster.backup.source.names_of_files", broken)
    with pytest.raises(Lasting):
        ask(world, "s.wiff")
    raw_file = world.store.raw_files.get("s.wiff")
    assert (raw_file.status, raw_file.retry_at) == (Status.ERROR, None)
    assert "OverflowError" in raw_file.status_details
