"""Purging refuses: whatever isn't proven stays, all of its raw file, and is told once."""

import os
import shutil
from pathlib import Path

import pytest

from kraken_dagster.fs.dir_handles import Folder, Seen
from kraken_dagster.model.errors import (
    BackupUnwritable,
    CopyStalled,
    FolderMissing,
    FolderUnreadable,
)
from kraken_dagster.model.raw_file import InstrumentFileStatus, Status
from kraken_dagster.operations.retry import retry
from kraken_dagster.retention import purge as purge_step
from kraken_dagster.retention import purge_file
from kraken_dagster.retention.instrument_disk import passing_folder
from kraken_dagster.retention.proof import delete
from kraken_dagster.retention.purge_plan import plan
from kraken_dagster_tests.retention.retention_cases import (
    EVERYTHING,
    INSTRUMENTS,
    aside,
    content,
    created,
    fields,
    files_in,
    flip_a_bit,
    hanging_at,
    moved,
    notes,
    purge_all,
)


def refused(services, instrument_id: str, name: str, words: str) -> None:
    """Nothing is deleted, in these words; they are noted once."""
    before = content(services.config.locations.instruments.path)
    outcome = purge_all(services, instrument_id)
    assert outcome.deleted == ()
    assert words in outcome.kept[0].reason
    assert content(services.config.locations.instruments.path) == before
    after = services.store.raw_files.get(name)
    assert after.instrument_file_status is InstrumentFileStatus.MOVED
    assert after.status is Status.DONE_NOT_QUANTED
    services.now.forward(days=100)
    kept = plan(services, instrument_id, now=services.now(), options=EVERYTHING).kept
    assert words in purge_all(services, instrument_id).kept[0].reason
    assert words in kept[0].reason
    after = services.store.raw_files.get(name)
    assert sum(words in note for note in notes(after)) == 1
    assert [item.id for item in services.store.retention.troubled(instrument_id)] == [name]
    retry(services, name, asked_by="ada")
    assert services.store.raw_files.get(name).purge is None


def damaged(services, instrument_id: str, name: str, words: str) -> None:
    """Nothing is deleted, and the file has status `error` because its backup is not whole."""
    before = content(services.config.locations.instruments.path)
    outcome = purge_all(services, instrument_id)
    assert outcome.deleted == ()
    assert words in outcome.kept[0].reason
    assert content(services.config.locations.instruments.path) == before
    after = services.store.raw_files.get(name)
    assert (after.status, after.backup_status) == (Status.ERROR, "copying_failed")
    assert after.instrument_file_status is InstrumentFileStatus.MOVED
    assert "no backup of it is recorded" in purge_all(services, instrument_id).kept[0].reason


def other_time(path: Path) -> None:
    path.write_bytes(path.read_bytes()[::-1])


def hard_link(path: Path) -> None:
    os.link(path, path.parent.parent / "another name")


def be_a_link(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


def other_case(path: Path) -> None:
    path.rename(path.with_name(path.name.upper()))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (flip_a_bit, "not what was backed up"),
        (other_time, "not what was backed up"),
        (lambda path: os.truncate(path, 49_999), "not what was backed up"),
        (be_a_link, "A link or a special file"),
        (hard_link, "a hard link"),
        (other_case, "A file that the record doesn't have"),
        (lambda path: (path.unlink(), path.mkdir()), "A folder that the record doesn't have"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "A link or a special file"),
    ],
)
def test_a_file_that_is_not_what_was_backed_up_stays(services, damage, words):
    moved(services, "thermo1", "x.raw")
    damage(aside(services, "thermo1") / "x.raw")
    refused(services, "thermo1", "x.raw", words)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: flip_a_bit(path / "analysis.tdf"), "not what was backed up"),
        (lambda path: (path / "more").write_text("?"), "A file that the record doesn't have"),
        (lambda path: (path / "m").symlink_to("/"), "A link or a special file"),
        (lambda path: hard_link(path / "analysis.tdf"), "a hard link"),
        (lambda path: other_case(path / "analysis.tdf"), "A file that the record doesn't have"),
        (other_case, "A file that the record doesn't have"),
        (be_a_link, "A link or a special file"),
    ],
)
def test_a_folder_of_which_one_thing_is_odd_stays_as_a_whole(services, damage, words):
    moved(services, "bruker1", "x.d")
    damage(aside(services, "bruker1") / "x.d")
    refused(services, "bruker1", "x.d", words)


