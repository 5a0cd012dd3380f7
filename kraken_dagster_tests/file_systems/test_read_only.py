"""A backup that nobody can write to: how it gets so, and how a copy gets on with it.

What is run by `BY_RIGHTS` has the user's rights on files and no others, as a Kraken has that isn't
started by root.
"""

import os
import signal
import stat
from pathlib import Path

import pytest

from kraken_dagster.backup.restore import restore
from kraken_dagster.backup.verify import Verdict, verify_backup
from kraken_dagster.fs.copying.part_files import PART_PREFIX
from kraken_dagster.fs.rate_limit import RateLimit
from kraken_dagster.fs.stores.manifest import write_manifests
from kraken_dagster.model.files.vendors import Vendor
from kraken_dagster_tests.backup.copying.copying_cases import (
    BY_RIGHTS,
    Copying,
    content,
    make,
    write,
)
from kraken_dagster_tests.retention.retention_cases import INSTRUMENTS, done, flip_a_bit

VENDORS = list(Vendor)
COPY = "case.run(read_only=True)"
# Tries all that would alter a backup, and prints what worked.
ALTER = """
import os
top = case.final
paths = sorted(top.rglob("*")) if top.is_dir() else [case.target / n for n in case.members()]
for path in paths:
    def append(): open(path, "ab").write(b"x")
    def truncate(): os.truncate(path, 0)
    def rename(): path.rename(path.with_name("renamed"))
    def remove(): path.rmdir() if path.is_dir() else path.unlink()
    def add(): path.with_name("added").write_bytes(b"x")
    tries = [rename, remove, add] if top.is_dir() else []
    for one in [*tries, *([append, truncate] if path.is_file() else [])]:
        try:
            one()
            print(one.__name__, path)
        except PermissionError:
            pass
"""


@pytest.fixture(params=VENDORS, ids=str)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Copying:
    return make(tmp_path, request.param)


@pytest.fixture
def bruker(tmp_path: Path) -> Copying:
    return make(tmp_path, Vendor.BRUKER)


def writable(folder: Path) -> list[str]:
    """What below a folder somebody has the right to write to."""
    found = [path for path in sorted(folder.rglob("*")) if path.lstat().st_mode & 0o222]
    return [path.relative_to(folder).as_posix() for path in found]


def test_nobody_has_the_right_to_write_to_what_was_copied(case: Copying) -> None:
    before = {path: path.stat().st_mode for path in case.source.rglob("*")}
    result = case.run(read_only=True)
    write_manifests(case.target, case.name, result.facts)
    assert writable(case.target) == []
    assert {path: path.stat().st_mode for path in case.source.rglob("*")} == before
    assert case.target.stat().st_mode & stat.S_IWUSR  # the next backup goes there, too


def test_who_may_read_it_is_what_the_umask_says(case: Copying) -> None:
    old = os.umask(0o027)
    try:
        case.run(read_only=True)
    finally:
        os.umask(old)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in case.target.rglob("*")}
    assert modes == ({0o440, 0o550} if case.vendor is Vendor.BRUKER else {0o440})


def test_its_owner_neither_writes_to_it_nor_takes_a_member_out_of_its_folder(
    case: Copying,
) -> None:
    assert case.in_a_child(COPY, *BY_RIGHTS).stderr == ""
    before = content(case.target)
    found = case.in_a_child(ALTER, *BY_RIGHTS)
    assert (found.stdout, found.stderr) == ("", "")
    assert content(case.target) == before
    for path in (case.target, *case.target.rglob("*")):
        path.chmod(path.stat().st_mode | stat.S_IWUSR)
    assert case.in_a_child(ALTER, *BY_RIGHTS).stdout != ""


def test_what_is_proven_in_place_is_closed_too(case: Copying) -> None:
    case.run()
    assert writable(case.target) != []
    result = case.run(read_only=True)
    assert (result.copied, writable(case.target)) == (0, [])


def test_something_else_that_stands_there_stays_as_it_is(bruker: Copying) -> None:
    write(bruker.final / "analysis.tdf", 10)
    before = writable(bruker.target)
    found = bruker.in_a_child(COPY, *BY_RIGHTS)
    assert "BackupConflict" in found.stderr
    assert writable(bruker.target) == before


def test_a_member_that_a_closed_folder_lacks_is_added_and_the_folder_closed(
    bruker: Copying,
) -> None:
    assert bruker.in_a_child(COPY, *BY_RIGHTS).stderr == ""
    write(bruker.source / "x.d" / "1.m" / "new", 1000)
    write(bruker.source / "x.d" / "late", 1000)
    assert bruker.in_a_child(COPY, *BY_RIGHTS).stderr == ""
    assert content(bruker.final) == content(bruker.source / "x.d")
    assert writable(bruker.target) == []


