"""A backup is the whole file, proven by the real `md5sum`, whatever died or stands there already.

What goes wrong with the source, the disk or the lease is in `test_copying_damage.py`.
"""

import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kraken_dagster.fs.copying.part_files import open_part, part_path
from kraken_dagster.fs.stores.manifest import manifest_name, write_manifests
from kraken_dagster.model import errors
from kraken_dagster.model.files.vendors import Vendor
from kraken_dagster.model.raw_file import FileFact
from kraken_dagster_tests.backup.copying.copying_cases import (
    Copying,
    content,
    make,
    md5sum,
    parts,
    staging,
    stamps,
    write,
)

ODD_NAMES = [
    "new\nline.raw",
    "carriage\rreturn.raw",
    "back\\slash\\n.raw",
    "two  spaces .raw",
    "'quotes\"`$(touch x)`.raw",
    "-rf.raw",
    "*ünïcode 質量分析.raw",
    "n" * 251 + ".raw",
    "é" * 125 + "x.raw",
]


@pytest.fixture
def bruker(tmp_path: Path) -> Copying:
    return make(tmp_path, Vendor.BRUKER)


@pytest.fixture(params=Vendor)
def each(request: pytest.FixtureRequest, tmp_path: Path) -> Copying:
    return make(tmp_path, request.param)


@pytest.fixture(params=[Vendor.THERMO, Vendor.BRUKER])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Copying:
    return make(tmp_path, request.param)


def test_a_copy_has_the_bytes_the_times_and_the_digests_of_its_source(each: Copying) -> None:
    result = each.run()
    members = each.members()
    assert {path for path in content(each.target) if (each.target / path).is_file()} == {*members}
    for member in members:
        source, target = each.source / member, each.target / member
        assert target.read_bytes() == source.read_bytes()
        assert target.stat().st_mtime_ns == source.stat().st_mtime_ns
        fact = FileFact(size=source.stat().st_size, md5=md5sum(source))
        assert result.facts[member] == fact
    assert (result.copied, result.proven, result.set_aside) == (len(members), 0, ())
    assert result.copied_bytes == sum((each.source / member).stat().st_size for member in members)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_md5sum_itself_accepts_the_manifest(either: Copying, name: str) -> None:
    is_folder = either.vendor is Vendor.BRUKER
    case = replace(either, own_name=None if is_folder else name)
    odd = f"x.d/{name}/{name}" if is_folder else name
    write(case.source / odd, 1_000, seed=9)
    write_manifests(case.target, case.name, case.run().facts)
    check = ["md5sum", "--check", "--strict", "--", manifest_name(case.name)]
    assert subprocess.run(check, cwd=case.target, capture_output=True).returncode == 0
    write(case.target / odd, 1_000, seed=10)
    assert subprocess.run(check, cwd=case.target, capture_output=True).returncode == 1


def test_what_is_there_already_is_proven_and_not_touched(each: Copying) -> None:
    first = each.run()
    before = stamps(each.target)
    second = each.run()
    assert (second.copied, second.proven) == (0, len(each.members()))
    assert second.facts == first.facts
    assert stamps(each.target) == before


@pytest.mark.parametrize("longer", [0, 1])
def test_something_else_under_that_name_is_never_overwritten(each: Copying, longer: int) -> None:
    member = each.members()[-1]
    size = (each.source / member).stat().st_size
    other = write(each.target / member, size + longer, seed=99)
    before = content(other), stamps(other.parent)[other]
    with pytest.raises(errors.BackupConflict):
        each.run()
    assert (content(other), stamps(other.parent)[other]) == before
    assert not parts(each.target)


def test_what_is_to_be_overwritten_is_moved_aside_as_a_whole(either: Copying) -> None:
    generations = []
    for seed in (11, 12, 13):
        write(either.source / either.members()[-1], 200_000, seed)
        generations.append(content(either.source / either.name))
        result = either.run(overwrite=True)
    one, two = (either.target / f"{either.name}.{n}.alphakraken.bkp" for n in (1, 2))
    assert [content(one), content(two), content(either.final)] == generations
    assert result.set_aside == (two,)
    assert {*either.target.iterdir()} == {one, two, either.final}


def put_a_link(case: Copying) -> None:
    case.final.symlink_to(case.source / case.name)


def put_the_other_kind(case: Copying) -> None:
    """A file where a folder belongs, or a folder where a file does."""
    write(case.final if case.vendor is Vendor.BRUKER else case.final / "below", 10)


