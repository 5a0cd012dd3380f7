"""What a backup refuses rather than guess: stores that are away, others' folders, doubtful ends."""

import shutil
from pathlib import Path

import pytest

from kraken_dagster.acquisition.watch import due_for_backup
from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.backup.copier import copy_members
from kraken_dagster.backup.copying.plan import CopyPlan
from kraken_dagster.backup.outcome import BackupOutcome
from kraken_dagster.fs.stores.manifest import write_manifests
from kraken_dagster.model.errors import BackupConflict, Lasting, StoreAway, Unexpected
from kraken_dagster.model.raw_file import FileFact, Status, Step
from kraken_dagster.runtime.leases import holding
from kraken_dagster.runtime.services import Services
from kraken_dagster_tests.support.helpers import Bench, acquire, backed_up, finish, manifest_holds


def ask(services: Services, name: str) -> BackupOutcome:
    return back_up(services, name, run_id="run", options=BackupOptions(), by_hand=False)


def test_a_backup_store_that_is_not_mounted_is_never_made_up(services):
    acquire(services, "thermo1", "x.raw")
    finish(services, "thermo1")
    root = services.config.locations.backup.path
    root.rename(root.with_name("unmounted"))
    with pytest.raises(StoreAway, match="mount it"):
        ask(services, "x.raw")
    assert not root.exists()
    assert services.store.raw_files.get("x.raw").status is Status.MONITORING_DONE
    root.with_name("unmounted").rename(root)
    assert ask(services, "x.raw").raw_file.status is Status.COPYING_DONE


def test_an_output_that_is_not_mounted_is_never_made_up(services):
    from kraken_dagster_tests.support.helpers import tick

    backed_up(services, "bruker1", "x.d")
    root = services.config.locations.output.path
    shutil.rmtree(root)
    with pytest.raises(StoreAway):
        tick(services)
    assert not root.exists()


def test_somebodys_file_under_the_manifests_name_is_moved_aside_and_kept(services):
    acquire(services, "thermo1", "x.raw")
    finish(services, "thermo1")
    raw_file = services.store.raw_files.get("x.raw")
    folder = services.backup_folder(raw_file)
    folder.mkdir(parents=True)
    (folder / "x.raw.md5").write_text("somebody's")
    ask(services, "x.raw")
    assert manifest_holds(folder, "x.raw.md5")
    assert (folder / "x.raw.md5.1.alphakraken.bkp").read_text() == "somebody's"


def test_a_member_that_has_the_manifests_name_is_backed_up_and_keeps_it(services):
    bench = Bench(services, "sciex1")
    bench.write("s.wiff")
    (bench.folder / "s.wiff.scan").write_bytes(b"s" * 200)
    (bench.folder / "s.wiff.md5").write_bytes(b"the instrument's own")
    for minutes in (0, 61, 61):
        bench.scan(minutes=minutes)
    folder = services.backup_folder(ask(services, "s.wiff").raw_file)
    assert (folder / "s.wiff.md5").read_bytes() == b"the instrument's own"
    assert manifest_holds(folder, "s.wiff.kraken.md5")


def test_a_manifest_that_is_there_already_is_left_untouched(tmp_path):
    facts = {"x.raw": FileFact(size=1, md5="0" * 32)}
    path = write_manifests(tmp_path, "x.raw", facts)
    before = path.stat()
    assert write_manifests(tmp_path, "x.raw", facts) == path
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


def test_a_file_that_came_back_after_it_vanished_is_watched_before_it_is_copied(services):
    bench = Bench(services, "thermo1")
    path = bench.write("x.raw")
    bench.write("other.raw")  # an empty folder would tell nothing
    bench.scan()
    path.unlink()
    bench.scan(minutes=1)
    bench.scan(minutes=121)
    assert services.store.raw_files.get("x.raw").status is Status.MONITORING_DONE
    bench.write("x.raw", 26)
    outcome = ask(services, "x.raw")
    assert outcome.raw_file.status is Status.QUEUED_FOR_MONITORING
    assert outcome.raw_file.file_info == {}
    bench.write("x.raw", 5000)
    for _ in range(3):
        bench.scan(minutes=61)
    assert ask(services, "x.raw").raw_file.size == 5000


def test_a_file_that_was_aborted_and_deleted_ends_as_failed(services):
    bench = Bench(services, "thermo1")
    path = bench.write("x.raw")
    bench.write("other.raw")  # an empty folder would tell nothing
    bench.scan()
    path.unlink()
    bench.scan(minutes=1)
    bench.scan(minutes=121)
    assert ask(services, "x.raw").raw_file.status is Status.ACQUISITION_FAILED
    bench.write("x.raw", 7)
    assert [item.original_name for item in bench.scan(minutes=1).registered] == ["x.raw"]


