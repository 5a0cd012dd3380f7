"""The contract of the store: raw files, their statuses and histories.

Runs on the embedded server, or on the MongoDB that KRAKEN_TEST_MONGODB_URI names.
"""

from datetime import datetime, timedelta
from typing import Any

import pymongo
import pytest

from kraken_dagster.model.errors import StatusConflict, UnknownRawFile
from kraken_dagster.model.files.acquisition import Watch
from kraken_dagster.model.files.known_file import KnownFile
from kraken_dagster.model.raw_file import BackupStatus, FileFact, InstrumentFileStatus, Status
from kraken_dagster.store.connection import Store
from kraken_dagster_tests.support.helpers import HOSTILE_STEMS, NOW, long_name, record

HOSTILE_NAMES = [*(stem + ".raw" for stem in HOSTILE_STEMS), long_name(".raw")]


@pytest.fixture
def database(store, mongodb_uri):
    """The same database, without the store in between."""
    with pymongo.MongoClient(mongodb_uri, tz_aware=True) as client:
        yield client.get_default_database()


def registered(store: Store, name: str = "x.raw", **fields: Any):
    raw_file = record(name, **fields)
    assert store.raw_files.register(raw_file, reason="discovered")
    return raw_file


def test_an_id_is_registered_once_and_the_first_record_stays(store):
    registered(store)
    again = record(instrument_id="another")
    assert store.raw_files.register(again, reason="discovered") is False
    assert store.raw_files.get("x.raw").instrument_id == "thermo1"


def test_a_file_that_nobody_registered_is_unknown_and_the_message_says_where_to_look(store):
    with pytest.raises(UnknownRawFile, match=r"'x\.raw'.*kraken files"):
        store.raw_files.get("x.raw")


def test_a_transition_sets_the_status_its_reason_and_further_fields(store):
    before = registered(store)
    later = NOW + timedelta(hours=1)
    after = store.raw_files.transition(
        before, Status.MONITORING_DONE, now=later, reason="over", fields={"size": 5}
    )
    assert after == store.raw_files.current("x.raw")
    assert (after.status, after.status_details, after.size) == ("monitoring_done", "over", 5)
    assert after.updated_at_ == later


def test_a_transition_from_a_status_that_changed_meanwhile_is_refused(store):
    stale = registered(store)
    store.raw_files.transition(stale, Status.MONITORING_ACQUISITION, now=NOW)
    with pytest.raises(StatusConflict, match=r"queued_for_monitoring.*monitoring_acquisition"):
        store.raw_files.transition(stale, Status.MONITORING_DONE, now=NOW)
    assert store.raw_files.get("x.raw").status is Status.MONITORING_ACQUISITION


def test_a_transition_that_is_not_legal_is_refused(store):
    raw_file = registered(store)
    with pytest.raises(StatusConflict, match=r"from queued_for_monitoring to done"):
        store.raw_files.transition(raw_file, Status.DONE, now=NOW)
    assert store.raw_files.get("x.raw").status is Status.QUEUED_FOR_MONITORING


def test_an_update_is_refused_when_the_status_changed_meanwhile(store):
    stale = registered(store)
    store.raw_files.transition(stale, Status.MONITORING_ACQUISITION, now=NOW)
    with pytest.raises(StatusConflict):
        store.raw_files.update(stale, {"size": 1}, now=NOW, note="too late")
    assert store.raw_files.get("x.raw").size is None


def test_a_look_that_was_overtaken_by_another_keeps_nothing(store):
    raw_file = registered(store)
    watch = Watch.begin(NOW, main_file_seen=True)
    assert store.raw_files.save_watch(raw_file, watch) is True
    assert store.raw_files.save_watch(raw_file, Watch.begin(NOW, main_file_seen=False)) is False
    assert store.raw_files.get("x.raw").acquisition["main_file_seen"] is True


def test_the_history_tells_every_change_with_time_reason_run_and_options(store):
    raw_file = registered(store)
    later = NOW + timedelta(hours=1)
    after = store.raw_files.transition(
        raw_file,
        Status.MONITORING_DONE,
        now=later,
        reason="over",
        run_id="run-1",
        options={"a": 1},
    )
    store.raw_files.update(after, {"size": 1}, now=later, note="measured")
    found = store.raw_files.get("x.raw").history
    born = {"at": NOW, "from": None, "to": "queued_for_monitoring", "run_id": None}
    assert found == [
        {**born, "reason": "discovered"},
        {
            "at": later,
            "from": "queued_for_monitoring",
            "to": "monitoring_done",
            "reason": "over",
            "run_id": "run-1",
            "options": {"a": 1},
        },
        {
            "at": later,
            "from": "monitoring_done",
            "to": "monitoring_done",
            "reason": "measured",
            "run_id": None,
        },
    ]