def test_a_folder_that_was_opened_in_vain_is_closed_again(bruker: Copying) -> None:
    bruker.run(read_only=True)
    write(bruker.source / "x.d" / "late", 1000)
    vanishing = "case.run(read_only=True, list_members=lambda: [])"
    assert "SourceChanged" in bruker.in_a_child(vanishing, *BY_RIGHTS).stderr
    assert writable(bruker.target) == []


@pytest.mark.parametrize("standing", [True, False])
@pytest.mark.parametrize("answers", range(0, 4))
def test_a_copy_that_is_killed_is_ended_by_the_next_one(
    bruker: Copying, standing: bool, answers: int
) -> None:
    """Before the folder has its name, or while a member is added to one that has."""
    if standing:
        bruker.run(read_only=True)
        write(bruker.source / "x.d" / "1.m" / "late", 1000)
    dying = (
        f"left = [True] * {answers}\n"
        "case.run(read_only=True, still_ours=lambda: left.pop() if left else die(),"
        " list_members=case.members if left else die)"
    )
    assert bruker.in_a_child(dying, *BY_RIGHTS).returncode == -signal.SIGKILL
    assert bruker.in_a_child(COPY, *BY_RIGHTS).stderr == ""
    assert content(bruker.final) == content(bruker.source / "x.d")
    assert writable(bruker.target) == []
    assert not [*bruker.target.rglob(f"{PART_PREFIX}*")]


def test_what_a_dead_copy_left_in_a_closed_folder_is_removed(bruker: Copying) -> None:
    bruker.run()
    left = write(bruker.final / f"{PART_PREFIX}x" / f"{PART_PREFIX}x-1-1", 10)
    own = bruker.final / left.parent.name
    assert own.is_dir()
    bruker.run(read_only=True)
    write(bruker.source / "x.d" / "late", 10)
    assert bruker.in_a_child(COPY, *BY_RIGHTS).stderr == ""
    assert (bruker.final / "late").exists()
    assert bruker.final.stat().st_mode & 0o222 == 0


def test_a_folder_that_was_closed_before_it_got_its_name_gets_it(bruker: Copying) -> None:
    """Whoever made it died in between; the source has changed since."""
    dying = (
        "import kraken_dagster.backup.copier as copying\n"
        "copying.Path.rename = lambda *_: die()\n"
        "case.run(read_only=True)"
    )
    assert bruker.in_a_child(dying, *BY_RIGHTS).returncode == -signal.SIGKILL
    assert len([*bruker.target.glob(f"{PART_PREFIX}*")]) == 1
    write(bruker.source / "x.d" / "analysis.tdf", 700, seed=5)
    write(bruker.source / "x.d" / "1.m" / "new", 70)
    assert bruker.in_a_child(COPY, *BY_RIGHTS).stderr == ""
    assert content(bruker.final) == content(bruker.source / "x.d")
    assert writable(bruker.target) == []


def test_what_is_closed_can_be_moved_aside(case: Copying) -> None:
    case.run(read_only=True)
    for path in case.target.rglob("*"):
        if path.is_file() and path.stat().st_size:
            flip_a_bit(path)
    found = case.in_a_child("case.run(read_only=True, overwrite=True)", *BY_RIGHTS)
    assert found.stderr == ""
    for name in case.members():
        assert content(case.target / name) == content(case.source / name)
    assert writable(case.target) == []


@pytest.mark.parametrize(("instrument_id", "name"), INSTRUMENTS.items())
def test_a_verification_closes_the_backup_of_an_earlier_version(services, instrument_id, name):
    raw_file = done(services, instrument_id, name)
    folder = services.backup_folder(raw_file)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    unknown = (
        write(folder / name / "unknown", 5) if services.rules(instrument_id).is_folder else None
    )
    assert (
        verify_backup(services, name, run_id="v", rate_limit=RateLimit()).verdict
        is Verdict.VERIFIED
    )
    kept = [f"{name}/unknown"] if unknown else []
    assert [path for path in writable(folder) if not path.endswith(".md5")] == kept


def test_one_that_is_not_what_was_recorded_is_not_touched(services):
    raw_file = done(services, "bruker1", "x.d")
    folder = services.backup_folder(raw_file)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    flip_a_bit(folder / "x.d" / "analysis.tdf_bin")
    before = writable(folder)
    assert (
        verify_backup(services, "x.d", run_id="v", rate_limit=RateLimit()).verdict
        is Verdict.MISMATCH
    )
    assert writable(folder) == before


@pytest.mark.parametrize(("instrument_id", "name"), INSTRUMENTS.items())
def test_what_is_copied_out_of_it_can_be_written_to(services, tmp_path, instrument_id, name):
    raw_file = done(services, instrument_id, name)
    target = tmp_path / "restored"
    target.mkdir()
    restore(services, name, target)
    found = [path for path in target.rglob("*") if not path.stat().st_mode & stat.S_IWUSR]
    assert (found, len([*target.rglob("*")]) >= len(raw_file.file_info)) == ([], True)