@pytest.mark.parametrize("name", ["x.notes", "x.wiff.new", "X.WIFF2.BAK", "X.timeseries.data"])
def test_a_sciex_file_that_the_record_does_not_have_stops_the_purge_of_all(services, name):
    moved(services, "sciex1", "x.wiff")
    (aside(services, "sciex1") / name).write_text("?")
    refused(services, "sciex1", "x.wiff", "A file that the record doesn't have")


def test_a_sciex_file_of_another_acquisition_is_not_in_the_way(services):
    moved(services, "sciex1", "x.wiff")
    others = {"x.1.wiff": "a", "x.1.wiff.scan": "b", "x.1.notes": "c", "y.wiff": "d"}
    for name, text in others.items():
        (aside(services, "sciex1") / name).write_text(text)
    assert len(purge_all(services, "sciex1").deleted) == 1
    assert sorted(files_in(aside(services, "sciex1"))) == sorted(others)


def test_a_file_that_is_its_own_backup_stays(services):
    raw_file = moved(services, "thermo1", "x.raw")
    backup = services.backup_folder(raw_file) / "x.raw"
    backup.unlink()
    os.link(aside(services, "thermo1") / "x.raw", backup)
    refused(services, "thermo1", "x.raw", "a hard link")


def test_a_backup_that_leads_to_the_instrument_stays_without_consequences(services):
    raw_file = moved(services, "bruker1", "x.d")
    backup = services.backup_folder(raw_file) / "x.d"
    shutil.rmtree(backup)
    backup.symlink_to(aside(services, "bruker1") / "x.d")
    before = content(services.config.locations.instruments.path)
    outcome = purge_all(services, "bruker1")
    assert outcome.deleted == ()
    assert content(services.config.locations.instruments.path) == before


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (flip_a_bit, "The backup is not what was recorded"),
        (lambda path: os.truncate(path, 100), "Found 100 bytes"),
        (lambda path: path.unlink(), "Found no file"),
        (be_a_link, "Found a symbolic link"),
        (other_case, "Found no file"),
    ],
)
def test_a_damaged_backup_is_an_error_and_nothing_is_deleted(services, damage, words):
    raw_file = moved(services, "thermo1", "x.raw")
    damage(services.backup_folder(raw_file) / "x.raw")
    damaged(services, "thermo1", "x.raw", words)


def test_one_damaged_member_of_a_backup_keeps_all_of_the_folder(services):
    raw_file = moved(services, "bruker1", "x.d")
    flip_a_bit(services.backup_folder(raw_file) / "x.d" / "analysis.tdf")
    damaged(services, "bruker1", "x.d", "The backup is not what was recorded")


def test_what_is_gone_from_the_instrument_must_be_whole_in_the_backup(services):
    raw_file = moved(services, "bruker1", "x.d")
    (aside(services, "bruker1") / "x.d" / "analysis.tdf").unlink()
    flip_a_bit(services.backup_folder(raw_file) / "x.d" / "analysis.tdf")
    damaged(services, "bruker1", "x.d", "The backup is not what was recorded")


def test_files_whose_names_were_swapped_stay(services):
    moved(services, "bruker1", "x.d")
    folder = aside(services, "bruker1") / "x.d"
    one, two = (folder / name for name in ("analysis.tdf", "analysis.tdf_bin"))
    one.rename(folder / "meanwhile")
    two.rename(one)
    (folder / "meanwhile").rename(two)
    refused(services, "bruker1", "x.d", "not what was backed up")


@pytest.mark.parametrize(
    "info",
    [
        {"x.raw": [50_000.0, None]},
        {"x.raw": [None, "900150983cd24fb0d6963f7d28e17f72"]},
        {"y.raw": [50_000.0, "900150983cd24fb0d6963f7d28e17f72"]},
        {"../x.raw": [50_000.0, "900150983cd24fb0d6963f7d28e17f72"]},
    ],
)
def test_an_odd_record_proves_nothing(services, info):
    moved(services, "thermo1", "x.raw")
    services.store._database["raw_file"].update_one({"_id": "x.raw"}, {"$set": {"file_info": info}})
    outcome = purge_all(services, "thermo1")
    assert outcome.deleted == ()
    assert "x.raw" in files_in(aside(services, "thermo1"))
    assert fields(services, "x.raw")["purge"]["refused"]


