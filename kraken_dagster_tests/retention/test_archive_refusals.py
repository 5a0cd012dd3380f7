"""Archiving refuses what isn't as it should be: nothing is renamed, and it is told once."""

import os
import shutil
from pathlib import Path

import pytest

from kraken_dagster.acquisition.watch import look_at
from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.model.errors import FolderUnreadable, SourceChanged
from kraken_dagster.model.raw_file import InstrumentFileStatus, Status
from kraken_dagster.operations.retry import retry
from kraken_dagster.retention.archiving.archive import ArchiveOptions, archive_members, due_for_move
from kraken_dagster_tests.retention.retention_cases import (
    INSTRUMENTS,
    content,
    done,
    files_in,
    flip_a_bit,
    move_all,
    notes,
)
from kraken_dagster_tests.support.helpers import acquire, finish


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"!")


def be_a_link(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


def be_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def refused(services, instrument_id: str, name: str, words: str) -> None:
    """The file is refused in these words, stays refused while it stands, and is told once."""
    folder = services.instrument_folder(instrument_id)
    before = files_in(folder)
    (outcome,) = move_all(services, instrument_id)
    assert not outcome.moved
    assert words in outcome.reason
    assert outcome.problem is not None
    assert outcome.problem.next_step
    assert not outcome.problem.transient
    assert files_in(folder) == before
    after = services.store.raw_files.get(name)
    assert after.instrument_file_status is InstrumentFileStatus.INITIAL
    assert after.status is Status.DONE_NOT_QUANTED
    assert outcome.is_refusal
    assert move_all(services, instrument_id) == []
    services.now.forward(days=300)
    (later,) = move_all(services, instrument_id)
    assert (str(later.problem), later.is_refusal) == (str(outcome.problem), False)
    again = archive_members(services, name, run_id="m", options=ArchiveOptions())
    assert "refused, looked at again at " in again.reason
    assert words in again.reason
    assert files_in(folder) == before
    after = services.store.raw_files.get(name)
    assert sum(words in note for note in notes(after)) == 1
    assert [item.id for item in services.store.retention.troubled(instrument_id)] == [name]
    assert after.archive is not None
    assert after.archive.problem == str(outcome.problem)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (be_a_link, "those are never moved"),
        (be_a_folder, "changed after it was backed up"),
    ],
)
def test_a_file_that_is_not_what_was_backed_up_is_refused(services, damage, words):
    done(services, "thermo1", "x.raw")
    damage(services.instrument_folder("thermo1") / "x.raw")
    refused(services, "thermo1", "x.raw", words)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: grow(path / "analysis.tdf"), "changed after it was backed up"),
        (lambda path: (path / "analysis.tdf").unlink(), "changed after it was backed up"),
        (lambda path: (path / "analysis.tdf-journal").write_text("?"), "the backup lacks"),
        (lambda path: be_a_link(path / "analysis.tdf"), "those are never moved"),
        (lambda path: os.mkfifo(path / "pipe"), "those are never moved"),
        (lambda path: [item.unlink() for item in path.rglob("*.*") if item.is_file()], "changed"),
    ],
)
def test_a_folder_that_is_not_what_was_backed_up_is_refused(services, damage, words):
    done(services, "bruker1", "x.d")
    damage(services.instrument_folder("bruker1") / "x.d")
    refused(services, "bruker1", "x.d", words)


def test_a_sciex_companion_that_the_backup_lacks_is_refused_and_backed_up_by_retry(services):
    done(services, "sciex1", "x.wiff")
    folder = services.instrument_folder("sciex1")
    (folder / "x.notes").write_text("came late")
    refused(services, "sciex1", "x.wiff", "`kraken retry` has it backed up")
    _, reported = retry(services, "x.wiff", asked_by="ada")
    assert "backed up again" in reported
    with pytest.raises(SourceChanged):  # until it has stood still from one try to the next
        back_up(services, "x.wiff", run_id="b", options=BackupOptions(), by_hand=False)
    assert back_up(services, "x.wiff", run_id="b", options=BackupOptions(), by_hand=False).done
    services.now.forward(minutes=6)
    before = files_in(folder)
    (outcome,) = move_all(services, "sciex1")
    assert outcome.moved, outcome.reason
    assert files_in(folder / "Backup") == before
    assert "x.notes" in before


@pytest.mark.parametrize(("instrument_id", "name"), INSTRUMENTS.items())
def test_what_is_neither_here_nor_there_is_told(services, instrument_id, name):
    done(services, instrument_id, name)
    folder = services.instrument_folder(instrument_id)
    for path in list(folder.iterdir()):
        path.rename(folder.parent / f"taken {path.name}")
    (folder / "something else").write_text("so that the share is there")
    refused(services, instrument_id, name, "neither in the instrument's folder nor in `Backup`")


