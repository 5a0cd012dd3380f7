"""Purging: what is deleted, in which order, how much, and what is said about it."""

import errno
import os
from dataclasses import replace

import pytest

from kraken_dagster.fs.instrument_disk import unlink
from kraken_dagster.model.errors import PurgeRefused, StatusConflict
from kraken_dagster.model.raw_file import InstrumentFileStatus, Status
from kraken_dagster.model.retention import GB
from kraken_dagster.operations.retry import retry
from kraken_dagster.retention import proof as purging
from kraken_dagster.retention import purge_file as purge_file_step
from kraken_dagster.retention.purge import purge
from kraken_dagster.retention.purge_file import purge_file
from kraken_dagster.retention.purge_plan import PurgeOptions, measured_free_bytes, plan
from kraken_dagster.runtime.refusals import PURGE, note_trouble
from kraken_dagster_tests.retention.retention_cases import (
    EVERYTHING,
    INSTRUMENTS,
    aside,
    content,
    created,
    done,
    fields,
    files_in,
    moved,
    notes,
    purge_all,
)
from kraken_dagster_tests.support.helpers import lease


@pytest.mark.parametrize(("instrument_id", "name"), INSTRUMENTS.items())
def test_a_file_that_is_proven_is_deleted_and_its_backup_stays(world, instrument_id, name):
    raw_file = moved(world, instrument_id, name)
    kept = content(world.config.locations.backup.path)
    outcome = purge_all(world, instrument_id)
    (deleted,) = outcome.deleted
    assert (deleted.raw_file_id, deleted.status) == (name, InstrumentFileStatus.PURGED)
    assert deleted.files == len(raw_file.file_info)
    assert deleted.size_bytes == raw_file.size == outcome.freed_bytes
    assert content(aside(world, instrument_id)) == {}
    assert content(world.config.locations.backup.path) == kept
    after = world.store.raw_files.get(name)
    assert after.instrument_file_status is InstrumentFileStatus.PURGED
    assert after.status is Status.DONE_NOT_QUANTED
    assert after.purge_intent is None
    assert after.lease is None
    assert after.verified_at == world.now()


def test_what_was_deleted_when_and_by_what_proof_is_in_the_history(world):
    raw_file = moved(world, "bruker1", "x.d")
    purge_all(world, "bruker1")
    event = world.store.raw_files.get("x.d").history[-1]
    assert event["run_id"] == "purge"
    assert event["at"] == world.now()
    for words in (
        f"{len(raw_file.file_info)} files",
        f"{raw_file.size} bytes",
        "MD5",
        "read until",
    ):
        assert words in event["reason"]
    purged = fields(world, "x.d")["purged"]
    assert (purged["bytes"], purged["digest"], purged["gone"]) == (raw_file.size, "MD5", [])


def test_a_read_only_method_folder_is_no_obstacle(world):
    moved(world, "bruker1", "x.d")
    for parent, folders, _ in os.walk(aside(world, "bruker1") / "x.d"):
        for name in folders:
            os.chmod(os.path.join(parent, name), 0o555)
    assert len(purge_all(world, "bruker1").deleted) == 1
    assert content(aside(world, "bruker1")) == {}


def test_folders_that_are_empty_go_with_their_raw_file(world):
    moved(world, "bruker1", "x.d")
    (aside(world, "bruker1") / "x.d" / "empty" / "as well").mkdir(parents=True)
    assert len(purge_all(world, "bruker1").deleted) == 1
    assert content(aside(world, "bruker1")) == {}


def three(world) -> list[str]:
    """Three files, oldest first; each has 50,000 bytes."""
    names = ["b.raw", "c.raw", "a.raw"]
    for number, name in enumerate(names):
        moved(world, "thermo1", name)
        created(world, name, days_ago=40 - number)
    return names


def wanted(world, missing_bytes: int) -> PurgeOptions:
    """That much more is to be free than is."""
    free = measured_free_bytes(world, "thermo1")
    return replace(EVERYTHING, min_free_space_gb=(free + missing_bytes) / GB)


