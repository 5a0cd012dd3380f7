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
from kraken_dagster.fs.stores.marker_file import read_marker
from kraken_dagster.fs.stores.roots import RootPath, close_root, open_root
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


def root(services, role=Role.BACKUP) -> Path:
    return getattr(services.config.locations, role).path


def copy(services, name=NAME):
    return back_up(services, name, run_id="r", options=BackupOptions(), by_hand=False)


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
def test_without_its_marker_a_store_is_away_and_the_file_waits_as_it_is(services, change):
    acquire(services, "thermo1", NAME)
    finish(services, "thermo1")
    before = services.store.raw_files.get(NAME)
    change(root(services))
    with pytest.raises(StoreAway, match="init-store backup"):
        copy(services)
    after = services.store.raw_files.get(NAME)
    assert (after.status, after.failures, after.retry_at) == (Status.MONITORING_DONE, 0, None)
    assert after.history == before.history
    assert not list(root(services).parent.rglob("thermo1/2*"))


def test_a_store_that_is_back_takes_what_has_waited(services):
    acquire(services, "thermo1", NAME)
    finish(services, "thermo1")
    with empty_mount(root(services)), pytest.raises(StoreAway, match="not mounted"):
        copy(services)
    assert copy(services).done
    record = services.store.raw_files.get(NAME)
    assert record.is_backed_up
    assert record.backup_store == read_marker(root(services))[Role.BACKUP]


def test_a_file_on_the_instrument_is_all_that_an_unmounted_store_leaves(services, tmp_path):
    """The mount goes while the path stays, as after `umount`: the folder below it stays empty."""
    disk = tmp_path / "disk"
    disk.mkdir()
    shutil.move(root(services) / MARKER_NAME, disk)
    with mounted(disk, root(services)):
        first = backed_up(services, "thermo1", NAME)
    acquire(services, "thermo1", "y.raw", seed=8)
    finish(services, "thermo1")
    with pytest.raises(StoreAway):
        copy(services, "y.raw")
    with pytest.raises(StoreAway):  # a proof of what is there says nothing either
        back_up(services, NAME, run_id="v", options=BackupOptions())
    assert list(root(services).iterdir()) == []
    assert services.store.raw_files.get(NAME).status is first.status
    assert services.store.raw_files.get(NAME).is_backed_up
    with mounted(disk, root(services)):
        assert copy(services, "y.raw").done
        assert back_up(services, NAME, run_id="v", options=BackupOptions()).done