def test_one_files_refusal_stops_no_other(services):
    for number, name in enumerate(("a.raw", "b.raw", "c.raw")):
        moved(services, "thermo1", name)
        created(services, name, days_ago=40 - number)
    flip_a_bit(aside(services, "thermo1") / "a.raw")
    outcome = purge_all(services, "thermo1")
    assert [item.raw_file_id for item in outcome.deleted] == ["b.raw", "c.raw"]


@pytest.mark.parametrize(("instrument_id", "name"), INSTRUMENTS.items())
@pytest.mark.parametrize("how", ["gone", "empty mountpoint"])
def test_an_instrument_that_is_away_changes_nothing(services, instrument_id, name, how):
    moved(services, instrument_id, name)
    folder = services.instrument_folder(instrument_id)
    folder.rename(folder.with_name("away"))
    if how != "gone":
        folder.mkdir()
    before = fields(services, name)
    with pytest.raises(FolderMissing):
        purge_all(services, instrument_id)
    assert {**fields(services, name), "updated_at_": 0} == {**before, "updated_at_": 0}
    assert services.store.health.disk(instrument_id)["status"] == "warning"


@pytest.mark.parametrize("how", ["gone", "empty mountpoint", "nothing of this instrument"])
def test_a_backup_store_that_is_away_says_nothing_of_any_backup(services, how):
    moved(services, "thermo1", "x.raw")
    root = services.config.locations.backup.path
    root.rename(root.with_name("away"))
    if how != "gone":
        root.mkdir()
    if how == "nothing of this instrument":
        (root / "thermo1").mkdir()
    before = fields(services, "x.raw")
    with pytest.raises(BackupUnwritable):
        purge_all(services, "thermo1")
    assert fields(services, "x.raw") == before
    assert "x.raw" in files_in(aside(services, "thermo1"))


def between_proof_and_deletion(monkeypatch, act) -> None:
    """Somebody does something once all is proven and nothing is deleted."""

    def act_and_delete(*arguments, **options):
        act()
        return delete(*arguments, **options)

    monkeypatch.setattr(purge_file, "delete", act_and_delete)


@pytest.mark.parametrize("side", ["instrument", "backup"])
def test_a_change_that_leaves_size_and_time_as_they_were_is_noticed(services, monkeypatch, side):
    raw_file = moved(services, "bruker1", "x.d")
    both = {"instrument": aside(services, "bruker1"), "backup": services.backup_folder(raw_file)}
    damaged = both[side] / "x.d" / "analysis.tdf_bin"
    between_proof_and_deletion(monkeypatch, lambda: flip_a_bit(damaged, keep_time=True))
    outcome = purge_all(services, "bruker1")
    assert outcome.deleted == ()
    assert "changed after it was read" in outcome.kept[0].reason
    assert "x.d/analysis.tdf_bin" in files_in(aside(services, "bruker1"))


def test_a_backup_folder_that_became_a_link_is_the_instruments_trouble(services):
    """All files would be refused for what is the fault of none, each until somebody looks at it."""
    for name in ("x.raw", "y.raw"):
        moved(services, "thermo1", name)
    folder = aside(services, "thermo1")
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to("elsewhere")
    with pytest.raises(FolderUnreadable, match="never followed"):
        purge_all(services, "thermo1")
    assert services.store.retention.troubled("thermo1") == []
    assert services.store.health.disk("thermo1")["status"] == "warning"


@pytest.mark.parametrize("aside_too", [True, False])
def test_another_disk_under_the_instruments_mount_changes_nothing(services, aside_too):
    for name in ("x.raw", "y.raw"):
        moved(services, "thermo1", name)
    folder = services.instrument_folder("thermo1")
    folder.rename(folder.with_name("kept"))
    folder.mkdir()
    (folder / "another's.raw").write_bytes(b"1")
    if aside_too:
        (folder / "Backup").mkdir()
    with pytest.raises(FolderMissing):
        purge_all(services, "thermo1")
    for name in ("x.raw", "y.raw"):
        after = services.store.raw_files.get(name)
        assert (after.instrument_file_status, after.purge) == (InstrumentFileStatus.MOVED, None)
    shutil.rmtree(folder)
    folder.with_name("kept").rename(folder)
    assert len(purge_all(services, "thermo1").deleted) == 2