def test_a_plan_lists_the_oldest_that_are_needed_and_why_not_the_rest(world):
    names = three(world)
    done(world, "thermo1", "not_moved.raw")
    moved(world, "thermo1", "young.raw")
    created(world, "young.raw", days_ago=13)
    before = content(world.config.locations.instruments.path)
    found = plan(world, "thermo1", now=world.now(), options=wanted(world, 10**15))
    assert [item.raw_file_id for item in found.to_delete] == names
    assert [item.size_bytes for item in found.to_delete] == [50_000] * 3
    assert [(item.raw_file_id, item.reason) for item in found.kept] == [
        ("young.raw", "it is younger than 14 days")
    ]
    assert not found.enough
    assert content(world.config.locations.instruments.path) == before


def test_a_plan_and_a_purge_take_nothing_while_enough_is_free(world):
    three(world)
    half = replace(EVERYTHING, min_free_space_gb=measured_free_bytes(world, "thermo1") / 2 / GB)
    found = plan(world, "thermo1", now=world.now(), options=half)
    assert (found.to_delete, found.enough) == ((), True)
    assert [item.reason for item in found.kept] == ["it is not needed: enough is free by then"] * 3
    outcome = purge(world, "thermo1", run_id="p", options=half)
    assert (outcome.deleted, outcome.kept, outcome.enough) == ((), (), True)


@pytest.mark.parametrize(
    "options",
    [
        {"remove_files": False},
        {"min_free_space_gb": 0},
        {"min_free_space_gb": -1},
    ],
)
def test_nothing_is_deleted_where_the_purge_is_off(world, options):
    moved(world, "thermo1", "x.raw")
    outcome = purge_all(world, "thermo1", **options)
    assert (outcome.deleted, outcome.enough) == ((), True)
    assert "is off" in outcome.reason or "0 or less" in outcome.reason
    found = plan(world, "thermo1", now=world.now(), options=replace(EVERYTHING, **options))
    assert found.to_delete == ()
    assert "x.raw" in files_in(aside(world, "thermo1"))


def test_the_options_of_instruments_yaml_hold_where_none_are_given(world):
    moved(world, "thermo1", "x.raw")
    assert purge(world, "thermo1", run_id="p").reason == "min_free_space_gb is 0 or less"


def test_nothing_is_deleted_while_enough_is_free(world):
    moved(world, "thermo1", "x.raw")
    outcome = purge_all(world, "thermo1", min_free_space_gb=1e-9)
    assert (outcome.deleted, outcome.enough) == ((), True)
    assert "x.raw" in files_in(aside(world, "thermo1"))
    assert world.store.board.disk("thermo1")["status"] == "ok"


def test_a_purge_that_can_not_free_enough_says_so_and_what_is_in_the_way(world):
    moved(world, "thermo1", "x.raw")
    moved(world, "thermo1", "y.raw")
    (aside(world, "thermo1") / "y.raw").write_text("another")
    outcome = purge_all(world, "thermo1")
    assert not outcome.enough
    assert [item.raw_file_id for item in outcome.deleted] == ["x.raw"]
    assert [item.raw_file_id for item in outcome.kept] == ["y.raw"]
    assert "less than the 1e+09 GB that shall be" in outcome.reason
    assert "1 x refused" in outcome.reason
    board = world.store.board.disk("thermo1")
    assert (board["status"], board["status_details"]) == ("warning", outcome.reason)


def not_final(world):
    raw_file = world.store.raw_files.get("x.raw")
    world.store.raw_files.transition(raw_file, Status.QUEUED_FOR_QUANTING, now=world.now())


def waits_for_a_retry(world):
    raw_file = world.store.raw_files.get("x.raw")
    world.store.raw_files.transition(
        raw_file, Status.ERROR, now=world.now(), fields={"retry_at": world.now()}
    )


def without_backup(world):
    raw_file = world.store.raw_files.get("x.raw")
    changes = {"backup_status": "copying_failed"}
    world.store.raw_files.update(raw_file, changes, now=world.now(), note="by a test")


