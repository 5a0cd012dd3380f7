"""What systems and programs leave beside data is never an acquisition, nor a member of one."""

import pytest

from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.backup.verify import verify_backup
from kraken_dagster.fs.rate_limit import Pace
from kraken_dagster.model.files.debris import is_debris
from kraken_dagster.model.raw_file import InstrumentFileStatus, Status
from kraken_dagster.retention.archive import ArchiveOptions, move_aside
from kraken_dagster_tests.retention.retention_cases import (
    INSTRUMENTS,
    aside,
    created,
    done,
    files_in,
    moved,
    purge_all,
)
from kraken_dagster_tests.support.helpers import Bench, acquire, finish

IN_FOLDERS = (
    ".DS_Store",
    "Thumbs.db",
    "THUMBS.DB",
    "desktop.ini",
    "._analysis.tdf",
    "~$notes.docx",
    ".smbdeleteAAA1",
    ".nfs000000000001",
    ".fuse_hidden0001",
    "analysis.tdf.tmp",
    "analysis.tdf_bin.partial",
    "x.FilePart",
    "x.crdownload",
)


@pytest.mark.parametrize("name", IN_FOLDERS)
def test_debris_is_known_by_its_name_wherever_it_lies(name: str) -> None:
    assert is_debris(name)
    assert is_debris(f"x.d/4711.m/{name}")


@pytest.mark.parametrize(
    "name",
    ["x.tmp.raw", "x._y.raw", "nfs.raw", "x.tmp/data", "my~$x.raw", "DS_Store", "tmp", "a\n"],
)
def test_a_name_that_is_merely_like_it_is_none(name: str) -> None:
    assert not is_debris(name)


@pytest.mark.parametrize(
    ("instrument_id", "name"),
    [("thermo1", "._a.raw"), ("thermo1", "~$a.raw"), ("bruker1", "._a.d"), ("sciex1", "._a.wiff")],
)
@pytest.mark.parametrize("as_folder", [False, True])
def test_debris_that_looks_like_an_acquisition_is_none(world, instrument_id, name, as_folder):
    bench = Bench(world, instrument_id)
    real = f"a{name[name.rindex('.') :]}"
    bench.write(real)
    if instrument_id == "sciex1":
        (bench.folder / "a.wiff.scan").write_bytes(b"x" * 500)
    bench.look()
    path = bench.folder / name
    path.mkdir() if as_folder else path.write_bytes(b"\0\5\x16\7" * 1024)
    for _ in range(3):
        found = bench.look(minutes=1)
        assert (found.registered, found.ended, found.newly_left_alone) == ((), (), ())
    assert bench.statuses() == {real: "monitoring_acquisition"}


def test_a_file_that_macos_leaves_beside_a_running_acquisition_does_not_end_it(world):
    bench = Bench(world, "thermo1")
    bench.write("s.raw", 1_000)
    bench.look()
    bench.write("s.raw", 2_000)
    bench.look(minutes=1)
    (bench.folder / "._s.raw").write_bytes(b"\0\5\x16\7" + b"\0" * 4092)
    bench.look(minutes=1)
    bench.write("s.raw", 90_000)
    finish(world, "thermo1")
    back_up(world, "s.raw", run_id="b", options=BackupOptions())
    assert world.store.raw_files.get("s.raw").size == 90_000


def litter(world, instrument_id: str, name: str) -> set[str]:
    """Leaves debris where it may be taken for members; the paths below the instrument's folder."""
    folder = world.instrument_folder(instrument_id)
    if instrument_id == "bruker1":
        paths = {f"{name}/{item}" for item in IN_FOLDERS} | {f"{name}/4711.m/.DS_Store"}
    else:
        stem = name.rpartition(".")[0]
        paths = {f"{stem}.wiff.tmp", f"._{name}", f"{name}.partial", f"._{stem}.wiff.scan"}
    for path in paths:
        (folder / path).write_bytes(b"left here")
    return paths


@pytest.mark.parametrize(("instrument_id", "name"), INSTRUMENTS.items())
def test_debris_is_no_member_of_a_backup(world, instrument_id, name):
    acquire(world, instrument_id, name)
    litter(world, instrument_id, name)
    finish(world, instrument_id)
    back_up(world, name, run_id="b", options=BackupOptions())
    recorded = world.store.raw_files.get(name).file_info
    assert recorded
    assert not any(map(is_debris, recorded))


@pytest.mark.parametrize(("instrument_id", "name"), INSTRUMENTS.items())
def test_debris_keeps_no_file_from_being_moved(world, instrument_id, name):
    done(world, instrument_id, name)
    litter(world, instrument_id, name)
    outcome = move_aside(world, name, run_id="m", options=ArchiveOptions())
    assert outcome.moved, outcome.reason


def test_debris_goes_along_with_its_folder_and_is_neither_deleted_nor_in_the_way(world):
    done(world, "bruker1", "x.d")
    left = litter(world, "bruker1", "x.d")
    assert move_aside(world, "x.d", run_id="m", options=ArchiveOptions()).moved
    created(world, "x.d", days_ago=15)
    (deleted,) = purge_all(world, "bruker1").deleted
    assert "2 folders stay, for what a system left in them" in deleted.reason
    assert world.store.raw_files.get("x.d").instrument_file_status is InstrumentFileStatus.PURGED
    assert set(files_in(aside(world, "bruker1"))) == left
    assert purge_all(world, "bruker1").kept == ()


def test_debris_of_a_sciex_file_that_is_purged_stays(world):
    moved(world, "sciex1", "x.wiff")
    for name in ("x.wiff.tmp", "._x.wiff"):
        (aside(world, "sciex1") / name).write_bytes(b"left here")
    assert [item.raw_file_id for item in purge_all(world, "sciex1").deleted] == ["x.wiff"]
    assert set(files_in(aside(world, "sciex1"))) == {"x.wiff.tmp", "._x.wiff"}


def test_debris_that_an_earlier_version_has_backed_up_is_proven_and_purged_like_the_rest(world):
    raw_file = done(world, "bruker1", "x.d")
    fact = next(iter(raw_file.file_info.items()))
    content = (world.backup_folder(raw_file) / fact[0]).read_bytes()
    for folder in (world.instrument_folder("bruker1"), world.backup_folder(raw_file)):
        parent = folder / "x.d"
        mode = parent.stat().st_mode
        parent.chmod(0o755)
        (parent / ".DS_Store").write_bytes(content)
        parent.chmod(mode)
    info = {**raw_file.file_info, "x.d/.DS_Store": fact[1]}
    records = {name: item.to_record() for name, item in info.items()}
    world.store.raw_files.update(raw_file, {"file_info": records}, now=world.now(), note="earlier")
    assert move_aside(world, "x.d", run_id="m", options=ArchiveOptions()).moved
    created(world, "x.d", days_ago=15)
    assert [item.raw_file_id for item in purge_all(world, "bruker1").deleted] == ["x.d"]
    assert files_in(aside(world, "bruker1")) == {}


def test_debris_in_the_backup_is_nothing_that_is_told(world):
    raw_file = done(world, "bruker1", "x.d")
    folder = world.backup_folder(raw_file) / "x.d"
    folder.chmod(0o755)
    (folder / ".DS_Store").write_bytes(b"somebody looked here")
    outcome = verify_backup(world, "x.d", run_id="v", pace=Pace())
    assert outcome.extra == ()
    assert world.store.raw_files.get("x.d").status is Status.DONE_NOT_QUANTED