def test_what_is_opened_stays_the_store_when_its_mount_point_leads_elsewhere(services, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    shutil.move(root(services) / MARKER_NAME, disk)
    with mounted(disk, root(services)), opened(services, Role.BACKUP) as store:
        subprocess.run(["umount", "-l", root(services)], check=True)
        (store.path / "a" / "b").mkdir(parents=True)
        (store.path / "a" / "b" / "file").write_text("here")
        assert store.path.shown == root(services)
        assert (store.path / "a").shown == root(services) / "a"
        with pytest.raises(StoreAway):
            store.require_same()
        subprocess.run(["mount", "--bind", disk, root(services)], check=True)
    assert (disk / "a" / "b" / "file").read_text() == "here"
    assert list(root(services).iterdir()) == []


def test_a_closed_root_leads_nowhere_though_a_thread_still_has_its_path(services, tmp_path):
    """And it keeps no mount from being unmounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    shutil.move(root(services) / MARKER_NAME, disk)
    subprocess.run(["mount", "--bind", disk, root(services)], check=True)
    store = open_root(root(services), Role.BACKUP, services.store.markers.ids(Role.BACKUP))
    kept = store.path / "late"
    close_root(store)
    subprocess.run(["umount", root(services)], check=True)
    with suppress(OSError):
        kept.mkdir()
    assert isinstance(kept, RootPath)
    assert not list(disk.glob("late"))
    assert not list(root(services).iterdir())


def test_a_marker_is_one_line_for_a_shell_and_survives_comments():
    line = marker_line(Role.OUTPUT, "00ff00ff00ff00ff")
    assert line == "kraken-store 1 output 00ff00ff00ff00ff"
    both = f"{line}\n{marker_line(Role.BACKUP, 'a' * 16)}\n# told\n"
    assert parse_marker(both) == {Role.OUTPUT: "00ff00ff00ff00ff", Role.BACKUP: "a" * 16}
    twice = f"{line}\n{marker_line(Role.OUTPUT, 'b' * 16)}\n"
    assert parse_marker(twice) == {}
    assert parse_marker(line.replace(" 1 ", " 2 ")) == {}


def init(services, role=Role.BACKUP, **options):
    return init_store(services, role, by="me", options=InitOptions(**options))


def forget(services) -> str:
    """As another MongoDB: it has recorded no store. Returns the marker's id."""
    found = read_marker(root(services))[Role.BACKUP]
    services.store.markers._collection.delete_many({})
    return found


def test_a_store_is_adopted_for_the_backups_that_stand_in_it(services):
    backed_up(services, "thermo1", NAME)
    forget(services)
    remove_the_marker(root(services))
    done = init(services)
    assert (done.result, done.looked_at, done.standing) == ("adopted", 1, 1)
    assert init(services).result == "known"
    assert read_marker(root(services))[Role.BACKUP] == done.store_id


def test_a_store_that_was_moved_without_its_marker_keeps_its_id(services, tmp_path):
    backed_up(services, "thermo1", NAME)
    before = read_marker(root(services))[Role.BACKUP]
    root(services).rename(tmp_path / "old")
    shutil.copytree(tmp_path / "old", root(services), ignore=lambda *_: [MARKER_NAME])
    with pytest.raises(StoreAway):
        back_up(services, NAME, run_id="v", options=BackupOptions())
    assert init(services).store_id == before
    assert back_up(services, NAME, run_id="v", options=BackupOptions()).done


def test_an_empty_folder_is_refused_where_backups_are_recorded(services):
    backed_up(services, "thermo1", NAME)
    with empty_mount(root(services)):
        for options in ({}, {"empty": True}, {"incomplete": True}):
            with pytest.raises(InitRefused, match="recorded backups"):
                init(services, **options)


def test_backups_of_instruments_that_are_not_served_here_are_recorded_too(services):
    backed_up(services, "thermo1", NAME)
    forget(services)
    elsewhere = replace(services, config=services.config.only({"bruker1"}))
    with empty_mount(root(services)), pytest.raises(InitRefused, match="recorded backups"):
        init(elsewhere, empty=True)
    assert init(elsewhere).result == "adopted"


def test_what_an_accident_left_below_the_mount_point_is_no_store(services, tmp_path):
    """One of three recorded backups stands there: most of them don't."""
    for name in ("a.raw", "b.raw", "c.raw"):
        backed_up(services, "thermo1", name)
    remove_the_marker(root(services))
    shutil.copytree(root(services), tmp_path / "store")
    for name in ("a.raw", "b.raw"):
        (path,) = root(services).rglob(name)
        path.unlink()
    with pytest.raises(InitRefused, match="1 of 3"):
        init(services)
    assert not (root(services) / MARKER_NAME).exists()
    with mounted(tmp_path / "store", root(services)):
        assert init(services).standing == 3
    assert init(services, incomplete=True).standing == 1


def test_a_new_store_must_be_said_to_be_empty(services):
    forget(services)
    remove_the_marker(root(services))
    with pytest.raises(InitRefused, match="--empty"):
        init(services)
    done = init(services, empty=True)
    assert done.result == "new"
    assert init(services, empty=True).result == "known"
    remove_the_marker(root(services))
    with pytest.raises(InitRefused, match=done.store_id):
        init(services, empty=True)


def test_the_store_of_another_mongodb_is_named_and_adopted_on_request(services):
    found = forget(services)
    for options in ({}, {"empty": True}, {"another": True}, {"adopt": "0123456789abcdef"}):
        with pytest.raises(InitRefused, match=f"{found} of another MongoDB"):
            init(services, **options)
    assert init(services, adopt=found).store_id == found


def test_another_id_than_the_markers_is_refused_whatever_stands_there(services):
    backed_up(services, "thermo1", NAME)
    with pytest.raises(InitRefused, match=r"which is known.*mount the store 0123456789abcdef"):
        init(services, adopt="0123456789abcdef")
    found = forget(services)
    with pytest.raises(InitRefused, match=f"{found} of another MongoDB"):
        init(services, adopt="0123456789abcdef")


def test_a_stand_in_adopts_a_store_in_which_what_it_knows_stands(services):
    backed_up(services, "thermo1", NAME)
    found = forget(services)
    done = init(services)
    assert (done.result, done.store_id) == ("adopted", found)


def test_of_two_stores_each_file_waits_for_its_own(services, tmp_path):
    backed_up(services, "thermo1", "a.raw")
    first, second = tmp_path / "first", tmp_path / "second"
    root(services).rename(first)
    for folder in (root(services), second):
        folder.mkdir()
    with mounted(second, root(services)):
        done = init(services, another=True)
        backed_up(services, "thermo1", "b.raw")
        assert services.store.raw_files.get("b.raw").backup_store == done.store_id
        with pytest.raises(StoreAway, match="last seen at"):
            back_up(services, "a.raw", run_id="v", options=BackupOptions())
        assert services.store.raw_files.get("a.raw").is_backed_up
    with mounted(first, root(services)):
        assert back_up(services, "a.raw", run_id="v", options=BackupOptions()).done
        with pytest.raises(StoreAway):
            back_up(services, "b.raw", run_id="v", options=BackupOptions())


def test_another_store_beside_one_that_was_never_marked_leaves_its_files_to_that(
    services, tmp_path
):
    backed_up(services, "thermo1", "a.raw")
    forget(services)
    remove_the_marker(root(services))
    services.store.raw_files._collection.update_many({}, {"$unset": {"backup_store": ""}})
    first = tmp_path / "first"
    root(services).rename(first)
    root(services).mkdir()
    new = init(services, another=True).store_id
    old = services.store.raw_files.get("a.raw").backup_store
    assert old not in (None, new)
    with mounted(first, root(services)):
        assert init(services).store_id == old


def test_backup_and_output_may_be_one_folder(services):
    one = services.config.locations.backup
    locations = services.config.locations.model_copy(update={"output": one})
    services = replace(services, config=services.config.model_copy(update={"locations": locations}))
    mark(services, Role.OUTPUT, by="me")
    assert set(read_marker(root(services))) == {Role.BACKUP, Role.OUTPUT}
    for role in Role:
        with opened(services, role) as store:
            assert store.role is role
