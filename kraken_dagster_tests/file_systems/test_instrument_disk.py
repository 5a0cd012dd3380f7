"""Renaming and deleting through handles: nothing is replaced, and no link leads anywhere."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from kraken_dagster.fs.dir_handles import Folder, rename, renameat2, walk
from kraken_dagster.fs.instrument_folder import (
    instrument_errors,
    open_archive_folder,
    open_instrument,
    require_mounted,
)
from kraken_dagster.model import errors
from kraken_dagster.model.files.folder import Kind
from kraken_dagster.retention.instrument_disk import (
    make_writable,
    remove_empty,
    rename_to_delete,
    unlink,
)
from kraken_dagster_tests.backup.copying.copying_cases import BY_RIGHTS

_CHILD = """
import sys
from pathlib import Path
from kraken_dagster.fs.dir_handles import Folder
from kraken_dagster.retention.instrument_disk import make_writable, unlink
with Folder.open(Path(sys.argv[1])) as folder:
    if sys.argv[2] == "writable":
        make_writable(folder)
    unlink(folder, "file")
"""


def no_such_flag(number: int):
    """A kernel, or a file system, that doesn't know a rename that replaces nothing."""
    return lambda *_: number


KERNELS = [renameat2, *map(no_such_flag, (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP))]


@pytest.fixture
def folder(tmp_path: Path):
    with Folder.open(tmp_path) as opened:
        yield opened


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_rename_moves_a_file_and_keeps_its_identity(tmp_path, folder, kernel):
    (tmp_path / "a").write_text("a")
    inode = (tmp_path / "a").stat().st_ino
    (tmp_path / "sub").mkdir()
    with folder.sub("sub") as sub:
        rename(folder, "a", sub, "b", kernel=kernel)
    assert (tmp_path / "sub" / "b").stat().st_ino == inode
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("taken", ["file", "folder", "link to nowhere"])
def test_a_rename_never_replaces_anything(tmp_path, folder, kernel, taken):
    (tmp_path / "a").write_text("a")
    target = tmp_path / "b"
    if taken == "file":
        target.write_text("b")
    elif taken == "folder":
        target.mkdir()
    else:
        target.symlink_to("nowhere")
    before = os.lstat(target).st_ino
    with pytest.raises(FileExistsError):
        rename(folder, "a", folder, "b", kernel=kernel)
    assert (tmp_path / "a").read_text() == "a"
    assert os.lstat(target).st_ino == before


def test_another_error_of_the_kernel_is_no_reason_for_a_plain_rename(tmp_path, folder):
    (tmp_path / "a").write_text("a")
    with pytest.raises(OSError, match="cross-device"):
        rename(folder, "a", folder, "b", kernel=no_such_flag(errno.EXDEV))
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "/etc", "a\0b"])
def test_a_name_that_is_more_than_a_name_reaches_nothing(folder, name):
    for use in (folder.stat, folder.sub, folder.read, lambda name: unlink(folder, name)):
        with pytest.raises((errors.UnsafePath, FileNotFoundError)):
            use(name)
    with pytest.raises(errors.UnsafePath):
        rename(folder, name, folder, "b")


def test_a_long_name_is_cut_where_it_waits_to_be_deleted(tmp_path, folder):
    name = "ä" * 125 + ".raw"
    (tmp_path / name).write_text("a")
    new = rename_to_delete(folder, name)
    assert new.endswith(".deleteme")
    assert len(new.encode()) <= 255
    assert (tmp_path / new).read_text() == "a"


def test_a_folder_that_became_a_link_leads_nowhere(tmp_path, folder):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_text("kept")
    (tmp_path / "sub").symlink_to("real")
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        folder.sub("sub")
    with pytest.raises(errors.UnsafePath), instrument_errors(tmp_path):
        folder.read("sub/file")


def test_a_folder_that_is_swapped_after_it_was_opened_is_still_the_first(tmp_path, folder):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_text("ours")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("a stranger's")
    with folder.sub("sub") as sub:
        (tmp_path / "sub").rename(tmp_path / "away")
        (tmp_path / "sub").symlink_to("other")
        unlink(sub, "file")
    assert (tmp_path / "other" / "file").read_text() == "a stranger's"
    assert not (tmp_path / "away" / "file").exists()


def test_a_link_in_place_of_a_file_is_seen_as_one_and_not_read(tmp_path, folder):
    (tmp_path / "real").write_text("secret")
    (tmp_path / "file").symlink_to("real")
    seen = folder.stat("file")
    assert seen is not None
    assert seen.kind is Kind.LINK
    with pytest.raises(OSError, match="symbolic links"):
        folder.read("file")