def test_the_history_keeps_the_last_100_changes(store):
    raw_file = registered(store)
    for number in range(105):
        store.raw_files.update(raw_file, {}, now=NOW, note=f"note {number}")
    reasons = [event["reason"] for event in store.raw_files.get("x.raw").history]
    assert reasons == [f"note {number}" for number in range(5, 105)]


def test_status_details_are_cut_at_512_characters_and_brought_into_one_line(store):
    raw_file = registered(store)
    after = store.raw_files.transition(raw_file, Status.ERROR, now=NOW, reason="a\n b" + "x" * 600)
    assert after.status_details.startswith("a bxxx")
    assert len(after.status_details) == 512
    assert store.raw_files.get("x.raw").history[-1]["reason"] == after.status_details


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_any_name_of_a_file_system_comes_back_as_id_and_as_key_of_file_info(store, name):
    raw_file = registered(store, name)
    fact = FileFact(size=3, md5="a" * 32)
    facts = {name: fact.to_record(), f"{name}/{name}": fact.to_record()}
    store.raw_files.update(raw_file, {"file_info": facts}, now=NOW, note="recorded")
    found = store.raw_files.get(name)
    assert (found.id, found.original_name) == (name, name)
    assert found.file_info == {name: fact, f"{name}/{name}": fact}
    assert list(store.raw_files.known("thermo1", [name])) == [name]


def test_dates_come_back_in_utc_with_their_time_zone(store, database):
    noon_in_vienna = datetime.fromisoformat("2026-03-01T13:00:00+01:00")
    registered(store, created_at=noon_in_vienna, acquisition={"looked_at": noon_in_vienna})
    found = store.raw_files.get("x.raw")
    for date in (found.created_at, found.acquisition["looked_at"], found.history[0]["at"]):
        assert date == NOW
        assert date.utcoffset() == timedelta(0)


def test_file_info_is_written_as_other_programs_read_it(store, database):
    raw_file = registered(store)
    fact = FileFact(size=3, md5="a" * 32).to_record()
    store.raw_files.update(raw_file, {"file_info": {"x.raw": fact}}, now=NOW, note="recorded")
    assert database["raw_file"].find_one({"_id": "x.raw"})["file_info"] == {
        "x.raw": [3.0, "a" * 32]
    }


def test_documents_of_other_programs_are_read(store, database):
    document = {
        "_id": "20240801-093000-123456-x.raw",
        "original_name": "x.raw",
        "collision_flag": "20240801-093000-123456-",
        "status": "done",
        "size": 3.0,
        "instrument_id": "thermo1",
        "project_id": "_FALLBACK",
        "file_info": {"x.raw": [3.0, "a" * 32, "etag-1"], "y.raw": [None, None]},
        "backup_status": "upload_done",
        "instrument_file_status": "purged",
        "created_at": NOW,
        "created_at_": NOW,
        "updated_at_": NOW,
        "s3_upload_path": "s3://bucket/key",
    }
    database["raw_file"].insert_one(document)
    found = store.raw_files.get(document["_id"])
    assert found.file_info["x.raw"] == FileFact(size=3, md5="a" * 32, etag="etag-1")
    assert found.file_info["y.raw"] == FileFact(size=None, md5=None)
    assert (found.status, found.backup_status, found.is_backed_up) == (
        Status.DONE,
        BackupStatus.UPLOAD_DONE,
        True,
    )
    assert (found.acquisition, found.attempts, found.history, found.lease) == ({}, {}, [], None)
    assert [item.id for item in store.raw_files.known("thermo1", ["x.raw"])["x.raw"]] == [found.id]


def test_the_barest_document_of_another_program_is_read_and_can_go_on(store, database):
    database["raw_file"].insert_one(
        {
            "_id": "x.raw",
            "instrument_id": "thermo1",
            "status": "monitoring_done",
            "created_at_": NOW,
        }
    )
    found = store.raw_files.get("x.raw")
    assert (found.original_name, found.created_at, found.updated_at_) == ("x.raw", NOW, NOW)
    assert store.raw_files.next_attempt(found, "backup") == 1
    store.raw_files.transition(found, Status.COPYING, now=NOW, reason="goes on")
    history = store.raw_files.get("x.raw").history
    assert [event["to"] for event in history] == ["copying"]


