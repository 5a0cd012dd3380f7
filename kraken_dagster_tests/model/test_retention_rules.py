"""What may be moved and deleted, as far as it can be told without a disk."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kraken_dagster.fs.dir_handles import Seen
from kraken_dagster.model.errors import NotRecorded, UnsafePath
from kraken_dagster.model.files.folder import Kind
from kraken_dagster.model.files.vendors import RULES, Vendor, deleteme_name, is_deleteme
from kraken_dagster.model.raw_file import FINAL, FileFact, InstrumentFileStatus, Status
from kraken_dagster.model.retention.refusal import Refusal
from kraken_dagster.model.retention.rules import (
    Goal,
    Weighed,
    require_record,
    select,
    why_not_move,
    why_not_purge,
)
from kraken_dagster_tests.support.helpers import NOW, lease, record

FACT = FileFact(size=3, md5="900150983cd24fb0d6963f7d28e17f72")
BACKED_UP = {
    "backup_status": "copying_done",
    "backed_up_at": NOW - timedelta(minutes=10),
    "file_info": {"x.raw": FACT},
    "status": Status.DONE,
}
MOVED = {
    **BACKED_UP,
    "instrument_file_status": InstrumentFileStatus.MOVED,
    "created_at": NOW - timedelta(days=15),
    "created_at_": NOW - timedelta(days=15),
}


def move(delay_m: float = 5, *, failed_too: bool = False, **changes):
    raw_file = record(**{**BACKED_UP, **changes})
    return why_not_move(raw_file, now=NOW, delay_m=delay_m, failed_too=failed_too)


def purge(min_age_days: float = 14, **changes):
    return why_not_purge(record(**{**MOVED, **changes}), now=NOW, min_age_days=min_age_days)


def test_a_backed_up_file_is_moved_whatever_is_done_with_it_meanwhile():
    for status in FINAL | {Status.QUANTING, Status.QUEUED_FOR_QUANTING, Status.COPYING_DONE}:
        assert move(status=status) is None


@pytest.mark.parametrize("status", sorted(set(InstrumentFileStatus) - {"initial"}))
def test_only_what_stands_where_the_instrument_left_it_is_moved(status):
    assert str(status) in move(instrument_file_status=status)


@pytest.mark.parametrize("status", [Status.ACQUISITION_FAILED, Status.IGNORED])
def test_without_a_record_and_a_size_nothing_tells_it_from_another(status):
    failed = {"status": status, "backup_status": None, "file_info": {}}
    failed["created_at_"] = NOW - timedelta(minutes=10)
    for unknown in ({}, {"ended_size": None}):
        assert "nor the size" in move(failed_too=True, acquisition=unknown, **failed)
    assert move(failed_too=True, acquisition={"ended_size": 0}, **failed) is None
    assert move(acquisition={}, status=status) is None


@pytest.mark.parametrize("status", ["copying_in_progress", "copying_failed", "skipped"])
def test_without_a_backup_nothing_is_moved_and_nothing_purged(status):
    assert "no verified backup" in move(backup_status=status)
    assert "no backup of it" in purge(backup_status=status)
    assert "no verified backup" in move(file_info={})
    assert "no backup of it" in purge(file_info={})


def test_alphakrakens_older_documents_have_a_backup_if_they_went_on_after_it():
    assert move(backup_status=None) is None
    assert "no verified backup" in move(backup_status=None, status=Status.ERROR)
    assert "no verified backup" in move(backup_status=None, file_info={})


@pytest.mark.parametrize("status", [Status.ACQUISITION_FAILED, Status.IGNORED])
def test_what_failed_is_moved_if_asked_for_and_never_purged(status):
    failed = {"status": status, "backup_status": None, "file_info": {}}
    failed["created_at_"] = NOW - timedelta(minutes=10)
    assert "move_failed is off" in move(**failed)
    assert move(failed_too=True, acquisition={"ended_size": 7}, **failed) is None
    ended = {"ended_size": 7, "ended_at": NOW - timedelta(minutes=4)}
    assert "not due before" in move(failed_too=True, acquisition=ended, **failed)
    assert "no backup of it" in purge(**{**failed, "created_at_": MOVED["created_at_"]})


@pytest.mark.parametrize("status", sorted(set(Status) - FINAL))
def test_what_is_not_over_is_not_purged(status):
    assert "still worked on" in purge(status=status)


def test_there_is_no_age_at_which_a_file_is_too_old():
    def aged(days: float) -> str | None:
        return purge(created_at_=NOW - timedelta(days=days))

    assert aged(20_000) is None
    assert aged(14) is None
    assert "younger than 14 days" in aged(13.9)


def test_a_file_is_as_old_as_it_is_known_whatever_its_own_date_says():
    for year in (1601, 1970, 2003, 2099):
        date = NOW.replace(year=year)
        assert "younger" in purge(created_at=date, created_at_=NOW - timedelta(days=13))
        assert purge(created_at=date) is None


def test_limits_of_any_size_are_understood():
    assert "younger than 1e+30 days" in purge(1e30)
    assert "not due before" in move(1e30)


@pytest.mark.parametrize(("rule", "field"), [(move, "archive"), (purge, "purge")])
def test_trouble_and_leases_keep_a_file_where_it_is(rule, field):
    assert "run-1 works on it" in rule(lease=lease())
    assert rule(lease=lease(until=NOW)) is None
    later = NOW + timedelta(minutes=1)
    refusal = Refusal(problem="odd", at=NOW, retry_at=later)
    assert "tried again at" in rule(**{field: refusal})
    refused = refusal.model_copy(update={"refused": True})
    assert "refused, looked at again at" in rule(**{field: refused})
    for time in (NOW, None):  # of what was refused earlier versions recorded no time
        assert rule(**{field: refused.model_copy(update={"retry_at": time})}) is None


@given(
    free=st.integers(0, 50),
    wanted=st.integers(-5, 50),
    sizes=st.lists(st.one_of(st.integers(0, 9), st.just("check failed")), max_size=12),
)
def test_a_selection_is_the_shortest_beginning_that_is_enough(free, wanted, sizes):
    candidates = [
        Weighed(str(number), problem=size)
        if isinstance(size, str)
        else Weighed(str(number), size=size)
        for number, size in enumerate(sizes)
    ]
    chosen = [item.size for item in select(Goal(free=free, wanted=wanted), candidates)]
    possible = [size for size in sizes if isinstance(size, int) and size > 0]
    assert chosen == possible[: len(chosen)]
    if len(chosen) < len(possible):
        assert free + sum(chosen) >= wanted
    if chosen:
        assert free + sum(chosen[:-1]) < wanted


def test_a_goal_is_reached_by_what_was_deleted_or_by_what_is_measured():
    goal = Goal(free=10, wanted=20)
    assert goal.missing == 10
    assert goal.after(10, measured=10).missing == 0  # the disk takes its time
    assert goal.after(0, measured=20).missing == 0  # somebody else made room
    assert goal.after(4, measured=12).missing == 6
    assert goal.after(4, measured=12).after(6, measured=3).missing == 0  # others fill it meanwhile


@pytest.mark.parametrize(
    ("recorded", "error"),
    [
        ({}, NotRecorded),
        ({"y.raw": FACT}, NotRecorded),
        ({"x.raw": FACT, "y.raw": FACT}, NotRecorded),
        ({"x.raw": FileFact(size=None, md5="a")}, NotRecorded),
        ({"x.raw": FileFact(size=1, md5=None)}, NotRecorded),
        ({"x.raw": FACT, "../x.raw": FACT}, UnsafePath),
        ({"/x.raw": FACT}, UnsafePath),
    ],
)
def test_a_record_that_proves_nothing_is_refused(recorded, error):
    with pytest.raises(error):
        require_record(Vendor.THERMO, "x.raw", recorded)


def test_a_record_of_all_members_is_accepted():
    require_record(Vendor.THERMO, "x.raw", {"x.raw": FACT})
    require_record(Vendor.BRUKER, "x.d", {"x.d/analysis.tdf": FACT, "x.d/m/a": FACT})
    require_record(Vendor.SCIEX, "x.wiff", {"x.wiff": FACT, "x.wiff.scan": FACT})


def test_names_of_what_waits_to_be_deleted_are_known_again():
    for number in (1, 2, 30):
        assert is_deleteme(deleteme_name("x.wiff", number))
        assert is_deleteme(deleteme_name("ä" * 130, number))
        assert RULES[Vendor.SCIEX].owner_stem(deleteme_name("x.wiff", number), {"x"}) is None
    for name in ("x.wiff", "deleteme.wiff", "x.deleteme.raw", "x.deletemenot"):
        assert not is_deleteme(name)


def test_one_file_is_known_as_such_also_by_way_of_another_mount():
    seen = Seen(Kind.FILE, device=1, inode=7, size=3, mtime_ns=5, ctime_ns=6, links=1, mode=0o644)
    assert seen.is_one_file_with(seen)
    assert seen.is_one_file_with(replace(seen, ctime_ns=9))
    assert seen.is_one_file_with(replace(seen, device=2))
    assert seen.is_one_file_with(replace(seen, device=2, inode=8))
    assert not seen.is_one_file_with(replace(seen, device=2, ctime_ns=9))
    assert not seen.is_one_file_with(replace(seen, inode=8, ctime_ns=9))


@pytest.mark.parametrize("change", ["device", "inode", "size", "mtime_ns", "ctime_ns"])
def test_what_changed_since_it_was_read_is_another_file(change):
    seen = Seen(Kind.FILE, device=1, inode=7, size=3, mtime_ns=5, ctime_ns=6, links=1, mode=0o644)
    assert seen.is_unchanged(replace(seen))
    assert not seen.is_unchanged(replace(seen, **{change: 99}))
    assert not seen.is_unchanged(None)