def leased(world):
    held = lease("run-7", until=world.now().replace(year=2030))
    world.store.raw_files.take_lease("x.raw", held, now=world.now())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (not_final, "it is still worked on: queued_for_quanting"),
        (waits_for_a_retry, "a step of it that failed is tried again"),
        (without_backup, "no backup of it is recorded: copying_failed"),
        (leased, "run run-7 works on it"),
    ],
)
def test_a_file_that_is_not_over_and_done_with_stays(world, change, reason):
    moved(world, "thermo1", "x.raw")
    change(world)
    assert reason in plan(world, "thermo1", now=world.now(), options=EVERYTHING).kept[0].reason
    outcome = purge_all(world, "thermo1")
    assert outcome.deleted == ()
    assert reason in outcome.kept[0].reason
    assert "x.raw" in files_in(aside(world, "thermo1"))


def refused(world):
    error = PurgeRefused("look at it")
    note_trouble(world, world.store.raw_files.get("x.raw"), PURGE, error, run_id="p")


def young(world):
    created(world, "x.raw", days_ago=13)


@pytest.mark.parametrize("change", [not_final, waits_for_a_retry, without_backup, refused, young])
def test_what_changed_before_the_lease_was_taken_keeps_a_file(world, change):
    moved(world, "thermo1", "x.raw")
    change(world)
    with pytest.raises(StatusConflict, match="not to be purged now"):
        purge_file(world, "x.raw", run_id="p")
    assert "x.raw" in files_in(aside(world, "thermo1"))


def test_a_failed_file_that_nobody_tries_again_may_go(world):
    moved(world, "thermo1", "x.raw")
    raw_file = world.store.raw_files.get("x.raw")
    world.store.raw_files.transition(raw_file, Status.ERROR, now=world.now(), reason="no")
    assert len(purge_all(world, "thermo1").deleted) == 1


def test_what_somebody_else_deleted_is_not_recorded_as_purged(world):
    moved(world, "thermo1", "x.raw")
    moved(world, "thermo1", "young.raw")  # tells that this is the instrument's disk
    created(world, "young.raw", days_ago=1)
    (aside(world, "thermo1") / "x.raw").unlink()
    (found,) = purge_all(world, "thermo1").deleted
    assert (found.status, found.size_bytes) == (InstrumentFileStatus.NOT_APPLICABLE, 0)
    after = world.store.raw_files.get("x.raw")
    assert after.instrument_file_status is InstrumentFileStatus.NOT_APPLICABLE
    assert "somebody else deleted it" in notes(after)[-1]
    assert purge_all(world, "thermo1").deleted == ()


def test_members_that_somebody_else_deleted_are_told(world):
    moved(world, "bruker1", "x.d")
    (aside(world, "bruker1") / "x.d" / "analysis.tdf").unlink()
    (found,) = purge_all(world, "bruker1").deleted
    assert found.gone == 1
    assert (
        "1 were gone already, and are in the backup" in notes(world.store.raw_files.get("x.d"))[-1]
    )


def test_more_files_than_a_page_are_purged_oldest_first(world):
    """Also where hundreds were made at the same moment."""
    moved(world, "thermo1", "x.raw")
    document = dict(fields(world, "x.raw"))
    collection = world.store._database["raw_file"]
    same = {**document, "status": "queued_for_quanting"}
    collection.insert_many([{**same, "_id": f"{number:03}.raw"} for number in range(450)])
    world.now.forward(days=1)
    found = [item.id for item in world.store.retention.moved("thermo1")]
    assert len(found) == 451
    assert len(set(found)) == 451
    assert len(plan(world, "thermo1", now=world.now(), options=EVERYTHING).kept) == 450


def gone_by_hand(world) -> None:
    """Two files were moved aside; one is taken away, and that is recorded."""
    for name, days_ago in (("x.raw", 20), ("young.raw", 1)):
        moved(world, "thermo1", name)
        created(world, name, days_ago=days_ago)
    (aside(world, "thermo1") / "x.raw").rename(aside(world, "thermo1") / "taken")
    purge_all(world, "thermo1")


