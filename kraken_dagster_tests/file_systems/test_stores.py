"""A store is known by its marker; without it nothing is written there and nothing changes.

The mounts are real ones, and what is below their mount points must stay as it is.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.fs.stores.marker import MARKER_NAME, Role, marker_line, parse_marker
from kraken_dagster.fs.stores.roots import RootPath, close_root, open_root, read_marker
from kraken_dagster.model.errors import InitRefused, StoreAway
from kraken_dagster.model.raw_file import Status
from kraken_dagster.operations.init_store import InitOptions, init_store, mark
from kraken_dagster.runtime.stores import opened
from kraken_dagster_tests.support.helpers import acquire, backed_up, finish

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
NAME = "x.raw"


@contextmanager
def mounted(disk: Path, point: Path) -> Iterator[None]:
    subprocess.run(["mount", "--bind", disk, point], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", point], check=True)


@contextmanager
def empty_mount(point: Path) -> Iterator[None]:
    """Something else, and empty, is mounted where the store is."""
    subprocess.run(["mount", "-t", "tmpfs", "empty", point], check=True)
    try:
        yield
        assert list(point.rglob("*")) == []  # nothing is ever written there
    finally:
        subprocess.run(["umount", "-l", point], check=True)


def root(world, role=Role.BACKUP) -> Path:
    return getattr(world.config.locations, role).path


def copy(world, name=NAME):
    return back_up(world, name, run_id="r", options=BackupOptions(), by_hand=False)


def put_a_file(folder: Path) -> None:
    (folder / MARKER_NAME).write_text("")


def put_a_foreign_marker(folder: Path) -> None:
    (folder / MARKER_NAME).write_text(marker_line(Role.BACKUP, "0123456789abcdef") + "\n")


def put_a_link(folder: Path) -> None:
    shutil.move(folder / MARKER_NAME, folder.parent / "marker")
    (folder / MARKER_NAME).symlink_to(folder.parent / "marker")


def put_a_pipe(folder: Path) -> None:
    (folder / MARKER_NAME).unlink()
    os.mkfifo(folder / MARKER_NAME)


def put_a_long_file(folder: Path) -> None:
    with (folder / MARKER_NAME).open("a") as file:
        file.write("x" * 10_000_000)


def put_a_folder(folder: Path) -> None:
    (folder / MARKER_NAME).unlink()
    (folder / MARKER_NAME).mkdir()


def put_the_outputs(folder: Path) -> None:
    text = (folder / MARKER_NAME).read_text()
    (folder / MARKER_NAME).write_text(text.replace("1 backup", "1 output"))


def remove_the_marker(folder: Path) -> None:
    (folder / MARKER_NAME).unlink()


def remove_the_folder(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


def put_a_plain_file(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    folder.write_text("no folder")


STRANGE = [
    put_a_file,
    put_a_foreign_marker,
    put_a_link,
    put_a_pipe,
    put_a_long_file,
    put_a_folder,
    put_the_outputs,
    remove_the_marker,
    remove_the_folder,
    put_a_plain_file,
]


@pytest.mark.parametrize("change", STRANGE, ids=lambda change: change.__name__)
def test_without_its_marker_a_store_is_away_and_the_file_waits_as_it_is(world, change):
    acquire(world, "thermo1", NAME)
    finish(world, "thermo1")
    before = world.store.raw_files.get(NAME)
    change(root(world))
    with pytest.raises(StoreAway, match="init-store backup"):
        copy(world)
    after = world.store.raw_files.get(NAME)
    assert (after.status, after.failures, after.retry_at) == (Status.MONITORING_DONE, 0, None)
    assert after.history == before.history
    assert not list(root(world).parent.rglob("thermo1/2*"))


def test_a_store_that_is_back_takes_what_has_waited(world):
    acquire(world, "thermo1", NAME)
    finish(world, "thermo1")
    with empty_mount(root(world)), pytest.raises(StoreAway, match="not mounted"):
        copy(world)
    assert copy(world).done
    record = world.store.raw_files.get(NAME)
    assert record.is_backed_up
    assert record.backup_store == read_marker(root(world))[Role.BACKUP]


def test_a_file_on_the_instrument_is_all_that_an_unmounted_store_leaves(world, tmp_path):
    """The mount goes while the path stays, as after `umount`: the folder below it stays empty."""
    disk = tmp_path / "disk"
    disk.mkdir()
    shutil.move(root(world) / MARKER_NAME, disk)
    with mounted(disk, root(world)):
        first = backed_up(world, "thermo1", NAME)
    acquire(world, "thermo1", "y.raw", seed=8)
    finish(world, "thermo1")
    with pytest.raises(StoreAway):
        copy(world, "y.raw")
    with pytest.raises(StoreAway):  # a proof of what is there says nothing either
        back_up(world, NAME, run_id="v", options=BackupOptions())
    assert list(root(world).iterdir()) == []
    assert world.store.raw_files.get(NAME).status is first.status
    assert world.store.raw_files.get(NAME).is_backed_up
    with mounted(disk, root(world)):
        assert copy(world, "y.raw").done
        assert back_up(world, NAME, run_id="v", options=BackupOptions()).done


def test_what_is_opened_stays_the_store_when_its_mount_point_leads_elsewhere(world, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    shutil.move(root(world) / MARKER_NAME, disk)
    with mounted(disk, root(world)), opened(world, Role.BACKUP) as store:
        subprocess.run(["umount", "-l", root(world)], check=True)
        (store.path / "a" / "b").mkdir(parents=True)
        (store.path / "a" / "b" / "file").write_text("here")
        assert store.path.shown == root(world)
        assert (store.path / "a").shown == root(world) / "a"
        with pytest.raises(StoreAway):
            store.require_same()
        subprocess.run(["mount", "--bind", disk, root(world)], check=True)
    assert (disk / "a" / "b" / "file").read_text() == "here"
    assert list(root(world).iterdir()) == []


def test_a_closed_root_leads_nowhere_though_a_thread_still_has_its_path(world, tmp_path):
    """And it keeps no mount from being unmounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    shutil.move(root(world) / MARKER_NAME, disk)
    subprocess.run(["mount", "--bind", disk, root(world)], check=True)
    store = open_root(root(world), Role.BACKUP, world.store.markers.ids(Role.BACKUP))
    kept = store.path / "late"
    close_root(store)
    subprocess.run(["umount", root(world)], check=True)
    with suppress(OSError):
        kept.mkdir()
    assert isinstance(kept, RootPath)
    assert not list(disk.glob("late"))
    assert not list(root(world).iterdir())


