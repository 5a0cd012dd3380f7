"""Purging: what is deleted, in which order, how much, and what is said about it."""

import errno
import os
from dataclasses import replace

import pytest

from kraken_dagster.model.errors import PurgeRefused, StatusConflict
from kraken_dagster.model.raw_file import InstrumentFileStatus, Status
from kraken_dagster.model.retention.rules import GB
from kraken_dagster.operations.retry import retry
from kraken_dagster.retention import proof as purging
from kraken_dagster.retention import purge_file as purge_file_step
from kraken_dagster.retention.instrument_disk import unlink
from kraken_dagster.retention.purge import purge
from kraken_dagster.retention.purge_file import purge_file
from kraken_dagster.retention.purge_plan import PurgeOptions, measured_free_bytes, plan
from kraken_dagster.runtime.refusals import PURGE, note_refusal
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
def test_a_file_that_is_proven_is_deleted_and_its_backup_stays(services, instrument_id, name):
    raw_file = moved(services, instrument_id, name)
    kept = content(services.config.locations.backup.path)
    outcome = purge_all(services, instrument_id)
    (deleted,) = outcome.deleted
    assert (deleted.raw_file_id, deleted.status) == (name, InstrumentFileStatus.PURGED)
    assert deleted.files == len(raw_file.file_info)
    assert deleted.size_bytes == raw_file.size == outcome.freed_bytes
    assert content(aside(services, instrument_id)) == {}
    assert content(services.config.locations.backup.path) == kept
    after = services.store.raw_files.get(name)
    assert after.instrument_file_status is InstrumentFileStatus.PURGED
    assert after.status is Status.DONE_NOT_QUANTED
    assert after.purge_intent is None
    assert after.lease is None
    assert after.verified_at == services.now()


def test_what_was_deleted_when_and_by_what_proof_is_in_the_history(services):
    raw_file = moved(services, "bruker1", "x.d")
    purge_all(services, "bruker1")
    event = services.store.raw_files.get("x.d").history[-1]
    assert event["run_id"] == "purge"
    assert event["at"] == services.now()
    for words in (
        f"{len(raw_file.file_info)} files",
        f"{raw_file.size} bytes",
        "MD5",
        "read until",
    ):
        assert words in event["reason"]
    purged = fields(services, "x.d")["purged"]
    assert (purged["bytes"], purged["digest"], purged["gone"]) == (raw_file.size, "MD5", [])


def test_a_read_only_method_folder_is_no_obstacle(services):
    moved(services, "bruker1", "x.d")
    for parent, folders, _ in os.walk(aside(services, "bruker1") / "x.d"):
        for name in folders:
            os.chmod(os.path.join(parent, name), 0o555)
    assert len(purge_all(services, "bruker1").deleted) == 1
    assert content(aside(services, "bruker1")) == {}


def test_folders_that_are_empty_go_with_their_raw_file(services):
    moved(services, "bruker1", "x.d")
    (aside(services, "bruker1") / "x.d" / "empty" / "as well").mkdir(parents=True)
    assert len(purge_all(services, "bruker1").deleted) == 1
    assert content(aside(services, "bruker1")) == {}


def three(services) -> list[str]:
    """Three files, oldest first; each has 50,000 bytes."""
    names = ["b.raw", "c.raw", "a.raw"]
    for number, name in enumerate(names):
        moved(services, "thermo1", name)
        created(services, name, days_ago=40 - number)
    return names


def wanted(services, missing_bytes: int) -> PurgeOptions:
    """That much more is to be free than is."""
    free = measured_free_bytes(services, "thermo1")
    return replace(EVERYTHING, min_free_space_gb=(free + missing_bytes) / GB)


