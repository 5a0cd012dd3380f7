"""A store's mount is lost before, during and after what is done in it: by real mounts.

What is below the mount point, on the system's own disk, never gets a file.
"""

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.backup.restore import restore
from kraken_dagster.backup.scrub import Selection, begin, verify_all
from kraken_dagster.backup.verify import Verdict, verify_backup
from kraken_dagster.fs.rate_limit import RateLimit
from kraken_dagster.fs.stores.marker import MARKER_NAME, Role
from kraken_dagster.model.errors import StoreAway
from kraken_dagster.model.raw_file import InstrumentFileStatus, Status
from kraken_dagster.retention.purge import purge
from kraken_dagster.retention.purge_plan import PurgeOptions
from kraken_dagster.runtime.stores import root_of
from kraken_dagster_tests.retention.retention_cases import EVERYTHING, moved
from kraken_dagster_tests.support.helpers import acquire, backed_up, finish

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
FILES = {"thermo1": "x.raw", "bruker1": "x.d", "sciex1": "x.wiff"}


class Disk:
    """The backup store's file system, which can be mounted and unmounted."""

    def __init__(self, point: Path, disk: Path) -> None:
        self.point, self.disk, self.mounted = point, disk, False
        disk.mkdir()
        shutil.move(point / MARKER_NAME, disk)
        self.mount()

    def mount(self) -> None:
        subprocess.run(["mount", "--bind", self.disk, self.point], check=True)
        self.mounted = True

    def unmount(self) -> None:
        if self.mounted:
            subprocess.run(["umount", "-l", self.point], check=True)
        self.mounted = False

    def files(self) -> set[str]:
        return {path.name for path in self.disk.rglob("*") if path.is_file()}


@pytest.fixture
def disk(services, tmp_path) -> Iterator[Disk]:
    """Whatever a test does, the folder below the mount point stays empty."""
    found = Disk(root_of(services, Role.BACKUP), tmp_path / "disk")
    try:
        yield found
    finally:
        found.unmount()
    assert list(found.point.rglob("*")) == []


def when(services, condition: Callable[[], bool], act: Callable[[], None]):
    """The same world, in which `act` happens once as soon as the condition holds."""
    clock, done, one_at_a_time = services.now, [], threading.Lock()

    def now():  # asked by every thread that copies
        with one_at_a_time:
            if not done and condition():
                done.append(True)
                act()
        return clock()

    return replace(services, now=now)


def moved_aside(services, instrument_id: str) -> str:
    return moved(services, instrument_id, FILES[instrument_id]).id


def on_the_instrument(services, instrument_id: str) -> set[str]:
    folder = services.instrument_folder(instrument_id)
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def status(services, name):
    return services.store.raw_files.get(name)


@pytest.mark.parametrize("instrument_id", FILES)
def test_nothing_is_purged_while_the_store_is_away(services, disk, instrument_id):
    name = moved_aside(services, instrument_id)
    before, there = status(services, name), on_the_instrument(services, instrument_id)
    disk.unmount()
    with pytest.raises(StoreAway):
        purge(services, instrument_id, run_id="p", options=EVERYTHING)
    assert on_the_instrument(services, instrument_id) == there
    assert status(services, name) == before
    disk.mount()
    assert [
        it.raw_file_id
        for it in purge(services, instrument_id, run_id="p", options=EVERYTHING).deleted
    ]
    assert on_the_instrument(services, instrument_id) == set()


@pytest.mark.parametrize("instrument_id", FILES)
def test_a_store_that_goes_between_proof_and_deletion_saves_the_file(services, disk, instrument_id):
    name = moved_aside(services, instrument_id)
    proven, there = status(services, name).verified_at, on_the_instrument(services, instrument_id)
    losing = when(services, lambda: status(services, name).verified_at != proven, disk.unmount)
    with pytest.raises(StoreAway):
        purge(losing, instrument_id, run_id="p", options=EVERYTHING)
    assert on_the_instrument(services, instrument_id) == there
    after = status(services, name)
    assert (after.is_backed_up, after.purge) == (True, None)
    assert after.instrument_file_status is InstrumentFileStatus.MOVED


def test_a_marker_that_goes_between_proof_and_deletion_saves_the_file(services, disk):
    name = moved_aside(services, "thermo1")
    proven = status(services, name).verified_at
    marker = disk.disk / MARKER_NAME
    losing = when(services, lambda: status(services, name).verified_at != proven, marker.unlink)
    with pytest.raises(StoreAway, match="marker is gone"):
        purge(losing, "thermo1", run_id="p", options=EVERYTHING)
    assert on_the_instrument(services, "thermo1") == {f"Backup/{name}"}