@pytest.mark.parametrize("put", [put_a_link, put_the_other_kind])
def test_what_is_no_raw_file_at_all_is_a_conflict_too(
    either: Copying, put: Callable[[Copying], None]
) -> None:
    put(either)
    before = [*either.target.rglob("*")]
    with pytest.raises(errors.BackupConflict):
        either.run()
    assert [*either.target.rglob("*")] == before
    assert len(either.run(overwrite=True).set_aside) == 1
    assert content(either.final) == content(either.source / either.name)
    assert not either.final.is_symlink()


def test_a_folder_has_its_final_name_only_as_a_whole(bruker: Copying) -> None:
    seen = []

    def watch() -> bool:
        seen.append(os.path.lexists(bruker.final))
        return True

    bruker.run(still_ours=watch)
    assert len(seen) > len(bruker.members())
    assert not any(seen)
    assert content(bruker.final) == content(bruker.source / "x.d")


def test_what_a_dead_copy_staged_is_proven_and_used(bruker: Copying) -> None:
    assert bruker.in_a_child("case.run(list_members=die)").returncode == -signal.SIGKILL
    assert not bruker.final.exists()
    result = bruker.run()
    assert (result.copied, result.proven) == (0, len(bruker.members()))
    assert content(bruker.target) == content(bruker.source)


def test_only_what_is_a_member_now_leaves_the_staging_folder(
    bruker: Copying, tmp_path: Path
) -> None:
    bruker.in_a_child("case.run(list_members=die)")
    precious = write(tmp_path / "elsewhere" / "precious", 10)
    write(staging(bruker) / "junk", 10)
    write(staging(bruker) / "deep" / "er" / "junk", 10)
    (staging(bruker) / "link").symlink_to(precious.parent)
    (bruker.source / "x.d" / "analysis.tdf").unlink()
    write(bruker.source / "x.d" / "analysis.tdf_bin", 300_000, seed=50)
    bruker.run()
    assert content(bruker.target) == content(bruker.source)
    assert precious.exists()


@pytest.mark.parametrize("answers", [0, 1, 2])
def test_a_copy_that_was_killed_is_finished_by_the_next_one(each: Copying, answers: int) -> None:
    dying = (
        f"left = [True] * {answers}\n"
        "case.run(list_members=die, still_ours=lambda: left.pop() if left else die())"
    )
    assert each.in_a_child(dying).returncode == -signal.SIGKILL
    each.run()
    assert not [*each.target.glob(".*")]
    assert all(
        content(each.target / name) == content(each.source / name) for name in each.members()
    )


def test_the_part_of_a_copy_that_was_killed_is_removed(tmp_path: Path) -> None:
    case = make(tmp_path, Vendor.THERMO)
    dying = (
        "left = [True]\n"
        "copy_file(case.source / case.name, case.final, progress=Progress(0),\n"
        "          may_go_on=lambda: left.pop() if left else die())"
    )
    assert case.in_a_child(dying).returncode == -signal.SIGKILL
    assert len(parts(case.target)) == 1
    case.run()
    assert content(case.target) == content(case.source)


def test_what_is_left_leads_to_no_file_elsewhere(tmp_path: Path) -> None:
    case = make(tmp_path, Vendor.THERMO)
    folder = part_path(case.final).parent
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / f"{folder.name}-1-1").write_bytes(b"not ours")
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.symlink_to(elsewhere)
    case.run()
    assert content(elsewhere) == {f"{folder.name}-1-1": b"not ours"}
    assert content(case.target) == content(case.source)


@pytest.mark.parametrize("inside", [True, False])
def test_a_member_named_like_our_own_unfinished_copies_is_refused(
    tmp_path: Path, inside: bool
) -> None:
    """It would be removed as what a dead copy left, after it was copied and proven."""
    case = make(tmp_path, Vendor.BRUKER)
    part = part_path(case.final / "analysis.tdf_bin")
    hostile = (
        case.source / case.name / part.parent.name / (f"{part.parent.name}-x" if inside else "")
    )
    hostile.parent.mkdir(parents=True, exist_ok=True)
    hostile.write_bytes(b"somebody's")
    with pytest.raises(errors.UnsafePath, match="unfinished copies"):
        case.run()
    assert not case.final.exists()
    assert hostile.read_bytes() == b"somebody's"


def test_a_part_is_written_through_no_link(tmp_path: Path) -> None:
    part = part_path(tmp_path / "x.raw")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    part.parent.symlink_to(elsewhere)
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        open_part(part)
    assert not [*elsewhere.iterdir()]


def test_no_manifest_is_written_where_the_store_is_not_mounted(tmp_path: Path) -> None:
    facts = {"x.raw": FileFact(size=1, md5="0" * 32)}
    with pytest.raises(errors.BackupUnwritable):
        write_manifests(tmp_path / "mount" / "thermo1", "x.raw", facts)
    assert not [*tmp_path.iterdir()]
