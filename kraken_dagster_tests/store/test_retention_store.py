"""The store of retention: compare-and-set, indexes, and what a function that hung may do."""

from datetime import timedelta
from threading import Event

import pytest
from pymongo.errors import AutoReconnect

from kraken_dagster.backup.scrub import Selection, begin, verify_all
from kraken_dagster.fs.rate_limit import RateLimit
from kraken_dagster.model.errors import (
    CopyStalled,
    LeaseLost,
    StatusConflict,
    StoreUnavailable,
)
from kraken_dagster.model.files.known_file import KnownFile
from kraken_dagster.model.raw_file import InstrumentFileStatus, Status, Step
from kraken_dagster.model.retention.refusal import Refusal
from kraken_dagster.retention.archiving.archive import ArchiveOptions, due_for_move
from kraken_dagster.retention.purge_plan import plan
from kraken_dagster.runtime.leases import holding
from kraken_dagster.runtime.refusals import watched
from kraken_dagster.store.raw_files import retention
from kraken_dagster_tests.retention.retention_cases import EVERYTHING, done, moved, purge_all
from kraken_dagster_tests.support.helpers import NOW, lease, record, wait_until

MOVED = InstrumentFileStatus.MOVED


@pytest.fixture
def held_file(store):
    store.raw_files.register(record(status=Status.DONE), reason="discovered")
    return store.raw_files.take_lease("x.raw", lease(), now=NOW)


def change(store, raw_file, new=MOVED, *, by=None):
    return store.retention.set_instrument_file(
        raw_file, new, now=NOW, reason="moved", run_id="r", lease=by or raw_file.lease
    )


def test_of_two_that_record_what_became_of_a_file_one_does(store, held_file):
    assert change(store, held_file).instrument_file_status is MOVED
    with pytest.raises(StatusConflict, match="moved"):
        change(store, held_file)
    history = store.raw_files.get("x.raw").history
    assert [event.get("instrument_file") for event in history] == [None, "moved"]


def test_who_has_lost_the_lease_records_nothing(store, held_file):
    stolen = lease("run-2")
    with pytest.raises(LeaseLost):
        change(store, held_file, by=stolen)
    with pytest.raises(LeaseLost):
        store.retention.intend_purge(held_file, {"files": 1}, lease=stolen)
    found = store.raw_files.get("x.raw")
    assert found.instrument_file_status is InstrumentFileStatus.INITIAL
    assert found.purge_intent is None


def test_a_purge_is_only_intended_of_what_was_moved_aside(store, held_file):
    with pytest.raises(StatusConflict):
        store.retention.intend_purge(held_file, {"files": 1}, lease=held_file.lease)


def test_every_question_has_an_index_that_begins_with_the_instrument(store):
    there = [
        list(index["key"])
        for index in store._database["raw_file"].list_indexes()
        if index["name"] != "_id_"
    ]
    for index in retention.INDEXES:
        names = list(index.document["key"])
        assert names[0] == "instrument_id"
        assert names in there


def test_a_name_that_was_found_to_be_gone_is_free_for_another_acquisition(services):
    raw_file = record(
        status=Status.DONE, instrument_file_status=InstrumentFileStatus.NOT_APPLICABLE
    )
    rules = services.rules("thermo1")
    gone = raw_file.model_copy(update={"gone_at": NOW, "size": 5})
    assert KnownFile.of(gone).main_file_size(rules) == -1


def test_what_hung_has_no_leave_to_go_on_once_it_was_given_up(services):
    """Should the share come back, another run may work on the file by then."""
    services.store.raw_files.register(record(), reason="discovered")
    comes_back, answers = Event(), []

    def hangs(_beat, may_go_on):
        answers.append(may_go_on())
        comes_back.wait()
        answers.append(may_go_on())

    with holding(services, "x.raw", step=Step.PURGE, run_id="r") as held:
        with pytest.raises(CopyStalled):
            watched(held, hangs, stall_s=0.05, what="x.raw")
        comes_back.set()
        wait_until(lambda: len(answers) == 2, "it has asked again")
        assert held.still_ours()
    assert answers == [True, False]


