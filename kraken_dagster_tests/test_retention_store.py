"""The store of retention: compare-and-set, indexes, and what a function that hung may do."""

from datetime import timedelta
from threading import Event

import pytest

from kraken_dagster.clients.store import retention
from kraken_dagster.domain.errors import CopyStalled, LeaseLost, StatusConflict
from kraken_dagster.domain.raw_file import InstrumentFileStatus, Status, Step
from kraken_dagster.steps.leases import holding
from kraken_dagster.steps.troubles import watched
from kraken_dagster_tests.helpers import NOW, lease, record, wait_until

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


def test_a_name_that_was_found_to_be_gone_is_free_for_another_acquisition(world):
    raw_file = record(
        status=Status.DONE, instrument_file_status=InstrumentFileStatus.NOT_APPLICABLE
    )
    rules = world.rules("thermo1")
    gone = raw_file.model_copy(update={"gone_at": NOW, "size": 5})
    assert gone.main_file_size(rules) == -1


def test_what_hung_has_no_leave_to_go_on_once_it_was_given_up(world):
    """Should the share come back, another run may work on the file by then."""
    world.store.raw_files.register(record(), reason="discovered")
    comes_back, answers = Event(), []

    def hangs(_beat, may_go_on):
        answers.append(may_go_on())
        comes_back.wait()
        answers.append(may_go_on())

    with holding(world, "x.raw", step=Step.PURGE, run_id="r") as held:
        with pytest.raises(CopyStalled):
            watched(held, hangs, stall_s=0.05, what="x.raw")
        comes_back.set()
        wait_until(lambda: len(answers) == 2, "it has asked again")
        assert held.still_ours()
    assert answers == [True, False]


def test_who_lost_the_lease_has_no_leave(world):
    world.store.raw_files.register(record(), reason="discovered")
    with holding(world, "x.raw", step=Step.PURGE, run_id="r") as held:
        held.until = world.now() - timedelta(seconds=1)
        assert watched(held, lambda _beat, may_go_on: may_go_on(), stall_s=5, what="x") is False