def test_a_plan_lists_the_oldest_that_are_needed_and_why_not_the_rest(services):
    names = three(services)
    done(services, "thermo1", "not_moved.raw")
    moved(services, "thermo1", "young.raw")
    created(services, "young.raw", days_ago=13)
    before = content(services.config.locations.instruments.path)
    found = plan(services, "thermo1", now=services.now(), options=wanted(services, 10**15))
    assert [item.raw_file_id for item in found.to_delete] == names
    assert [item.size_bytes for item in found.to_delete] == [50_000] * 3
    assert [(item.raw_file_id, item.reason) for item in found.kept] == [
        ("young.raw", "it is younger than 14 days")
    ]
    assert not found.enough
    assert content(services.config.locations.instruments.path) == before


def test_a_plan_and_a_purge_take_nothing_while_enough_is_free(services):
    three(services)
    half = replace(EVERYTHING, min_free_space_gb=measured_free_bytes(services, "thermo1") / 2 / GB)
    found = plan(services, "thermo1", now=services.now(), options=half)
    assert (found.to_delete, found.enough) == ((), True)
    assert [item.reason for item in found.kept] == ["it is not needed: enough is free by then"] * 3
    outcome = purge(services, "thermo1", run_id="p", options=half)
    assert (outcome.deleted, outcome.kept, outcome.enough) == ((), (), True)


@pytest.mark.parametrize(
    "options",
    [
        {"remove_files": False},
        {"min_free_space_gb": 0},
        {"min_free_space_gb": -1},
    ],
)
def test_nothing_is_deleted_where_the_purge_is_off(services, options):
    moved(services, "thermo1", "x.raw")
    outcome = purge_all(services, "thermo1", **options)
    assert (outcome.deleted, outcome.enough) == ((), True)
    assert "is off" in outcome.reason or "0 or less" in outcome.reason
    found = plan(services, "thermo1", now=services.now(), options=replace(EVERYTHING, **options))
    assert found.to_delete == ()
    assert "x.raw" in files_in(aside(services, "thermo1"))


def test_the_options_of_instruments_yaml_hold_where_none_are_given(services):
    moved(services, "thermo1", "x.raw")
    assert purge(services, "thermo1", run_id="p").reason == "min_free_space_gb is 0 or less"


def test_nothing_is_deleted_while_enough_is_free(services):
    moved(services, "thermo1", "x.raw")
    outcome = purge_all(services, "thermo1", min_free_space_gb=1e-9)
    assert (outcome.deleted, outcome.enough) == ((), True)
    assert "x.raw" in files_in(aside(services, "thermo1"))
    assert services.store.health.disk("thermo1")["status"] == "ok"


def test_a_purge_that_can_not_free_enough_says_so_and_what_is_in_the_way(services):
    moved(services, "thermo1", "x.raw")
    moved(services, "thermo1", "y.raw")
    (aside(services, "thermo1") / "y.raw").write_text("another")
    outcome = purge_all(services, "thermo1")
    assert not outcome.enough
    assert [item.raw_file_id for item in outcome.deleted] == ["x.raw"]
    assert [item.raw_file_id for item in outcome.kept] == ["y.raw"]
    assert "less than the 1e+09 GB that shall be" in outcome.reason
    assert "1 x refused" in outcome.reason
    health = services.store.health.disk("thermo1")
    assert (health["status"], health["status_details"]) == ("warning", outcome.reason)


def not_final(services):
    raw_file = services.store.raw_files.get("x.raw")
    services.store.raw_files.transition(raw_file, Status.QUEUED_FOR_QUANTING, now=services.now())


def waits_for_a_retry(services):
    raw_file = services.store.raw_files.get("x.raw")
    services.store.raw_files.transition(
        raw_file, Status.ERROR, now=services.now(), fields={"retry_at": services.now()}
    )


def without_backup(services):
    raw_file = services.store.raw_files.get("x.raw")
    changes = {"backup_status": "copying_failed"}
    services.store.raw_files.update(raw_file, changes, now=services.now(), note="by a test")


