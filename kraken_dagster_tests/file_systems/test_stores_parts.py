"""A folder of a store that is a mount of its own, and away while the store itself is there."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.fs.stores.marker import Role
from kraken_dagster.model.errors import StoreAway
from kraken_dagster.model.raw_file import Status
from kraken_dagster.runtime.stores import opened_backup, require_unchanged, root_of
from kraken_dagster_tests.support.helpers import acquire, backed_up, finish

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")


class Part:
    def __init__(self, point: Path, disk: Path) -> None:
        self.point, self.disk = point, disk
        for folder in (point, disk):
            folder.mkdir()
        self.mount()

    def mount(self) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "part", self.disk], check=True)
        subprocess.run(["mount", "--bind", self.disk, self.point], check=True)

    def away(self) -> None:
        subprocess.run(["umount", "-l", self.point], check=True)

    def back(self) -> None:
        subprocess.run(["mount", "--bind", self.disk, self.point], check=True)

    def end(self) -> None:
        subprocess.run(["umount", "-l", self.point], capture_output=True)
        subprocess.run(["umount", "-l", self.disk], check=True)


@pytest.fixture
def part(services, tmp_path) -> Iterator[Part]:
    found = Part(root_of(services, Role.BACKUP) / "thermo1", tmp_path / "disk")
    try:
        yield found
    finally:
        found.end()


def copy(services, name: str):
    return back_up(services, name, run_id="r", options=BackupOptions(), by_hand=False)


@pytest.mark.parametrize("gone", [False, True])
def test_a_copy_waits_while_its_instruments_part_of_the_store_is_away(services, part, gone):
    backed_up(services, "thermo1", "a.raw")
    acquire(services, "thermo1", "b.raw", seed=8)
    finish(services, "thermo1")
    before = services.store.raw_files.get("b.raw")
    part.away()
    if gone:
        part.point.rmdir()
    with pytest.raises(StoreAway, match="thermo1"):
        copy(services, "b.raw")
    with pytest.raises(StoreAway, match="not mounted"):
        back_up(services, "a.raw", run_id="v", options=BackupOptions())
    assert list(part.point.parent.rglob("*.raw")) == []
    after = services.store.raw_files.get("b.raw")
    assert (after.status, after.failures, after.history) == (before.status, 0, before.history)
    assert services.store.raw_files.get("a.raw").is_backed_up
    part.point.mkdir(exist_ok=True)
    part.back()
    assert copy(services, "b.raw").done
    assert back_up(services, "a.raw", run_id="v", options=BackupOptions()).done


def test_another_instrument_and_the_first_file_of_one_do_not_wait(services, part):
    backed_up(services, "thermo1", "a.raw")
    part.away()
    assert backed_up(services, "bruker1", "s.d").is_backed_up
    shutil.rmtree(part.point.parent / "bruker1")
    part.back()


def test_a_part_that_goes_while_a_file_is_copied_into_it_is_noticed(services, part):
    record = backed_up(services, "thermo1", "a.raw")
    with opened_backup(services, record) as root:
        require_unchanged(root)
        part.away()
        (part.point / "written below the mount point").touch()
        with pytest.raises(StoreAway, match="thermo1"):
            require_unchanged(root)
    part.point.joinpath("written below the mount point").unlink()


def test_a_part_that_was_lost_for_good_can_be_said_to_be(services, part):
    backed_up(services, "thermo1", "a.raw")
    part.away()
    (part.point / "lost").touch()
    acquire(services, "thermo1", "b.raw", seed=8)
    finish(services, "thermo1")
    assert copy(services, "b.raw").done
    assert services.store.raw_files.get("b.raw").status is Status.COPYING_DONE