def test_a_scan_file_that_still_grows_keeps_its_acquisition_open(services):
    bench = Bench(services, "sciex1")
    bench.write("s.wiff")
    for number in range(6):
        (bench.folder / "s.wiff.scan").write_bytes(b"s" * (200 + number))
        bench.scan(minutes=61)
    assert services.store.raw_files.get("s.wiff").status is Status.MONITORING_ACQUISITION


def test_a_folder_beside_a_sciex_file_holds_up_nothing(services):
    bench = Bench(services, "sciex1")
    bench.write("s.wiff")
    (bench.folder / "s.wiff.scan").write_bytes(b"s" * 200)
    (bench.folder / "s.results").mkdir()
    for minutes in (0, 61, 61):
        bench.scan(minutes=minutes)
    assert set(ask(services, "s.wiff").facts) == {"s.wiff", "s.wiff.scan"}


def test_a_lease_is_lost_by_its_holders_own_clock_too(services):
    acquire(services, "thermo1", "x.raw")
    finish(services, "thermo1")
    with holding(services, "x.raw", step=Step.BACKUP, run_id="run") as held:
        assert held.still_ours()
        services.now.forward(seconds=91)  # as if the process had been stopped meanwhile
        assert not held.still_ours()


def test_an_error_that_nobody_foresaw_is_in_mongodb_too(services, monkeypatch):
    acquire(services, "bruker1", "x.d")
    finish(services, "bruker1")

    def broken(*_args, **_kwargs):
        raise ZeroDivisionError("a fault in a library")

    acquire(services, "sciex1", "s.wiff")
    finish(services, "sciex1")
    monkeypatch.setattr("kraken_dagster.backup.source.names_of_files", broken)
    with pytest.raises(Unexpected, match="ZeroDivisionError"):
        ask(services, "s.wiff")
    raw_file = services.store.raw_files.get("s.wiff")
    assert raw_file.status is Status.ERROR
    assert "a fault in a library" in raw_file.status_details
    assert raw_file.retry_at is not None


def test_one_document_that_can_not_be_read_holds_up_no_other(services, mongodb_uri):
    import pymongo

    acquire(services, "thermo1", "good.raw")
    acquire(services, "thermo1", "odd.raw", seed=8)
    finish(services, "thermo1")
    with pymongo.MongoClient(mongodb_uri) as client:
        files = client.get_default_database()["raw_file"]
        files.update_one({"_id": "odd.raw"}, {"$set": {"backup_status": "no such status"}})
    finish(services, "thermo1")
    due = due_for_backup(services.store, "thermo1", services.now())
    assert [item.id for item in due] == ["good.raw"]
    assert "backup_status" in services.store.raw_files.get("odd.raw").status_details


def test_an_error_that_nobody_has_sorted_is_tried_a_few_times_and_then_waits(services, monkeypatch):
    acquire(services, "sciex1", "s.wiff")
    finish(services, "sciex1")

    def broken(*_args, **_kwargs):
        raise ZeroDivisionError("a fault in a library")

    monkeypatch.setattr("kraken_dagster.backup.source.names_of_files", broken)
    tries = 0
    while due_for_backup(services.store, "sciex1", services.now()):
        with pytest.raises(Unexpected):
            ask(services, "s.wiff")
        services.now.forward(minutes=31)
        tries += 1
    raw_file = services.store.raw_files.get("s.wiff")
    assert (tries, raw_file.status, raw_file.retry_at) == (5, Status.ERROR, None)
    assert "kraken retry" in raw_file.status_details


def test_an_unsorted_error_between_others_does_not_count_with_earlier_ones(services, monkeypatch):
    acquire(services, "sciex1", "s.wiff")
    finish(services, "sciex1")
    error: Exception = ZeroDivisionError("a fault in a library")

    def broken(*_args, **_kwargs):
        raise error

    monkeypatch.setattr("kraken_dagster.backup.source.names_of_files", broken)
    for number in range(12):
        error = OSError(116, "Stale file handle") if number % 4 == 3 else ZeroDivisionError("odd")
        with pytest.raises(Unexpected):
            ask(services, "s.wiff")
        assert services.store.raw_files.get("s.wiff").retry_at is not None


def test_an_error_that_time_does_not_cure_waits_at_once(services, monkeypatch):
    acquire(services, "sciex1", "s.wiff")
    finish(services, "sciex1")

    def broken(*_args, **_kwargs):
        raise OverflowError("a number of more than 64 bits")

    monkeypatch.setattr("kraken_dagster.backup.source.names_of_files", broken)
    with pytest.raises(Lasting):
        ask(services, "s.wiff")
    raw_file = services.store.raw_files.get("s.wiff")
    assert (raw_file.status, raw_file.retry_at) == (Status.ERROR, None)
    assert "OverflowError" in raw_file.status_details