def leased(services):
    held = lease("run-7", until=services.now().replace(year=2030))
    services.store.raw_files.take_lease("x.raw", held, now=services.now())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (not_final, "it is still worked on: queued_for_quanting"),
        (waits_for_a_retry, "a step of it that failed is tried again"),
        (without_backup, "no backup of it is recorded: copying_failed"),
        (leased, "run run-7 works on it"),
    ],
)
def test_a_file_that_is_not_over_and_done_with_stays(services, change, reason):
    moved(services, "thermo1", "x.raw")
    change(services)
    assert (
        reason in plan(services, "thermo1", now=services.now(), options=EVERYTHING).kept[0].reason
    )
    outcome = purge_all(services, "thermo1")
    assert outcome.deleted == ()
    assert reason in outcome.kept[0].reason
    assert "x.raw" in files_in(aside(services, "thermo1"))


def refused(services):
    error = PurgeRefused("look at it")
    note_refusal(services, services.store.raw_files.get("x.raw"), PURGE, error, run_id="p")


def young(services):
    created(services, "x.raw", days_ago=13)


@pytest.mark.parametrize("change", [not_final, waits_for_a_retry, without_backup, refused, young])
def test_what_changed_before_the_lease_was_taken_keeps_a_file(services, change):
    moved(services, "thermo1", "x.raw")
    change(services)
    with pytest.raises(StatusConflict, match="not to be purged now"):
        purge_file(services, "x.raw", run_id="p")
    assert "x.raw" in files_in(aside(services, "thermo1"))


def test_a_failed_file_that_nobody_tries_again_may_go(services):
    moved(services, "thermo1", "x.raw")
    raw_file = services.store.raw_files.get("x.raw")
    services.store.raw_files.transition(raw_file, Status.ERROR, now=services.now(), reason="no")
    assert len(purge_all(services, "thermo1").deleted) == 1


def test_what_somebody_else_deleted_is_not_recorded_as_purged(services):
    moved(services, "thermo1", "x.raw")
    moved(services, "thermo1", "young.raw")  # tells that this is the instrument's disk
    created(services, "young.raw", days_ago=1)
    (aside(services, "thermo1") / "x.raw").unlink()
    (found,) = purge_all(services, "thermo1").deleted
    assert (found.status, found.size_bytes) == (InstrumentFileStatus.NOT_APPLICABLE, 0)
    after = services.store.raw_files.get("x.raw")
    assert after.instrument_file_status is InstrumentFileStatus.NOT_APPLICABLE
    assert "somebody else deleted it" in notes(after)[-1]
    assert purge_all(services, "thermo1").deleted == ()


def test_members_that_somebody_else_deleted_are_told(services):
    moved(services, "bruker1", "x.d")
    (aside(services, "bruker1") / "x.d" / "analysis.tdf").unlink()
    (found,) = purge_all(services, "bruker1").deleted
    assert found.gone == 1
    assert (
        "1 were gone already, and are in the backup"
        in notes(services.store.raw_files.get("x.d"))[-1]
    )


def test_more_files_than_a_page_are_purged_oldest_first(services):
    """Also where hundreds were made at the same moment."""
    moved(services, "thermo1", "x.raw")
    document = dict(fields(services, "x.raw"))
    collection = services.store._database["raw_file"]
    same = {**document, "status": "queued_for_quanting"}
    collection.insert_many([{**same, "_id": f"{number:03}.raw"} for number in range(450)])
    services.now.forward(days=1)
    found = [item.id for item in services.store.retention.moved("thermo1")]
    assert len(found) == 451
    assert len(set(found)) == 451
    assert len(plan(services, "thermo1", now=services.now(), options=EVERYTHING).kept) == 450


def gone_by_hand(services) -> None:
    """Two files were archived; one is taken away, and that is recorded."""
    for name, days_ago in (("x.raw", 20), ("young.raw", 1)):
        moved(services, "thermo1", name)
        created(services, name, days_ago=days_ago)
    (aside(services, "thermo1") / "x.raw").rename(aside(services, "thermo1") / "taken")
    purge_all(services, "thermo1")