def test_who_lost_the_lease_has_no_leave(services):
    services.store.raw_files.register(record(), reason="discovered")
    with holding(services, "x.raw", step=Step.PURGE, run_id="r") as held:
        held.until = services.now() - timedelta(seconds=1)
        assert watched(held, lambda _beat, may_go_on: may_go_on(), stall_s=5, what="x") is False


def change_document(services, name, changes):
    services.store._database["raw_file"].update_one({"_id": name}, changes)


@pytest.mark.parametrize("is_moved", [False, True])
@pytest.mark.parametrize(
    "odd",
    [
        {"created_at": "2026-01-01T00:00:00"},
        {"created_at": "soon"},
        {"updated_at_": "2026-01-01T00:00:00"},
        {"file_info": {"a.raw": [float("inf"), "x"]}},
    ],
)
def test_one_odd_document_stops_no_other(services, odd, is_moved):
    (moved if is_moved else done)(services, "thermo1", "a.raw")
    moved(services, "thermo1", "b.raw")
    done(services, "thermo1", "c.raw")
    change_document(services, "a.raw", {"$set": odd, "$unset": {"verified_at": ""}})
    change_document(services, "b.raw", {"$unset": {"verified_at": ""}})
    now = services.now()
    due = due_for_move(services, "thermo1", now, options=ArchiveOptions())
    assert [item.id for item in due] == ["c.raw"]
    found = plan(services, "thermo1", now=now, options=EVERYTHING)
    assert [item.raw_file_id for item in found.to_delete] == ["b.raw"]
    todo = begin(services, Selection((), ("thermo1",)))
    verdicts = {
        item.raw_file_id: str(item.verdict)
        for item in verify_all(services, todo, run_id="v", rate_limit=RateLimit())
    }
    assert verdicts == {"a.raw": "skipped", "b.raw": "verified", "c.raw": "verified"}
    assert [item.raw_file_id for item in purge_all(services, "thermo1").deleted] == ["b.raw"]


def test_an_older_document_of_alphakraken_is_due_for_a_move_too(services):
    done(services, "thermo1", "a.raw")
    change_document(
        services,
        "a.raw",
        {"$unset": {"backup_status": ""}, "$set": {"instrument_file_status": "new"}},
    )
    due = due_for_move(services, "thermo1", services.now(), options=ArchiveOptions())
    assert [item.id for item in due] == ["a.raw"]


@pytest.mark.parametrize("failed_too", [False, True])
def test_a_file_in_trouble_is_asked_for_once_its_time_has_come(services, failed_too):
    done(services, "thermo1", "x.raw")
    retention, now = services.store.retention, services.now()

    def asked_for(**later):
        found = retention.to_move("thermo1", now=now + timedelta(**later), failed_too=failed_too)
        return [item.id for item in found]

    assert asked_for() == ["x.raw"]
    refusal = Refusal(problem="busy", at=now, retry_at=now + timedelta(minutes=1))
    raw_file = services.store.raw_files.get("x.raw")
    retention.note(raw_file, "archive", refusal, now=now, run_id="r")
    assert asked_for() == []
    assert asked_for(minutes=1) == ["x.raw"]
    refused = Refusal(problem="look at it", at=now)  # as earlier versions recorded it
    retention.note(raw_file, "archive", refused, now=now, run_id="r")
    assert asked_for() == ["x.raw"]
    assert [item.archive for item in retention.troubled("thermo1")] == [refused]
    retention.clear(raw_file, now=now, note="retry")
    assert retention.troubled("thermo1") == []
    assert asked_for() == ["x.raw"]


def test_mongodb_that_goes_away_while_files_are_gone_through_is_told_in_words(
    services, monkeypatch
):
    moved(services, "thermo1", "a.raw")
    found = services.store.retention.moved("thermo1")

    class Away:
        def find(self, *_query):
            raise AutoReconnect("gone")

    monkeypatch.setattr(services.store.retention, "_collection", Away())
    with pytest.raises(StoreUnavailable):
        next(found)
