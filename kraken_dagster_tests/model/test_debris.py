"""What systems and programs leave beside data is never an acquisition, nor a member of one."""

import pytest

from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.backup.verify import verify_backup
from kraken_dagster.fs.rate_limit import RateLimit
from kraken_dagster.model.files.debris import is_debris
from kraken_dagster.model.raw_file import InstrumentFileStatus, Status
from kraken_dagster.retention.archiving.archive import ArchiveOptions, archive_members
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
def test_debris_that_looks_like_an_acquisition_is_none(services, instrument_id, name, as_folder):
    bench = Bench(services, instrument_id)
    real = f"a{name[name.rindex('.') :]}"
    bench.write(real)
    if instrument_id == "sciex1":
        (bench.folder / "a.wiff.scan").write_bytes(b"x" * 500)
    bench.scan()
    path = bench.folder / name
    path.mkdir() if as_folder else path.write_bytes(b"\0\5\x16\7" * 1024)
    for _ in range(3):
        found = bench.scan(minutes=1)
        assert (found.registered, found.ended, found.newly_left_alone) == ((), (), ())
    assert bench.statuses() == {real: "monitoring_acquisition"}


def test_a_file_that_macos_leaves_beside_a_running_acquisition_does_not_end_it(services):
    bench = Bench(services, "thermo1")
    bench.write("s.raw", 1_000)
    bench.scan()
    bench.write("s.raw", 2_000)
    bench.scan(minutes=1)
    (bench.folder / "._s.raw").write_bytes(b"\0\5\x16\7" + b"\0" * 4092)
    bench.scan(minutes=1)
    bench.write("s.raw", 90_000)
    finish(services, "thermo1")
    back_up(services, "s.raw", run_id="b", options=BackupOptions())
    assert services.store.raw_files.get("s.raw").size == 90_000


def litter(services, instrument_id: str, name: str) -> set[str]:
    """Leaves debris where it may be taken for members; the paths below the instrument's folder."""
    folder = services.instrument_folder(instrument_id)
    if instrument_id == "bruker1":
        paths = {f"{name}/{item}" for item in IN_FOLDERS} | {f"{name}/4711.m/.DS_Store"}
    else:
        stem = name.rpartition(".")[0]
        paths = {f"{stem}.wiff.tmp", f"._{name}", f"{name}.partial", f"._{stem}.wiff.scan"}
    for path in paths:
        (folder / path).write_bytes(b"left here")
    return paths


@pytest.mark.parametrize(("instrument_id", "name"), INSTRUMENTS.items())
def test_debris_is_no_member_of_a_backup(services, instrument_id, name):
    acquire(services, instrument_id, name)
    litter(services, instrument_id, name)
    finish(services, instrument_id)
    back_up(services, name, run_id="b", options=BackupOptions())
    recorded = services.store.raw_files.get(name).file_info
    assert recorded
    assert not any(map(is_debris, recorded))


@pytest.mark.parametrize(("instrument_id", "name"), INSTRUMENTS.items())
def test_debris_keeps_no_file_from_being_moved(services, instrument_id, name):
    done(services, instrument_id, name)
    litter(services, instrument_id, name)
    outcome = archive_members(services, name, run_id="m", options=ArchiveOptions())
    assert outcome.moved, outcome.reason


def test_debris_goes_along_with_its_folder_and_is_neither_deleted_nor_in_the_way(services):
    done(services, "bruker1", "x.d")
    left = litter(services, "bruker1", "x.d")
    assert archive_members(services, "x.d", run_id="m", options=ArchiveOptions()).moved
    created(services, "x.d", days_ago=15)
    (deleted,) = purge_all(services, "bruker1").deleted
    assert "2 folders stay, for what a system left in them" in deleted.reason
    assert services.store.raw_files.get("x.d").instrument_file_status is InstrumentFileStatus.PURGED
    assert set(files_in(aside(services, "bruker1"))) == left
    assert purge_all(services, "bruker1").kept == ()


def test_debris_of_a_sciex_file_that_is_purged_stays(services):
    moved(services, "sciex1", "x.wiff")
    for name in ("x.wiff.tmp", "._x.wiff"):
        (aside(services, "sciex1") / name).write_bytes(b"left here")
    assert [item.raw_file_id for item in purge_all(services, "sciex1").deleted] == ["x.wiff"]
    assert set(files_in(aside(services, "sciex1"))) == {"x.wiff.tmp", "._x.wiff"}


def test_debris_that_an_earlier_version_has_backed_up_is_proven_and_purged_like_the_rest(services):
    raw_file = done(services, "bruker1", "x.d")
    fact = next(iter(raw_file.file_info.items()))
    content = (services.backup_folder(raw_file) / fact[0]).read_bytes()
    for folder in (services.instrument_folder("bruker1"), services.backup_folder(raw_file)):
        parent = folder / "x.d"
        mode = parent.stat().st_mode
        parent.chmod(0o755)
        (parent / ".DS_Store").write_bytes(content)
        parent.chmod(mode)
    info = {**raw_file.file_info, "x.d/.DS_Store": fact[1]}
    records = {name: item.to_record() for name, item in info.items()}
    services.store.raw_files.update(
        raw_file, {"file_info": records}, now=services.now(), note="earlier"
    )
    assert archive_members(services, "x.d", run_id="m", options=ArchiveOptions()).moved
    created(services, "x.d", days_ago=15)
    assert [item.raw_file_id for item in purge_all(services, "bruker1").deleted] == ["x.d"]
    assert files_in(aside(services, "bruker1")) == {}


def test_debris_in_the_backup_is_nothing_that_is_told(services):
    raw_file = done(services, "bruker1", "x.d")
    folder = services.backup_folder(raw_file) / "x.d"
    folder.chmod(0o755)
    (folder / ".DS_Store").write_bytes(b"somebody looked here")
    outcome = verify_backup(services, "x.d", run_id="v", rate_limit=RateLimit())
    assert outcome.extra == ()
    assert services.store.raw_files.get("x.d").status is Status.DONE_NOT_QUANTED