def test_a_file_whose_reading_hangs_holds_up_no_other(services, monkeypatch):
    for name, days_ago in (("a.raw", 40), ("b.raw", 30), ("c.raw", 20)):
        moved(services, "thermo1", name)
        created(services, name, days_ago=days_ago)
    outcome = purge_all(hanging_at(services, "a.raw", monkeypatch), "thermo1")
    assert [item.raw_file_id for item in outcome.deleted] == ["b.raw", "c.raw"]
    assert [item.raw_file_id for item in outcome.kept] == ["a.raw"]
    assert services.store.raw_files.get("a.raw").purge.retry_at > services.now()
    assert "a.raw" in files_in(aside(services, "thermo1"))


def test_a_share_that_hangs_is_the_instruments_trouble(services, monkeypatch):
    moved(services, "thermo1", "a.raw")
    hanging = hanging_at(services, "a.raw", monkeypatch)

    def no_answer(*_arguments):
        raise CopyStalled("A share or the backup store gives no answer")

    monkeypatch.setattr(purge_step, "require_answer", no_answer)
    with pytest.raises(CopyStalled):
        purge_all(hanging, "thermo1")
    assert services.store.raw_files.get("a.raw").purge is None


def test_a_sign_of_life_is_given_after_each_deletion(services, monkeypatch):
    raw_file = moved(services, "bruker1", "x.d")
    beats = []

    def counted(*arguments, on_deleted, **options):
        return delete(*arguments, on_deleted=beats.append, **options)

    monkeypatch.setattr(purge_file, "delete", counted)
    purge_all(services, "bruker1")
    assert sum(beats) == raw_file.size
    assert len(beats) > len(raw_file.file_info)


def test_a_month_of_the_backup_store_that_is_away_says_nothing_of_any_backup(services):
    for name in ("x.raw", "y.raw"):
        moved(services, "thermo1", name)
    month = services.backup_folder(services.store.raw_files.get("x.raw"))
    (month.parent / "9999_01").mkdir()
    month.rename(month.with_name("away"))
    outcome = purge_all(services, "thermo1")
    assert outcome.deleted == ()
    assert all("of this backup and others is not there" in item.reason for item in outcome.kept)
    for name in ("x.raw", "y.raw"):
        assert services.store.raw_files.get(name).status is Status.DONE_NOT_QUANTED
    month.with_name("away").rename(month)
    services.now.forward(minutes=2)
    assert len(purge_all(services, "thermo1").deleted) == 2


@pytest.mark.parametrize(("instrument_id", "name"), INSTRUMENTS.items())
def test_one_folder_by_two_paths_is_found_out_though_nothing_of_its_files_tells(
    services, monkeypatch, instrument_id, name
):
    month = services.backup_folder(moved(services, instrument_id, name))
    shutil.rmtree(month)
    month.symlink_to(aside(services, instrument_id))
    monkeypatch.setattr(Seen, "is_one_file_with", lambda _self, _other: False)
    refused(services, instrument_id, name, "are one folder")


def test_a_folder_that_a_killed_run_left_is_taken_and_what_is_in_it_is_kept(tmp_path):
    (tmp_path / "left").mkdir()
    with Folder.open(tmp_path) as folder:
        with passing_folder(folder, "left"):
            pass
        assert os.listdir(tmp_path) == []
        (tmp_path / "left").mkdir()
        (tmp_path / "left" / "somebody's").write_text("1")
        with pytest.raises(OSError, match="not empty"), passing_folder(folder, "left"):
            pass
    assert (tmp_path / "left" / "somebody's").exists()


def test_another_disk_does_not_look_like_a_purge_that_was_ended(services):
    for name in ("x.raw", "y.raw"):
        moved(services, "thermo1", name)
    intent = {"began_at": services.now(), "run_id": "dead", "files": 1, "bytes": 50_000}
    services.store._database["raw_file"].update_one(
        {"_id": "x.raw"}, {"$set": {"purge_intent": intent}}
    )
    folder = services.instrument_folder("thermo1")
    folder.rename(folder.with_name("kept"))
    (folder / "Backup").mkdir(parents=True)
    with pytest.raises(FolderMissing, match="another disk"):
        purge_all(services, "thermo1")
    after = services.store.raw_files.get("x.raw")
    assert after.instrument_file_status is InstrumentFileStatus.MOVED
    assert after.purge_intent is not None
