"""Whatever goes wrong while a raw file is copied, nothing partial is left and nothing is lost."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kraken_dagster.fs.copying.copy_file import copy_file
from kraken_dagster.fs.copying.progress import Progress, Stopped
from kraken_dagster.model import errors
from kraken_dagster.model.files.vendors import Vendor
from kraken_dagster_tests.backup.copying.copying_cases import (
    BY_RIGHTS,
    Copying,
    content,
    make,
    parts,
    unavailable,
    write,
)

SEVERAL_CHUNKS = 9_000_000
# How often a copy of that many bytes asks whether it may go on: before each of two chunks and the
# end of the file, for two chunks that are read back, and before the final name is given.
QUESTIONS = range(1, 7)


@pytest.fixture
def bruker(tmp_path: Path) -> Copying:
    return make(tmp_path, Vendor.BRUKER)


@pytest.fixture(params=[Vendor.THERMO, Vendor.BRUKER])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Copying:
    return make(tmp_path, request.param)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    disk = tmp_path / "small"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        unavailable("a tmpfs can't be mounted; this needs root")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def at_call(number: int, action: Callable[[], object]) -> Callable[[], bool]:
    """A question that is always answered with yes, and does `action` when it is asked then."""
    calls: list[int] = []

    def answer() -> bool:
        calls.append(1)
        if len(calls) == number:
            action()
        return True

    return answer


def vanish(source: Path) -> None:
    source.unlink()


def shrink(source: Path) -> None:
    os.truncate(source, source.stat().st_size - 1)


def grow(source: Path) -> None:
    with source.open("ab") as file:
        file.write(b"!")


def be_replaced(source: Path) -> None:
    write(source.with_name("new"), source.stat().st_size, seed=7).replace(source)


def change_in_place(source: Path) -> None:
    write(source, source.stat().st_size, seed=8)


CHANGES = [vanish, shrink, grow, be_replaced, change_in_place]


@pytest.mark.parametrize("call", QUESTIONS[:-1])
@pytest.mark.parametrize("change", CHANGES)
def test_a_source_that_changes_while_it_is_copied_is_refused(
    tmp_path: Path, change: Callable[[Path], None], call: int
) -> None:
    source, target = write(tmp_path / "x.raw", SEVERAL_CHUNKS), tmp_path / "b" / "x.raw"
    may_go_on = at_call(call, lambda: change(source))
    expected = errors.SourceMissing if change is vanish else errors.SourceChanged
    with pytest.raises(expected):
        copy_file(source, target, progress=Progress(0), may_go_on=may_go_on)
    assert not os.listdir(target.parent)


@pytest.mark.parametrize("change", CHANGES)
def test_a_folder_of_which_a_member_changes_at_the_end_is_refused(
    bruker: Copying, change: Callable[[Path], None]
) -> None:
    def list_members() -> list[str]:
        members = bruker.members()
        change(bruker.source / "x.d" / "analysis.tdf")
        return members

    expected = errors.SourceMissing if change is vanish else errors.SourceChanged
    with pytest.raises(expected):
        bruker.run(list_members=list_members)
    assert not bruker.final.exists()
    if change is not vanish:
        bruker.run()
        assert content(bruker.target / "x.d") == content(bruker.source / "x.d")


@pytest.mark.parametrize("vendor", [Vendor.BRUKER, Vendor.SCIEX])
def test_a_member_that_comes_or_goes_meanwhile_is_a_change(tmp_path: Path, vendor: Vendor) -> None:
    case = make(tmp_path, vendor)
    plan = case.plan()
    one = case.source / case.members()[-1]
    one.rename(one.with_name(f"{one.name}.2"))
    one.with_name(f"{one.name}.2").rename(one)
    write(one.with_name("x.new"), 5)
    with pytest.raises(errors.SourceChanged, match=r"x\.new"):
        case.run(plan=plan)
    one.with_name("x.new").unlink()
    with pytest.raises(errors.SourceChanged, match="Files were added"):
        case.run(plan=plan, list_members=lambda: case.members()[1:])


@pytest.mark.parametrize("where", ["x.d", "x.d/analysis.tdf", "x.d/1.m"])
def test_a_link_is_never_followed(bruker: Copying, tmp_path: Path, where: str) -> None:
    real = (bruker.source / where).rename(tmp_path / "real")
    (bruker.source / where).symlink_to(real)
    with pytest.raises(errors.UnsafePath):
        bruker.run()
    assert not os.listdir(bruker.target)


def test_what_is_a_link_by_the_time_it_is_copied_is_refused(either: Copying) -> None:
    plan = either.plan()
    member = either.source / either.members()[-1]
    member.symlink_to(member.rename(either.source / "real"))
    with pytest.raises(errors.UnsafePath):
        either.run(plan=plan)
    assert not os.listdir(either.target)


def test_a_special_file_is_refused(bruker: Copying) -> None:
    os.mkfifo(bruker.source / "x.d" / "pipe")
    with pytest.raises(errors.UnsafePath, match="pipe"):
        bruker.run()


def test_a_name_that_is_not_utf_8_is_refused_in_words(bruker: Copying) -> None:
    write(bruker.source / "x.d" / os.fsdecode(b"\xff.method"), 10)
    with pytest.raises(errors.UnsafePath, match="not valid UTF-8"):
        bruker.run()


def test_a_full_disk_is_said_to_be_full_and_holds_nothing_partial(
    either: Copying, small_disk: Path
) -> None:
    for member in either.members():
        write(either.source / member, 3_000_000)
    case = Copying(either.vendor, either.source, small_disk)
    with pytest.raises(errors.BackupFull):
        case.run()
    assert not case.final.exists()
    assert not parts(small_disk)
    subprocess.run(["mount", "-o", "remount,size=32m", small_disk], check=True)
    case.run()
    assert content(case.final) == content(case.source / case.name)


def test_a_copy_ends_when_its_lease_is_lost(either: Copying) -> None:
    write(either.source / either.members()[-1], 30_000_000)
    with pytest.raises(errors.LeaseLost):
        either.run(still_ours=lambda: False)
    assert not parts(either.target)
    assert either.vendor is Vendor.THERMO or not either.final.exists()  # one file may be whole


def test_a_lease_that_is_lost_at_the_last_moment_leaves_no_folder(bruker: Copying) -> None:
    listed: list[int] = []

    def list_members() -> list[str]:
        listed.append(1)
        return bruker.members()

    with pytest.raises(errors.LeaseLost):
        bruker.run(list_members=list_members, still_ours=lambda: not listed)
    assert not bruker.final.exists()


@pytest.mark.parametrize("call", QUESTIONS)
def test_a_copy_that_is_told_to_stop_leaves_nothing(tmp_path: Path, call: int) -> None:
    source, target = write(tmp_path / "x.raw", SEVERAL_CHUNKS), tmp_path / "b" / "x.raw"
    answers = [True] * (call - 1)
    may_go_on = lambda: answers.pop() if answers else False  # noqa: E731
    with pytest.raises(Stopped):
        copy_file(source, target, progress=Progress(0), may_go_on=may_go_on)
    assert not os.listdir(target.parent)


@pytest.mark.parametrize("call", QUESTIONS)
def test_what_comes_to_stand_at_the_target_meanwhile_is_not_replaced(
    tmp_path: Path, call: int
) -> None:
    source, target = write(tmp_path / "x.raw", SEVERAL_CHUNKS), tmp_path / "b" / "x.raw"
    may_go_on = at_call(call, lambda: write(target, 10))
    with pytest.raises(errors.BackupConflict):
        copy_file(source, target, progress=Progress(0), may_go_on=may_go_on)
    assert content(target) == content(write(tmp_path / "same", 10))
    assert os.listdir(target.parent) == ["x.raw"]


def test_a_folder_that_comes_to_stand_at_the_target_meanwhile_is_not_replaced(
    bruker: Copying,
) -> None:
    def list_members() -> list[str]:
        write(bruker.final / "a stranger's", 10)
        return bruker.members()

    with pytest.raises(errors.BackupConflict):
        bruker.run(list_members=list_members)
    assert [*content(bruker.final)] == ["a stranger's"]


def test_a_disk_that_gives_back_other_bytes_is_found_out(tmp_path: Path) -> None:
    source, target = write(tmp_path / "x.raw", SEVERAL_CHUNKS), tmp_path / "b" / "x.raw"

    def flip_a_bit() -> bool:
        for part in parts(target.parent):
            if part.stat().st_size == SEVERAL_CHUNKS:
                with part.open("r+b") as file:
                    file.seek(-1, os.SEEK_END)
                    file.write(bytes([source.read_bytes()[-1] ^ 1]))
        return True

    with pytest.raises(errors.DigestMismatch):
        copy_file(source, target, progress=Progress(0), may_go_on=flip_a_bit)
    assert not os.listdir(target.parent)


def test_when_one_member_fails_the_parts_of_the_others_are_gone(bruker: Copying) -> None:
    for number in range(3):
        write(bruker.source / "x.d" / f"{number}.big", 30_000_000, seed=number)
    write(bruker.final / "analysis.tdf", 10)
    with pytest.raises(errors.BackupConflict):
        bruker.run()
    assert not parts(bruker.target)
    bruker.run(overwrite=True)
    assert content(bruker.final) == content(bruker.source / "x.d")


def test_a_source_that_may_not_be_read_is_an_error_of_its_own(either: Copying) -> None:
    (either.source / either.members()[-1]).chmod(0)
    found = either.in_a_child("case.run()", *BY_RIGHTS)
    assert ".SourceUnreadable: " in found.stderr
    assert "Permission denied" in found.stderr
    assert not either.final.exists()
    assert not parts(either.target)
