"""The contract of the store: leases, attempts, and who wins when several want the same.

Runs on the embedded server, or on the MongoDB that KRAKEN_TEST_MONGODB_URI names.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest

from kraken_dagster.model.errors import LeaseHeld, LeaseLost, StatusConflict
from kraken_dagster.model.raw_file import Status
from kraken_dagster_tests.support.helpers import NOW, lease, record

ROUNDS = 40
LAPSED = NOW + timedelta(seconds=90)  # the moment at which `lease()` ends


@pytest.fixture
def raw_file(store):
    raw_file = record(status=Status.MONITORING_DONE)
    assert store.raw_files.register(raw_file, reason="discovered")
    return raw_file


def test_a_free_lease_is_taken_and_shown_on_the_record(store, raw_file):
    taken = store.raw_files.take_lease("x.raw", lease(), now=NOW)
    assert taken.lease == lease()
    assert store.raw_files.get("x.raw").leased(NOW) == lease()


def test_a_lease_that_another_run_holds_is_refused_and_the_message_says_who_holds_it(
    store, raw_file
):
    store.raw_files.take_lease("x.raw", lease(), now=NOW)
    with pytest.raises(LeaseHeld, match=r"run run-1 on pc7, step backup, until 12:01:30 UTC"):
        store.raw_files.take_lease("x.raw", lease("run-2"), now=NOW)
    assert store.raw_files.get("x.raw").lease == lease()


def test_a_run_that_was_started_again_takes_its_own_lease_again(store, raw_file):
    store.raw_files.take_lease("x.raw", lease(), now=NOW)
    again = lease(until=LAPSED).model_copy(update={"token": "of the second process"})
    assert store.raw_files.take_lease("x.raw", again, now=NOW).lease == again


def test_a_lapsed_lease_is_taken_over(store, raw_file):
    store.raw_files.take_lease("x.raw", lease(), now=NOW)
    assert store.raw_files.get("x.raw").leased(LAPSED) is None
    store.raw_files.take_lease("x.raw", lease("run-2"), now=LAPSED)
    assert store.raw_files.get("x.raw").lease == lease("run-2")


def test_who_lost_the_lease_changes_nothing_any_more(store, raw_file):
    taken = store.raw_files.take_lease("x.raw", lease(), now=NOW)
    store.raw_files.take_lease("x.raw", lease("run-2"), now=LAPSED)
    with pytest.raises(LeaseLost, match="a lease of run run-2"):
        store.raw_files.transition(taken, Status.COPYING, now=LAPSED, lease=lease())
    assert store.raw_files.get("x.raw").status is Status.MONITORING_DONE


def test_who_gave_the_lease_back_changes_nothing_any_more(store, raw_file):
    taken = store.raw_files.take_lease("x.raw", lease(), now=NOW)
    store.raw_files.release_lease("x.raw", lease(), now=NOW)
    with pytest.raises(LeaseLost, match="no lease"):
        store.raw_files.transition(taken, Status.COPYING, now=NOW, lease=lease())


def test_who_holds_the_lease_changes_the_status(store, raw_file):
    taken = store.raw_files.take_lease("x.raw", lease(), now=NOW)
    after = store.raw_files.transition(taken, Status.COPYING, now=NOW, lease=lease())
    assert (after.status, after.lease) == (Status.COPYING, lease())


def test_a_lease_is_renewed_until_another_run_has_it(store, raw_file):
    store.raw_files.take_lease("x.raw", lease(), now=NOW)
    later = LAPSED + timedelta(seconds=60)
    assert store.raw_files.renew_lease("x.raw", lease(), later) is True
    assert store.raw_files.get("x.raw").lease.until == later
    store.raw_files.take_lease("x.raw", lease("run-2"), now=later)
    assert store.raw_files.renew_lease("x.raw", lease(), later + timedelta(days=1)) is False
    assert store.raw_files.get("x.raw").lease == lease("run-2")


def test_only_ones_own_lease_is_given_back(store, raw_file):
    store.raw_files.take_lease("x.raw", lease(), now=NOW)
    store.raw_files.release_lease("x.raw", lease("run-2"), now=NOW)
    assert store.raw_files.get("x.raw").lease == lease()
    store.raw_files.release_lease("x.raw", lease(), now=NOW)
    assert store.raw_files.get("x.raw").lease is None


def test_attempts_are_counted_by_step(store, raw_file):
    for expected in (1, 2, 3):
        assert store.raw_files.next_attempt(store.raw_files.get("x.raw"), "backup") == expected
    assert store.raw_files.next_attempt(store.raw_files.get("x.raw"), "quant") == 1
    assert store.raw_files.get("x.raw").attempts == {"backup": 3, "quant": 1}


def test_an_attempt_on_an_older_view_of_the_file_is_not_counted(store, raw_file):
    assert store.raw_files.next_attempt(raw_file, "backup") == 1
    assert store.raw_files.next_attempt(raw_file, "backup") is None
    assert store.raw_files.get("x.raw").attempts == {"backup": 1}


def at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """What each call returned, or the project's error that it raised; all begin together."""
    barrier = Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        barrier.wait()
        try:
            return call()
        except (LeaseHeld, StatusConflict) as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def runs(store, name: str) -> list[Callable[[], Any]]:
    def take(run_id: str) -> Callable[[], Any]:
        return lambda: store.raw_files.take_lease(name, lease(run_id), now=NOW)

    return [take(f"run-{number}") for number in range(3)]


def test_of_runs_that_want_a_lease_at_once_exactly_one_gets_it(store):
    for number in range(ROUNDS):
        name = f"{number}.raw"
        store.raw_files.register(record(name), reason="discovered")
        found = at_once(runs(store, name))
        (winner,) = [item for item in found if not isinstance(item, LeaseHeld)]
        assert store.raw_files.get(name).lease == winner.lease
        assert all(winner.lease.run_id in str(item) for item in found if item is not winner)


def test_of_runs_that_want_a_lapsed_lease_at_once_exactly_one_gets_it(store, raw_file):
    store.raw_files.take_lease("x.raw", lease("dead", until=NOW), now=NOW - timedelta(seconds=1))
    found = at_once(runs(store, "x.raw"))
    assert sum(not isinstance(item, LeaseHeld) for item in found) == 1


def test_of_sensors_that_count_an_attempt_at_once_exactly_one_does(store):
    for number in range(ROUNDS):
        raw_file = record(f"{number}.raw")
        store.raw_files.register(raw_file, reason="discovered")
        found = at_once([lambda seen=raw_file: store.raw_files.next_attempt(seen, "backup")] * 3)
        assert Counter(found) == {1: 1, None: 2}


def test_of_watchers_that_register_a_file_at_once_exactly_one_does(store):
    for number in range(ROUNDS):
        raw_file = record(f"{number}.raw")
        found = at_once([lambda new=raw_file: store.raw_files.register(new, reason="seen")] * 3)
        assert Counter(found) == {True: 1, False: 2}


def test_of_runs_that_change_a_status_at_once_exactly_one_does(store):
    for number in range(ROUNDS):
        raw_file = record(f"{number}.raw", status=Status.MONITORING_DONE)
        store.raw_files.register(raw_file, reason="discovered")
        change = lambda seen=raw_file: store.raw_files.transition(  # noqa: E731
            seen, Status.COPYING, now=NOW
        )
        found = at_once([change] * 3)
        assert sum(isinstance(item, StatusConflict) for item in found) == 2
        history = store.raw_files.get(raw_file.id).history
        assert [event["to"] for event in history] == ["monitoring_done", "copying"]