def twice(services, instrument_id: str, name: str) -> tuple[Path, Path]:
    """The file stands in its folder and, copied, in `Backup`."""
    done(services, instrument_id, name)
    folder = services.instrument_folder(instrument_id)
    (folder / "Backup").mkdir()
    for path in list(folder.iterdir()):
        if path.name != "Backup":
            copy = shutil.copytree if path.is_dir() else shutil.copy2
            copy(path, folder / "Backup" / path.name)
    return folder / name, folder / "Backup" / name


@pytest.mark.parametrize(("instrument_id", "name"), INSTRUMENTS.items())
def test_of_two_equal_ones_the_source_waits_to_be_deleted_and_is_told(
    services, instrument_id, name
):
    source, target = twice(services, instrument_id, name)
    folder = source.parent
    before, kept = files_in(folder), content(target.parent)
    (outcome,) = move_all(services, instrument_id)
    assert outcome.moved, outcome.reason
    assert f"{name}.deleteme" in outcome.renamed
    assert "stood there twice" in notes(services.store.raw_files.get(name))[-1]
    assert content(target.parent) == kept
    assert sorted(files_in(folder).values()) == sorted(before.values())
    assert look_at(services, instrument_id).registered == ()


def test_a_name_of_what_waits_to_be_deleted_replaces_nothing(services):
    source, _ = twice(services, "thermo1", "x.raw")
    for ending in ("", ".2"):
        source.with_name(f"x.raw.deleteme{ending}").write_text(f"an earlier one{ending}")
    (outcome,) = move_all(services, "thermo1")
    assert outcome.renamed == ("x.raw.deleteme.3",)
    assert source.with_name("x.raw.deleteme").read_text() == "an earlier one"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (flip_a_bit, "`Backup` has something else"),
        (lambda path: os.truncate(path, 10), "incomplete, or something else"),
        (be_a_link, "those are never moved"),
        (lambda path: path.rename(path.with_name("X.RAW")), "differs only in case"),
    ],
)
def test_a_file_of_which_something_else_stands_in_backup_is_refused(services, damage, words):
    _, target = twice(services, "thermo1", "x.raw")
    damage(target)
    refused(services, "thermo1", "x.raw", words)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: flip_a_bit(path / "analysis.tdf"), "`Backup` has something else"),
        (lambda path: (path / "analysis.tdf").unlink(), "incomplete, or something else"),
        (lambda path: (path / "more").write_text("?"), "incomplete, or something else"),
    ],
)
def test_a_folder_of_which_something_else_stands_in_backup_is_refused(services, damage, words):
    _, target = twice(services, "bruker1", "x.d")
    damage(target)
    refused(services, "bruker1", "x.d", words)


def test_a_damaged_file_that_is_in_backup_alone_is_refused(services):
    source, target = twice(services, "thermo1", "x.raw")
    source.unlink()
    grow(target)
    refused(services, "thermo1", "x.raw", "incomplete, or something else")


@pytest.mark.parametrize("damage", [grow, be_a_link, lambda path: path.rename(f"{path} elsewhere")])
def test_no_backup_folder_is_made_where_nothing_is_moved_into_it(services, damage):
    done(services, "thermo1", "x.raw")
    folder = services.instrument_folder("thermo1")
    damage(folder / "x.raw")
    assert [item.moved for item in move_all(services, "thermo1")] == [False]
    assert not (folder / "Backup").exists()


@pytest.mark.parametrize("kind", ["link", "file"])
def test_a_backup_folder_that_is_none_is_never_followed(services, tmp_path, kind):
    done(services, "thermo1", "x.raw")
    backup = services.instrument_folder("thermo1") / "Backup"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    backup.symlink_to(elsewhere) if kind == "link" else backup.write_text("a file")
    done(services, "thermo1", "y.raw")
    before = content(services.instrument_folder("thermo1"))
    outcomes = move_all(services, "thermo1")
    assert [type(item.problem) for item in outcomes] == [FolderUnreadable] * 2
    assert "a file in place of a folder" in outcomes[0].reason
    assert content(services.instrument_folder("thermo1")) == before
    assert list(elsewhere.iterdir()) == []
    backup.unlink()
    services.now.forward(minutes=2)
    assert [item.moved for item in move_all(services, "thermo1")] == [True, True]


def test_retry_makes_a_refused_file_due_again_once_it_is_mended(services):
    _, target = twice(services, "thermo1", "x.raw")
    flip_a_bit(target)
    assert [item.moved for item in move_all(services, "thermo1")] == [False]
    target.unlink()
    assert due_for_move(services, "thermo1", services.now(), options=ArchiveOptions()) == []
    after, _ = retry(services, "x.raw", asked_by="ada")
    assert after.archive is None
    assert services.store.retention.troubled("thermo1") == []
    assert [item.moved for item in move_all(services, "thermo1")] == [True]


def test_one_files_refusal_stops_no_other(services):
    for name in ("a.raw", "b.raw", "c.raw"):
        done(services, "thermo1", name)
    be_a_link(services.instrument_folder("thermo1") / "b.raw")
    found = {item.raw_file.id: item.moved for item in move_all(services, "thermo1")}
    assert found == {"a.raw": True, "b.raw": False, "c.raw": True}