def test_what_comes_back_into_backup_counts_as_moved_again_once_it_is_asked_for(services):
    gone_by_hand(services)
    (aside(services, "thermo1") / "taken").rename(aside(services, "thermo1") / "x.raw")
    assert purge_all(services, "thermo1").deleted == ()
    after, reported = retry(services, "x.raw", asked_by="ada")
    assert after.instrument_file_status is InstrumentFileStatus.MOVED
    assert (after.gone_at, after.lease) == (None, None)
    assert "archived again" in reported
    assert "asked for again by ada" in notes(after)[-1]
    assert [item.raw_file_id for item in purge_all(services, "thermo1").deleted] == ["x.raw"]


def test_what_did_not_come_back_is_not_asked_for_in_vain(services):
    gone_by_hand(services)
    with pytest.raises(StatusConflict, match="it has ended well"):
        retry(services, "x.raw", asked_by="ada")
    folder = services.instrument_folder("thermo1")
    folder.rename(folder.with_name("away"))
    with pytest.raises(StatusConflict, match="it has ended well"):
        retry(services, "x.raw", asked_by="ada")


def test_empty_folders_that_somebody_else_left_are_not_recorded_as_purged(services):
    moved(services, "bruker1", "x.d")
    for path in (aside(services, "bruker1") / "x.d").rglob("*"):
        if path.is_file():
            path.unlink()
    (found,) = purge_all(services, "bruker1").deleted
    assert (found.status, found.files, found.size_bytes) == ("n/a", 0, 0)
    after = services.store.raw_files.get("x.d")
    assert after.instrument_file_status is InstrumentFileStatus.NOT_APPLICABLE
    assert "somebody else deleted it" in notes(after)[-1]
    assert fields(services, "x.d").get("purged") is None
    assert content(aside(services, "bruker1")) == {}


def test_a_purge_that_was_refused_before_the_first_deletion_was_not_begun(services, monkeypatch):
    moved(services, "thermo1", "young.raw")
    created(services, "young.raw", days_ago=1)
    moved(services, "thermo1", "x.raw")

    def refuse(*_arguments, **_options):
        raise PurgeRefused("The file changed after it was read")

    with monkeypatch.context() as patch:
        patch.setattr(purge_file_step, "delete", refuse)
        assert purge_all(services, "thermo1").deleted == ()
    assert services.store.raw_files.get("x.raw").purge_intent is None
    assert services.store.retention.purge_begun("thermo1") == []
    (aside(services, "thermo1") / "x.raw").unlink()
    retry(services, "x.raw", asked_by="ada")
    (found,) = purge_all(services, "thermo1").deleted
    assert found.status is InstrumentFileStatus.NOT_APPLICABLE


def test_a_purge_that_is_ended_by_another_run_is_recorded_as_a_whole(services, monkeypatch):
    raw_file = moved(services, "bruker1", "x.d")
    deleted = []

    def stop_after_two(folder, name):
        if len(deleted) == 2:
            raise OSError(errno.EBUSY, "busy")
        deleted.append(name)
        unlink(folder, name)

    with monkeypatch.context() as patch:
        patch.setattr(purging, "unlink", stop_after_two)
        assert purge_all(services, "bruker1").deleted == ()
    assert services.store.raw_files.get("x.d").purge_intent is not None
    services.now.forward(hours=1)
    (found,) = purge(services, "bruker1", run_id="second", options=EVERYTHING).deleted
    assert found.files == len(raw_file.file_info) - 2
    purged = fields(services, "x.d")["purged"]
    assert (purged["files"], purged["bytes"]) == (len(raw_file.file_info), raw_file.size)
    reported = notes(services.store.raw_files.get("x.d"))[-1]
    assert f"the purge of {len(raw_file.file_info)} files, {raw_file.size} bytes" in reported
    assert "that run purge began" in reported