def test_a_marker_is_one_line_for_a_shell_and_survives_comments():
    line = marker_line(Role.OUTPUT, "00ff00ff00ff00ff")
    assert line == "kraken-store 1 output 00ff00ff00ff00ff"
    both = f"{line}\n{marker_line(Role.BACKUP, 'a' * 16)}\n# told\n"
    assert parse_marker(both) == {Role.OUTPUT: "00ff00ff00ff00ff", Role.BACKUP: "a" * 16}
    twice = f"{line}\n{marker_line(Role.OUTPUT, 'b' * 16)}\n"
    assert parse_marker(twice) == {}
    assert parse_marker(line.replace(" 1 ", " 2 ")) == {}


def init(world, role=Role.BACKUP, **options):
    return init_store(world, role, by="me", options=InitOptions(**options))


def forget(world) -> str:
    """As another MongoDB: it has recorded no store. Returns the marker's id."""
    found = read_marker(root(world))[Role.BACKUP]
    world.store.markers._collection.delete_many({})
    return found


def test_a_store_is_adopted_for_the_backups_that_stand_in_it(world):
    backed_up(world, "thermo1", NAME)
    forget(world)
    remove_the_marker(root(world))
    done = init(world)
    assert (done.result, done.looked_at, done.standing) == ("adopted", 1, 1)
    assert init(world).result == "known"
    assert read_marker(root(world))[Role.BACKUP] == done.store_id


def test_a_store_that_was_moved_without_its_marker_keeps_its_id(world, tmp_path):
    backed_up(world, "thermo1", NAME)
    before = read_marker(root(world))[Role.BACKUP]
    root(world).rename(tmp_path / "old")
    shutil.copytree(tmp_path / "old", root(world), ignore=lambda *_: [MARKER_NAME])
    with pytest.raises(StoreAway):
        back_up(world, NAME, run_id="v", options=BackupOptions())
    assert init(world).store_id == before
    assert back_up(world, NAME, run_id="v", options=BackupOptions()).done


