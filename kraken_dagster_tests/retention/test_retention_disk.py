"""On real disks: a purge of a small one frees what is needed, and a move never leaves its own."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from kraken_dagster.model.retention.rules import GB
from kraken_dagster.retention.purge import purge
from kraken_dagster.retention.purge_plan import measured_free_bytes, plan
from kraken_dagster_tests.backup.copying.copying_cases import unavailable
from kraken_dagster_tests.retention.retention_cases import (
    EVERYTHING,
    aside,
    created,
    done,
    files_in,
    move_all,
    moved,
)

pytestmark = pytest.mark.xdist_group("disks")  # in one worker: a machine has few loop devices
DISK_BYTES = 64 * 1024 * 1024
FILE_BYTES = 4 * 1024 * 1024  # whole blocks, so that a file has on the disk what it has in bytes
NAMES = [f"f{number}.raw" for number in range(8)]


def mount(*arguments: object) -> bool:
    command = ["mount", *map(str, arguments)]
    return shutil.which("mount") is not None and (
        subprocess.run(command, capture_output=True).returncode == 0
    )


@pytest.fixture
def small_disk(services, tmp_path: Path):
    """The disk of thermo1: a file system of 64 MB in a file."""
    folder, image = services.instrument_folder("thermo1"), tmp_path / "disk.img"
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    made = shutil.which("mkfs.ext4") and subprocess.run(["mkfs.ext4", "-q", image]).returncode == 0
    if not made or not mount("-o", "loop", image, folder):
        unavailable("a loop device can't be mounted; this needs root")
    shutil.rmtree(folder / "lost+found")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def full(services, small_disk):
    """Files of 4 MB that were archived, oldest first."""
    for number, name in enumerate(NAMES):
        moved(services, "thermo1", name, size_bytes=FILE_BYTES)
        created(services, name, days_ago=60 - number)
    return measured_free_bytes(services, "thermo1")


@pytest.mark.parametrize("missing_bytes", [1, FILE_BYTES, FILE_BYTES + 1, 5 * FILE_BYTES])
def test_exactly_as_many_files_are_deleted_as_are_needed(services, full, missing_bytes):
    options = replace(EVERYTHING, min_free_space_gb=(full + missing_bytes) / GB)
    needed = NAMES[: -(-missing_bytes // FILE_BYTES)]
    found = plan(services, "thermo1", now=services.now(), options=options)
    assert [item.raw_file_id for item in found.to_delete] == needed
    outcome = purge(services, "thermo1", run_id="p", options=options)
    assert [item.raw_file_id for item in outcome.deleted] == needed
    assert (outcome.enough, outcome.freed_bytes) == (True, len(needed) * FILE_BYTES)
    assert outcome.free_after_bytes >= full + missing_bytes
    assert measured_free_bytes(services, "thermo1") == outcome.free_after_bytes
    assert sorted(files_in(aside(services, "thermo1"))) == NAMES[len(needed) :]


def test_a_disk_that_can_not_be_freed_enough_is_said_to_be(services, full):
    options = replace(EVERYTHING, min_free_space_gb=2 * DISK_BYTES / GB)
    assert not plan(services, "thermo1", now=services.now(), options=options).enough
    outcome = purge(services, "thermo1", run_id="p", options=options)
    assert (outcome.enough, len(outcome.deleted)) == (False, len(NAMES))
    missing = 2 * DISK_BYTES - full - len(NAMES) * FILE_BYTES
    assert f"which is {missing / GB:.3f} GB less than" in outcome.reason
    assert "there are no more files" in outcome.reason
    assert services.store.health.disk("thermo1")["status"] == "warning"


def test_a_full_disk_is_no_obstacle_to_moving_and_purging(services, small_disk):
    for name in NAMES[:2]:
        done(services, "thermo1", name, size_bytes=FILE_BYTES)
    fill = ["dd", "if=/dev/zero", f"of={small_disk / 'filler'}", "bs=1M"]
    assert b"No space left" in subprocess.run(fill, capture_output=True).stderr
    assert [item.moved for item in move_all(services, "thermo1")] == [True, True]
    for name in NAMES[:2]:
        created(services, name, days_ago=30)
    outcome = purge(services, "thermo1", run_id="p", options=EVERYTHING)
    assert len(outcome.deleted) == 2


def test_a_backup_folder_on_another_disk_is_refused_in_words(services):
    done(services, "thermo1", "x.raw")
    backup = aside(services, "thermo1")
    backup.mkdir()
    if not mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", backup):
        unavailable("a tmpfs can't be mounted; this needs root")
    try:
        (outcome,) = move_all(services, "thermo1")
        assert "`Backup` is on another disk" in outcome.reason
        assert outcome.problem.transient
        assert list(backup.iterdir()) == []
        assert (backup.parent / "x.raw").exists()
    finally:
        subprocess.run(["umount", "--lazy", backup], check=True)
