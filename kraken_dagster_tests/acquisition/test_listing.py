"""What a look at an instrument's folder shows, and what is made of it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kraken_dagster.fs.folder_listing import list_folder
from kraken_dagster.model.errors import FolderMissing, FolderUnreadable
from kraken_dagster.model.files.acquisition import FolderEntry
from kraken_dagster.model.files.folder import Entry, Kind, LeftAlone, Listing, sort_out
from kraken_dagster.model.files.vendors import Vendor
from kraken_dagster_tests.backup.copying.copying_cases import BY_RIGHTS, NAMES

MAIN_FILE = "analysis.tdf_bin"


def scan(folder: Path) -> Listing:
    return list_folder(str(folder), main_files=[MAIN_FILE], timeout_s=60.0)


def by_name(folder: Path) -> dict[str, Entry]:
    return {entry.name: entry for entry in scan(folder).entries}


def entry(name: str, kind: Kind = Kind.FILE, **values: float | None) -> Entry:
    return Entry(
        **{"name": name, "kind": kind, "size": 10, "mtime": 200.0, "ctime": 300.0} | values
    )


def test_a_file_is_seen_with_its_size_and_times(tmp_path: Path) -> None:
    (tmp_path / "x.raw").write_bytes(b"12345")
    os.utime(tmp_path / "x.raw", ns=(0, 1_500_000_000_250_000_000))
    facts = (tmp_path / "x.raw").stat()
    assert scan(tmp_path).entries == (
        Entry("x.raw", Kind.FILE, 5, mtime=1_500_000_000.25, ctime=facts.st_ctime),
    )


def test_the_free_space_is_that_of_the_folder_s_disk(tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)
    assert 0 < scan(tmp_path).free_bytes <= disk.f_blocks * disk.f_frsize


def test_the_main_file_in_a_folder_is_seen_with_its_size_and_times(tmp_path: Path) -> None:
    for name in ("with.d", "without.d", "odd.d", "link.d"):
        (tmp_path / name).mkdir()
    (tmp_path / "with.d" / MAIN_FILE).write_bytes(b"123")
    (tmp_path / "odd.d" / MAIN_FILE).mkdir()
    (tmp_path / "link.d" / MAIN_FILE).symlink_to(tmp_path / "with.d" / MAIN_FILE)
    facts = (tmp_path / "with.d" / MAIN_FILE).stat()
    seen = by_name(tmp_path)
    main = seen["with.d"].main_size, seen["with.d"].main_mtime, seen["with.d"].main_ctime
    assert main == (3, facts.st_mtime, facts.st_ctime)
    assert [seen[name].main_size for name in ("without.d", "odd.d", "link.d")] == [None] * 3


def test_every_kind_of_entry_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    assert {name: seen.kind for name, seen in by_name(tmp_path).items()} == {
        "file": Kind.FILE,
        "folder": Kind.FOLDER,
        "link": Kind.LINK,
        "dangling": Kind.LINK,
        "pipe": Kind.OTHER,
    }


@pytest.mark.parametrize(
    "name",
    [b"\xff\xfe.raw", "質量 分析.raw".encode(), b"new\nline.raw", b'"quotes".raw', b"-x.raw"],
)
def test_any_name_arrives_as_the_disk_has_it(tmp_path: Path, name: bytes) -> None:
    (tmp_path / os.fsdecode(name)).touch()
    (seen,) = scan(tmp_path).entries
    assert os.fsencode(seen.name) == name


@pytest.mark.parametrize("name", ["-rf", "a b", os.fsdecode(b"\xff"), "new\nline"])
def test_a_folder_of_any_name_is_looked_at(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "x.raw").touch()
    assert [*by_name(tmp_path / name)] == ["x.raw"]


def test_a_folder_that_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FolderMissing):
        scan(tmp_path / "nowhere")


def test_what_is_no_folder_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "FileNotFoundError").touch()
    with pytest.raises(FolderUnreadable, match="Not a directory"):
        scan(tmp_path / "FileNotFoundError")


def test_a_folder_that_may_not_be_listed_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0)
    script = (
        "import sys\n"
        "from kraken_dagster.fs.folder_listing import list_folder\n"
        "list_folder(sys.argv[1], timeout_s=60.0)"
    )
    command = [*BY_RIGHTS, sys.executable, "-c", script, tmp_path / "locked"]
    found = subprocess.run(command, capture_output=True, text=True)
    assert ".FolderUnreadable: " in found.stderr.splitlines()[-1]
    assert "Permission denied" in found.stderr.splitlines()[-1]


def test_a_folder_of_thousands_is_seen_whole_and_in_order(tmp_path: Path) -> None:
    names = [f"{number:04}.raw" for number in range(2_000)]
    for name in names:
        (tmp_path / name).touch()
    assert [seen.name for seen in scan(tmp_path).entries] == names


RIGHT_KIND = {Vendor.THERMO: Kind.FILE, Vendor.BRUKER: Kind.FOLDER, Vendor.SCIEX: Kind.FILE}
WRONG_KINDS = [
    (vendor, kind) for vendor in Vendor for kind in Kind if kind is not RIGHT_KIND[vendor]
]


def left_alone(vendor: Vendor, *entries: Entry) -> list[LeftAlone]:
    """What is left alone when nothing of it is an acquisition."""
    standing, left = sort_out(vendor, entries)
    assert standing == {}
    return left


@pytest.mark.parametrize("vendor", Vendor)
@pytest.mark.parametrize("change", [str, str.upper])
def test_the_name_of_an_acquisition_keeps_its_case(
    vendor: Vendor, change: Callable[[str], str]
) -> None:
    name = change(NAMES[vendor])
    standing, left = sort_out(vendor, [entry(name, RIGHT_KIND[vendor])])
    assert ([*standing], left) == ([name], [])
    assert standing[name].name == name


@pytest.mark.parametrize("vendor", Vendor)
def test_another_extension_is_none_of_our_business(vendor: Vendor) -> None:
    names = ["x", "x.txt", "xraw", "x.raw.part", "x.d.zip", "x.wiff3", "d", ""]
    assert left_alone(vendor, *(entry(name, RIGHT_KIND[vendor]) for name in names)) == []


@pytest.mark.parametrize(("vendor", "kind"), WRONG_KINDS)
def test_an_entry_of_the_wrong_kind_is_left_alone_and_said_to_be(
    vendor: Vendor, kind: Kind
) -> None:
    (left,) = left_alone(vendor, entry(NAMES[vendor], kind))
    assert left.name == NAMES[vendor]
    assert str(kind) in left.reason


@pytest.mark.parametrize("vendor", Vendor)
def test_a_name_that_is_only_an_extension_is_left_alone(vendor: Vendor) -> None:
    (left,) = left_alone(vendor, entry(NAMES[vendor][1:], RIGHT_KIND[vendor]))
    assert "nothing but the extension" in left.reason


@pytest.mark.parametrize("vendor", Vendor)
def test_a_name_that_is_not_utf_8_is_left_alone(vendor: Vendor) -> None:
    name = os.fsdecode(b"\xff") + NAMES[vendor]
    (left,) = left_alone(vendor, entry(name, RIGHT_KIND[vendor]))
    assert left == LeftAlone(name, "the name is not valid UTF-8; rename it on the instrument")


def test_one_bad_entry_hides_no_other() -> None:
    entries = [entry(".raw"), entry("a.raw"), entry("b.raw", Kind.LINK), entry("c.raw")]
    standing, left = sort_out(Vendor.THERMO, entries)
    assert ([*standing], [one.name for one in left]) == (["a.raw", "c.raw"], [".raw", "b.raw"])


@pytest.mark.parametrize(("mtime", "ctime"), [(200.0, 300.0), (300.0, 200.0)])
def test_a_file_was_made_at_the_earlier_of_its_times(mtime: float, ctime: float) -> None:
    standing, _ = sort_out(Vendor.THERMO, [entry("x.raw", mtime=mtime, ctime=ctime)])
    assert standing["x.raw"] == FolderEntry("x.raw", 200.0, 10, 10, None, main_mtime=mtime)


def test_a_folder_was_made_when_its_main_file_was() -> None:
    bare = entry("x.d", Kind.FOLDER)
    main = bare._replace(main_size=70, main_mtime=260.0, main_ctime=250.0)
    assert sort_out(Vendor.BRUKER, [bare])[0]["x.d"] == FolderEntry("x.d", 200.0, None, 0, None)
    whole = FolderEntry("x.d", 250.0, 70, 70, None, main_mtime=260.0)
    assert sort_out(Vendor.BRUKER, [main])[0]["x.d"] == whole


def test_an_empty_main_file_is_there() -> None:
    empty = entry("x.d", Kind.FOLDER, main_size=0, main_mtime=1.0, main_ctime=1.0)
    assert sort_out(Vendor.BRUKER, [empty])[0]["x.d"].main_size_bytes == 0


def test_a_sciex_acquisition_is_the_sum_of_its_own_files() -> None:
    entries = [
        entry("x.wiff", size=1),
        entry("x.wiff.scan", size=20),
        entry("x.timeseries.data", size=300),
        entry("x.notes", size=4_000),
        entry("x.folder", Kind.FOLDER, size=50_000),
        entry("x.1.wiff", size=600_000),
        entry("x.1.wiff2", size=7_000_000),
        entry("x.2.wiff.scan", size=80_000_000),
    ]
    standing, left = sort_out(Vendor.SCIEX, entries)
    first = FolderEntry("x.wiff", 200.0, 1, 4_321, 20, main_mtime=200.0)
    second = FolderEntry("x.1.wiff", 200.0, 600_000, 7_600_000, None, main_mtime=200.0)
    assert (standing["x.wiff"], standing["x.1.wiff"]) == (first, second)
    assert ([*standing], left) == (["x.wiff", "x.1.wiff"], [])


def test_sparse_files_of_any_size_together_have_a_size_that_mongodb_can_hold():
    largest = 2**63 - 1
    names = ("x.wiff", "x.wiff.scan", "x.timeseries.data")
    entries = [Entry(name, Kind.FILE, largest, 200.0, 200.0) for name in names]
    assert sort_out(Vendor.SCIEX, entries)[0]["x.wiff"].total_bytes == largest


def test_what_stands_in_a_real_folder_is_sorted_out(tmp_path: Path) -> None:
    (tmp_path / "x.d").mkdir()
    (tmp_path / "x.d" / MAIN_FILE).write_bytes(b"123")
    (tmp_path / "y.d").touch()
    (tmp_path / "z.d").symlink_to(tmp_path / "x.d")
    standing, left = sort_out(Vendor.BRUKER, scan(tmp_path).entries)
    assert [(one.name, one.main_size_bytes) for one in standing.values()] == [("x.d", 3)]
    assert [one.name for one in left] == ["y.d", "z.d"]