def test_a_file_that_need_not_go_any_more_once_it_is_proven_stays(services, disk):
    """Somebody else has freed space while its bytes were read."""
    name = moved_aside(services, "thermo1")
    point = services.instrument_folder("thermo1")
    proven = status(services, name).verified_at
    parent = point.parent / "full"
    shutil.move(point, parent)
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "small", point], check=True)
    try:
        shutil.copytree(parent, point, dirs_exist_ok=True)
        ballast = point / "ballast"
        ballast.write_bytes(bytes(15_000_000))
        wanted = PurgeOptions(min_free_space_gb=0.01, min_file_age_to_remove_in_days=0)
        freeing = when(
            services, lambda: status(services, name).verified_at != proven, ballast.unlink
        )
        outcome = purge(freeing, "thermo1", run_id="p", options=wanted)
        assert (outcome.deleted, outcome.enough) == ((), True)
        assert "need not be deleted any more" in outcome.kept[0].reason
        assert (point / "Backup" / name).exists()
    finally:
        subprocess.run(["umount", "-l", point], check=True)


@pytest.mark.parametrize("instrument_id", FILES)
def test_a_copy_whose_store_goes_meanwhile_is_ended_once_it_is_back(services, disk, instrument_id):
    """It goes on through the open root, and into no other folder; what it made is proven then."""
    name = FILES[instrument_id]
    acquire(services, instrument_id, name)
    finish(services, instrument_id)
    losing = when(services, lambda: status(services, name).status is Status.COPYING, disk.unmount)
    with pytest.raises(StoreAway):
        back_up(losing, name, run_id="r", options=BackupOptions(), by_hand=False)
    after = status(services, name)
    assert (after.status, after.failures, after.retry_at) == (Status.COPYING, 0, None)
    disk.mount()
    outcome = back_up(services, name, run_id="r2", options=BackupOptions(), by_hand=False)
    assert outcome.done
    assert outcome.proven == len(outcome.facts)


@pytest.mark.parametrize("instrument_id", FILES)
def test_a_backup_on_a_store_that_is_away_is_not_called_damaged(services, disk, instrument_id):
    name = FILES[instrument_id]
    backed_up(services, instrument_id, name)
    record = services.store.raw_files.get(name)
    services.store.raw_files.update(
        record, {"status": Status.DONE}, now=services.now(), note="test"
    )
    before = status(services, name)
    disk.unmount()
    with pytest.raises(StoreAway):
        verify_backup(services, name, run_id="v", rate_limit=RateLimit(None))
    with pytest.raises(StoreAway):
        back_up(services, name, run_id="v", options=BackupOptions())
    with pytest.raises(StoreAway):
        list(
            verify_all(
                services,
                begin(services, Selection((name,))),
                run_id="v",
                rate_limit=RateLimit(None),
            )
        )
    after = status(services, name)
    assert (after.status, after.backup_status) == (before.status, before.backup_status)
    assert after.history == before.history
    disk.mount()
    assert (
        verify_backup(services, name, run_id="v", rate_limit=RateLimit(None)).verdict
        is Verdict.VERIFIED
    )


def test_a_store_that_goes_while_a_backup_is_read_damages_none(services, disk):
    """Half of the members are read from it, and the other half would be looked for elsewhere."""
    name = FILES["sciex1"]
    backed_up(services, "sciex1", name)
    record = services.store.raw_files.get(name)
    services.store.raw_files.update(
        record, {"status": Status.DONE}, now=services.now(), note="test"
    )
    read: list[int] = []

    def lose(count: int) -> None:
        read.append(count)
        if len(read) == 1:
            for path in disk.disk.glob("sciex1/*/*"):
                path.unlink()
            disk.unmount()

    with pytest.raises(StoreAway):
        verify_backup(services, name, run_id="v", rate_limit=RateLimit(None), on_bytes=lose)
    assert status(services, name).is_backed_up


def test_nothing_is_restored_from_below_a_mount_point(services, disk, tmp_path):
    name = FILES["thermo1"]
    backed_up(services, "thermo1", name)
    target = tmp_path / "target"
    target.mkdir()
    disk.unmount()
    with pytest.raises(StoreAway):
        restore(services, name, target)
    assert list(target.iterdir()) == []
    disk.mount()
    assert restore(services, name, target).copied == 1


def test_files_of_another_store_hold_up_no_proof_of_the_others(services, disk):
    for name in ("a.raw", "b.raw"):
        backed_up(services, "thermo1", name)
        record = services.store.raw_files.get(name)
        changes = {"status": Status.DONE}
        if name == "a.raw":
            changes["backup_store"] = "0123456789abcdef"
        services.store.raw_files.update(record, changes, now=services.now(), note="test")
    found = {
        it.raw_file_id: it.verdict
        for it in verify_all(
            services,
            begin(services, Selection(instruments=("thermo1",))),
            run_id="v",
            rate_limit=RateLimit(None),
        )
    }
    # What was proven at the copy is not read again; the other one's store isn't there.
    assert found.get("b.raw", Verdict.VERIFIED) is Verdict.VERIFIED
    assert found["a.raw"] is Verdict.SKIPPED