def test_known_finds_every_record_of_many_names_on_that_instrument_only(store):
    names = [f"x{number}.raw" for number in range(250)]
    for name in names:
        registered(store, name)
    registered(store, "flag-x7.raw", original_name="x7.raw")
    registered(store, "elsewhere.raw", instrument_id="thermo2")
    found = store.raw_files.known("thermo1", [*names, "elsewhere.raw", "unknown.raw"])
    assert {name: len(records) for name, records in found.items()} == {
        **dict.fromkeys(names, 1),
        "x7.raw": 2,
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"gone_at": NOW},
        {"instrument_file_status": InstrumentFileStatus.MOVED},
        {"status": Status.DONE, "acquisition": {"looked_at": NOW, "ended_size": 5}},
        {"acquisition": {"looked_at": NOW}},
        {"size": 9},
    ],
)
def test_what_is_known_tells_files_of_one_name_apart_as_the_whole_record_does(store, fields):
    whole = registered(store, "x.raw", **fields)
    (known,) = store.raw_files.known("thermo1", ["x.raw"])["x.raw"]
    assert known == KnownFile.of(whole)


@pytest.mark.parametrize(
    "fields",
    [
        {"size": 3.0, "file_info": {"x.raw": [3.0, "a" * 32, "etag-1"], "y.raw": None}},
        {"size": "3", "created_at_": "2026-03-01T12:00:00Z"},
        {"created_at_": None},
        {"instrument_file_status": "new"},
        {"instrument_file_status": "elsewhere"},
        {"status": "new_in_version_9"},
        {"status": None},
        {"size": "large"},
        {"size": 3.5},
        {"size": float("inf")},
        {"file_info": {"x.raw": 7}},
        {"file_info": {"x.raw": ["large", None]}},
        {"file_info": ["x.raw"]},
        {"gone_at": "yesterday"},
        {"acquisition": [{"looked_at": NOW}]},
    ],
)
def test_what_others_wrote_is_known_as_the_whole_record_has_it_and_hides_no_other(
    store, database, fields
):
    registered(store, "x.raw", acquisition={"looked_at": NOW})
    registered(store, "y.raw")
    database["raw_file"].update_one({"_id": "x.raw"}, {"$set": fields})
    found = store.raw_files.known("thermo1", ["x.raw", "y.raw"])
    assert found["x.raw"] == [KnownFile.of(store.raw_files.get("x.raw"))]
    assert [item.id for item in found["y.raw"]] == ["y.raw"]


def test_a_name_is_known_whatever_its_documents_id_is(store, database):
    database["raw_file"].insert_one(
        {"_id": 7, "original_name": "x.raw", "instrument_id": "thermo1", "status": "done"}
    )
    (known,) = store.raw_files.known("thermo1", ["x.raw"])["x.raw"]
    assert (known.id, known.status) == ("7", Status.ERROR)


def test_due_again_are_failed_files_whose_time_has_come(store):
    for name, minutes in (("now.raw", 0), ("past.raw", -1), ("later.raw", 1), ("never.raw", None)):
        retry_at = None if minutes is None else NOW + timedelta(minutes=minutes)
        registered(store, name, status=Status.ERROR, retry_at=retry_at)
    registered(store, "on its way.raw", status=Status.COPYING, retry_at=NOW)
    found = {item.id for item in store.raw_files.due_again("thermo1", NOW)}
    assert found == {"now.raw", "past.raw"}


def test_the_newest_files_come_first_whatever_their_instrument(store):
    for number in range(6):
        created_at = NOW + timedelta(hours=number)
        registered(
            store, f"{number}.raw", created_at=created_at, instrument_id=f"thermo{number % 2}"
        )
    found = store.raw_files.latest(["thermo0", "thermo1"], limit=4)
    assert [item.id for item in found] == ["5.raw", "4.raw", "3.raw", "2.raw"]


def test_files_are_counted_by_status(store):
    for number, status in enumerate((Status.DONE, Status.DONE, Status.ERROR)):
        registered(store, f"{number}.raw", status=status)
    assert store.raw_files.count_by_status("thermo1") == {Status.DONE: 2, Status.ERROR: 1}