def test_an_empty_folder_is_refused_where_backups_are_recorded(world):
    backed_up(world, "thermo1", NAME)
    with empty_mount(root(world)):
        for options in ({}, {"empty": True}, {"incomplete": True}):
            with pytest.raises(InitRefused, match="recorded backups"):
                init(world, **options)


def test_backups_of_instruments_that_are_not_served_here_are_recorded_too(world):
    backed_up(world, "thermo1", NAME)
    forget(world)
    elsewhere = replace(world, config=world.config.only({"bruker1"}))
    with empty_mount(root(world)), pytest.raises(InitRefused, match="recorded backups"):
        init(elsewhere, empty=True)
    assert init(elsewhere).result == "adopted"


def test_what_an_accident_left_below_the_mount_point_is_no_store(world, tmp_path):
    """One of three recorded backups stands there: most of them don't."""
    for name in ("a.raw", "b.raw", "c.raw"):
        backed_up(world, "thermo1", name)
    remove_the_marker(root(world))
    shutil.copytree(root(world), tmp_path / "store")
    for name in ("a.raw", "b.raw"):
        (path,) = root(world).rglob(name)
        path.unlink()
    with pytest.raises(InitRefused, match="1 of 3"):
        init(world)
    assert not (root(world) / MARKER_NAME).exists()
    with mounted(tmp_path / "store", root(world)):
        assert init(world).standing == 3
    assert init(world, incomplete=True).standing == 1


def test_a_new_store_must_be_said_to_be_empty(world):
    forget(world)
    remove_the_marker(root(world))
    with pytest.raises(InitRefused, match="--empty"):
        init(world)
    done = init(world, empty=True)
    assert done.result == "new"
    assert init(world, empty=True).result == "known"
    remove_the_marker(root(world))
    with pytest.raises(InitRefused, match=done.store_id):
        init(world, empty=True)


def test_the_store_of_another_mongodb_is_named_and_adopted_on_request(world):
    found = forget(world)
    for options in ({}, {"empty": True}, {"another": True}, {"adopt": "0123456789abcdef"}):
        with pytest.raises(InitRefused, match=f"{found} of another MongoDB"):
            init(world, **options)
    assert init(world, adopt=found).store_id == found


def test_a_stand_in_adopts_a_store_in_which_what_it_knows_stands(world):
    backed_up(world, "thermo1", NAME)
    found = forget(world)
    done = init(world)
    assert (done.result, done.store_id) == ("adopted", found)


def test_of_two_stores_each_file_waits_for_its_own(world, tmp_path):
    backed_up(world, "thermo1", "a.raw")
    first, second = tmp_path / "first", tmp_path / "second"
    root(world).rename(first)
    for folder in (root(world), second):
        folder.mkdir()
    with mounted(second, root(world)):
        done = init(world, another=True)
        backed_up(world, "thermo1", "b.raw")
        assert world.store.raw_files.get("b.raw").backup_store == done.store_id
        with pytest.raises(StoreAway, match="last seen at"):
            back_up(world, "a.raw", run_id="v", options=BackupOptions())
        assert world.store.raw_files.get("a.raw").is_backed_up
    with mounted(first, root(world)):
        assert back_up(world, "a.raw", run_id="v", options=BackupOptions()).done
        with pytest.raises(StoreAway):
            back_up(world, "b.raw", run_id="v", options=BackupOptions())


def test_another_store_beside_one_that_was_never_marked_leaves_its_files_to_that(world, tmp_path):
    backed_up(world, "thermo1", "a.raw")
    forget(world)
    remove_the_marker(root(world))
    world.store.raw_files._collection.update_many({}, {"$unset": {"backup_store": ""}})
    first = tmp_path / "first"
    root(world).rename(first)
    root(world).mkdir()
    new = init(world, another=True).store_id
    old = world.store.raw_files.get("a.raw").backup_store
    assert old not in (None, new)
    with mounted(first, root(world)):
        assert init(world).store_id == old


def test_backup_and_output_may_be_one_folder(world):
    one = world.config.locations.backup
    locations = world.config.locations.model_copy(update={"output": one})
    world = replace(world, config=world.config.model_copy(update={"locations": locations}))
    mark(world, Role.OUTPUT, by="me")
    assert set(read_marker(root(world))) == {Role.BACKUP, Role.OUTPUT}
    for role in Role:
        with opened(world, role) as store:
            assert store.role is role