def test_what_comes_back_into_backup_counts_as_moved_again_once_it_is_asked_for(world):
    gone_by_hand(world)
    (aside(world, "thermo1") / "taken").rename(aside(world, "thermo1") / "x.raw")
    assert purge_all(world, "thermo1").deleted == ()
    after, told = retry(world, "x.raw", asked_by="ada")
    assert after.instrument_file_status is InstrumentFileStatus.MOVED
    assert (after.gone_at, after.lease) == (None, None)
    assert "moved aside again" in told
    assert "asked for again by ada" in notes(after)[-1]
    assert [item.raw_file_id for item in purge_all(world, "thermo1").deleted] == ["x.raw"]


def test_what_did_not_come_back_is_not_asked_for_in_vain(world):
    gone_by_hand(world)
    with pytest.raises(StatusConflict, match="it has ended well"):
        retry(world, "x.raw", asked_by="ada")
    folder = world.instrument_folder("thermo1")
    folder.rename(folder.with_name("away"))
    with pytest.raises(StatusConflict, match="it has ended well"):
        retry(world, "x.raw", asked_by="ada")


def test_empty_folders_that_somebody_else_left_are_not_recorded_as_purged(world):
    moved(world, "bruker1", "x.d")
    for path in (aside(world, "bruker1") / "x.d").rglob("*"):
        if path.is_file():
            path.unlink()
    (found,) = purge_all(world, "bruker1").deleted
    assert (found.status, found.files, found.size_bytes) == ("n/a", 0, 0)
    after = world.store.raw_files.get("x.d")
    assert after.instrument_file_status is InstrumentFileStatus.NOT_APPLICABLE
    assert "somebody else deleted it" in notes(after)[-1]
    assert fields(world, "x.d").get("purged") is None
    assert content(aside(world, "bruker1")) == {}


def test_a_purge_that_was_refused_before_the_first_deletion_was_not_begun(world, monkeypatch):
    moved(world, "thermo1", "young.raw")
    created(world, "young.raw", days_ago=1)
    moved(world, "thermo1", "x.raw")

    def refuse(*_arguments, **_options):
        raise PurgeRefused("The file changed after it was read")

    with monkeypatch.context() as patch:
        patch.setattr(purge_file_step, "delete", refuse)
        assert purge_all(world, "thermo1").deleted == ()
    assert world.store.raw_files.get("x.raw").purge_intent is None
    assert world.store.retention.purge_begun("thermo1") == []
    (aside(world, "thermo1") / "x.raw").unlink()
    retry(world, "x.raw", asked_by="ada")
    (found,) = purge_all(world, "thermo1").deleted
    assert found.status is InstrumentFileStatus.NOT_APPLICABLE


def test_a_purge_that_is_ended_by_another_run_is_recorded_as_a_whole(world, monkeypatch):
    raw_file = moved(world, "bruker1", "x.d")
    deleted = []

    def stop_after_two(folder, name):
        if len(deleted) == 2:
            raise OSError(errno.EBUSY, "busy")
        deleted.append(name)
        unlink(folder, name)

    with monkeypatch.context() as patch:
        patch.setattr(purging, "unlink", stop_after_two)
        assert purge_all(world, "bruker1").deleted == ()
    assert world.store.raw_files.get("x.d").purge_intent is not None
    world.now.forward(hours=1)
    (found,) = purge(world, "bruker1", run_id="second", options=EVERYTHING).deleted
    assert found.files == len(raw_file.file_info) - 2
    purged = fields(world, "x.d")["purged"]
    assert (purged["files"], purged["bytes"]) == (len(raw_file.file_info), raw_file.size)
    told = notes(world.store.raw_files.get("x.d"))[-1]
    assert f"the purge of {len(raw_file.file_info)} files, {raw_file.size} bytes" in told
    assert "that run purge began" in told