def test_a_walk_tells_files_folders_and_odd_things_apart(tmp_path, folder):
    (tmp_path / "x.d" / "m" / "empty").mkdir(parents=True)
    (tmp_path / "x.d" / "m" / "file").write_text("1")
    (tmp_path / "x.d" / "link").symlink_to("/")
    os.mkfifo(tmp_path / "x.d" / "pipe")
    tree = walk(folder, "x.d")
    assert sorted(tree.files) == ["x.d/m/file"]
    assert sorted(tree.folders) == ["x.d", "x.d/m", "x.d/m/empty"]
    assert sorted(tree.odd) == ["x.d/link", "x.d/pipe"]


def test_folders_that_are_nested_without_end_are_refused(tmp_path, folder):
    (tmp_path / Path("x.d", *["sub"] * 100)).mkdir(parents=True)
    with pytest.raises(errors.UnsafePath, match="nested too deep"):
        walk(folder, "x.d")


def test_only_an_empty_folder_is_removed_and_only_the_one_that_was_seen(tmp_path, folder):
    (tmp_path / "sub").mkdir()
    seen = folder.stat("sub")
    assert seen is not None
    (tmp_path / "sub" / "file").write_text("1")
    with pytest.raises(OSError, match="not empty"):
        remove_empty(folder, "sub", seen)
    (tmp_path / "sub").rename(tmp_path / "away")
    (tmp_path / "sub").mkdir()
    with pytest.raises(errors.UnsafePath, match="not the one"):
        remove_empty(folder, "sub", seen)
    assert sorted(os.listdir(tmp_path)) == ["away", "sub"]


@pytest.mark.parametrize("writable", [True, False])
def test_a_read_only_folder_is_emptied_only_after_it_was_made_writable(tmp_path, writable):
    folder = tmp_path / "4711.m"
    folder.mkdir()
    (folder / "file").write_text("1")
    folder.chmod(0o555)
    command = [
        *BY_RIGHTS,
        sys.executable,
        "-c",
        _CHILD,
        folder,
        "writable" if writable else "as is",
    ]
    found = subprocess.run(command, capture_output=True, text=True)
    assert (found.returncode == 0) is writable, found.stderr
    assert (folder / "file").exists() is not writable
    if writable:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o755


def test_a_writable_folder_keeps_its_mode(tmp_path, folder):
    tmp_path.chmod(0o711)
    make_writable(folder)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o711


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EACCES, errno.ESTALE, errno.ETXTBSY])
def test_what_the_instrument_does_not_allow_is_tried_again(tmp_path, number):
    with pytest.raises(errors.InstrumentBusy) as found, instrument_errors(tmp_path):
        raise OSError(number, os.strerror(number))
    assert found.value.transient
    assert os.strerror(number) in str(found.value)


def test_a_share_that_is_not_mounted_is_away_and_not_empty(tmp_path):
    with pytest.raises(errors.FolderMissing):
        open_instrument(tmp_path / "missing")
    (tmp_path / "file").write_text("1")
    with pytest.raises(errors.FolderUnreadable):
        open_instrument(tmp_path / "file")
    (tmp_path / "mountpoint").mkdir()
    with open_instrument(tmp_path / "mountpoint") as root:
        with pytest.raises(errors.FolderMissing, match="is empty"):
            require_mounted(root)
        with pytest.raises(errors.FolderMissing, match="archived is not there"):
            open_archive_folder(root)


_MOVE = """
import sys
from pathlib import Path
from kraken_dagster.retention.archiving.rename import MovePlan, archive_members
from kraken_dagster.model.files.vendors import Vendor
plan = MovePlan(Path(sys.argv[1]), Vendor.THERMO, "x.raw", "x.raw", {"x.raw": 1}, 1)
print(archive_members(plan, may_go_on=lambda: True))
"""


@pytest.mark.parametrize("closed", [".", "Backup", None])
def test_a_folder_that_does_not_let_kraken_move_a_file_is_busy(tmp_path, closed):
    folder = tmp_path / "instrument"
    (folder / "Backup").mkdir(parents=True)
    (folder / "x.raw").write_text("1")
    if closed:
        (folder / closed).chmod(0o555)
    command = [*BY_RIGHTS, sys.executable, "-c", _MOVE, folder]
    found = subprocess.run(command, capture_output=True, text=True)
    if closed:
        assert "InstrumentBusy" in found.stderr
        assert "Permission denied" in found.stderr
    assert (folder / "Backup" / "x.raw").exists() is (closed is None)