def test_a_record_without_sizes_proves_nothing_and_is_refused(services):
    done(services, "thermo1", "x.raw")
    info = {"x.raw": [None, "900150983cd24fb0d6963f7d28e17f72"]}
    services.store._database["raw_file"].update_one({"_id": "x.raw"}, {"$set": {"file_info": info}})
    refused(services, "thermo1", "x.raw", "No size or digest is recorded")


def vanished(services, instrument_id: str, name: str) -> None:
    """An acquisition of which nothing was left before its size was known."""
    acquire(services, instrument_id, name)
    acquire(services, instrument_id, f"other{name[1:]}")  # an empty folder would tell nothing
    look_at(services, instrument_id)
    path = services.instrument_folder(instrument_id) / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    for _ in range(2):
        finish(services, instrument_id)
    back_up(services, name, run_id="b", options=BackupOptions())
    assert services.store.raw_files.get(name).status is Status.ACQUISITION_FAILED
    services.now.forward(days=1)


@pytest.mark.parametrize(("instrument_id", "name"), [("thermo1", "x.raw"), ("bruker1", "x.d")])
def test_a_running_acquisition_is_not_moved_under_the_id_of_one_that_vanished(
    services, instrument_id, name
):
    vanished(services, instrument_id, name)
    acquire(services, instrument_id, name, seed=99)
    look_at(services, instrument_id)
    before = files_in(services.instrument_folder(instrument_id))
    assert not any(item.moved for item in move_all(services, instrument_id, move_failed=True))
    options = ArchiveOptions(move_failed=True)
    assert "nor the size" in archive_members(services, name, run_id="m", options=options).reason
    assert files_in(services.instrument_folder(instrument_id)) == before


def test_what_has_not_the_main_file_of_a_failed_acquisition_is_another(services):
    acquire(services, "bruker1", "x.d")
    finish(services, "bruker1")
    raw_file = services.store.raw_files.get("x.d")
    services.store.raw_files.transition(raw_file, Status.ACQUISITION_FAILED, now=services.now())
    (services.instrument_folder("bruker1") / "x.d" / "analysis.tdf_bin").unlink()
    before = files_in(services.instrument_folder("bruker1"))
    (outcome,) = move_all(services, "bruker1", move_failed=True)
    assert "Another acquisition has taken the name" in outcome.reason
    assert files_in(services.instrument_folder("bruker1")) == before


def test_companions_without_the_main_file_of_a_failed_acquisition_are_anothers(services):
    acquire(services, "sciex1", "x.wiff")
    finish(services, "sciex1")
    raw_file = services.store.raw_files.get("x.wiff")
    services.store.raw_files.transition(raw_file, Status.ACQUISITION_FAILED, now=services.now())
    folder = services.instrument_folder("sciex1")
    (folder / "x.wiff").unlink()
    (outcome,) = move_all(services, "sciex1", move_failed=True)
    assert "Another acquisition has taken the name" in outcome.reason
    assert "x.wiff.scan" in files_in(folder)


def test_nothing_is_moved_while_a_newer_acquisition_of_the_name_is_under_way(services):
    """Not even where it is as large at this moment."""
    done(services, "thermo1", "x.raw")
    folder = services.instrument_folder("thermo1")
    (folder / "x.raw").rename(folder / "taken")
    acquire(services, "thermo1", "x.raw", seed=9, size_bytes=60_000)
    (newer,) = look_at(services, "thermo1").registered
    os.truncate(folder / "x.raw", 50_000)
    (outcome,) = move_all(services, "thermo1")
    assert "Another acquisition of this name is under way" in outcome.reason
    assert outcome.raw_file.id == "x.raw"
    assert newer.id in outcome.reason
    assert outcome.problem.transient
    assert "x.raw" in files_in(folder)


def test_what_a_later_acquisition_left_is_not_moved_under_the_id_of_a_failed_one(services):
    """Both are over, and as large; the later one's backup is not made yet."""
    acquire(services, "thermo1", "x.raw")
    finish(services, "thermo1")
    raw_file = services.store.raw_files.get("x.raw")
    services.store.raw_files.transition(raw_file, Status.ACQUISITION_FAILED, now=services.now())
    (services.instrument_folder("thermo1") / "x.raw").unlink()
    acquire(services, "thermo1", "x.raw", seed=9, size_bytes=60_000)
    (later,) = look_at(services, "thermo1").registered
    finish(services, "thermo1")
    later = services.store.raw_files.get(later.id)
    services.store.raw_files.transition(later, Status.ERROR, now=services.now())
    os.truncate(services.instrument_folder("thermo1") / "x.raw", 50_000)
    (outcome,) = move_all(services, "thermo1", move_failed=True)
    assert "or stands there" in outcome.reason
    assert "x.raw" in files_in(services.instrument_folder("thermo1"))
