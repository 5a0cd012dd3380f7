"""What kept a file from being moved or purged is forgotten once its cause is gone, by itself."""

import os
from collections.abc import Callable
from datetime import timedelta

import pytest

from kraken_dagster.acquisition.watch import look_at
from kraken_dagster.model.raw_file import InstrumentFileStatus, Status
from kraken_dagster.model.retention.refusal import Refusal
from kraken_dagster.operations import report as reports
from kraken_dagster.retention.archiving.compare import compare_changed
from kraken_dagster.retention.in_the_way import in_the_way
from kraken_dagster.runtime.services import Services
from kraken_dagster_tests.retention.retention_cases import (
    aside,
    content,
    disk_is_full,
    done,
    flip_a_bit,
    move_all,
    moved,
    notes,
    purge_all,
)
from kraken_dagster_tests.support.helpers import acquire, finish

ONE_GB = {"min_free_space_gb": 1.0}


def with_options(
    services: Services, make_services: Callable[..., Services], **options: object
) -> Services:
    instruments = {
        name: entry.model_copy(update=options)
        for name, entry in services.config.instruments.items()
    }
    return make_services(services.config.model_copy(update={"instruments": instruments}))


def in_status(services: Services) -> list[str]:
    """The lines of `kraken status` on files of the Thermo that can't be moved or purged."""
    (found,) = [it for it in reports.status(services)["instruments"] if it["id"] == "thermo1"]
    return [line for line in found["wrong"] if "can't be" in line]


def its_time_comes(services: Services, raw_file_id: str, field: str) -> None:
    refusal = getattr(services.store.raw_files.get(raw_file_id), field)
    services.now.forward(seconds=(refusal.retry_at - services.now()).total_seconds())


def link(services: Services) -> Callable[[], object]:
    path = services.instrument_folder("thermo1") / "x.raw"
    elsewhere = path.parent.parent / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)

    def mend() -> None:
        path.unlink()
        elsewhere.rename(path)

    return mend


def something_in_backup(services: Services) -> Callable[[], object]:
    aside(services, "thermo1").mkdir()
    path = aside(services, "thermo1") / "x.raw"
    path.write_bytes(b"something else")
    return path.unlink


def other_letters_in_backup(services: Services) -> Callable[[], object]:
    aside(services, "thermo1").mkdir()
    path = aside(services, "thermo1") / "X.RAW"
    path.write_bytes(b"something else")
    return path.unlink


def taken_away(services: Services) -> Callable[[], object]:
    path = services.instrument_folder("thermo1") / "x.raw"
    done(services, "thermo1", "other.raw")
    services.now.forward(minutes=10)
    elsewhere = path.parent.parent / "elsewhere"
    path.rename(elsewhere)
    return lambda: elsewhere.rename(path)


@pytest.mark.parametrize("damage", [link, something_in_backup, other_letters_in_backup, taken_away])
def test_a_file_is_moved_once_what_was_in_the_way_is_gone(services, damage):
    done(services, "thermo1", "x.raw")
    mend = damage(services)
    (outcome,) = [it for it in move_all(services, "thermo1") if it.raw_file.id == "x.raw"]
    assert outcome.is_refusal
    (line,) = in_status(services)
    assert "refused, looked at again at " in line
    mend()
    its_time_comes(services, "x.raw", "archive")
    (outcome,) = move_all(services, "thermo1")
    assert outcome.moved, outcome.reason
    assert in_status(services) == []
    assert services.store.retention.troubled("thermo1") == []


def test_what_stays_refused_is_looked_at_again_with_pauses_of_up_to_a_day(services):
    done(services, "thermo1", "x.raw")
    something_in_backup(services)
    pauses = []
    for _ in range(16):
        (outcome,) = move_all(services, "thermo1")
        assert not outcome.moved
        refusal = services.store.raw_files.get("x.raw").archive
        pauses.append(refusal.retry_at - refusal.at)
        its_time_comes(services, "x.raw", "archive")
    assert pauses[:3] == [timedelta(minutes=1), timedelta(minutes=2), timedelta(minutes=4)]
    assert pauses[-2:] == [timedelta(days=1)] * 2
    found = notes(services.store.raw_files.get("x.raw"))
    assert sum("is incomplete, or something else" in note for note in found) == 1


def test_a_name_that_another_acquisition_has_taken_needs_nobody(services):
    """Both stand in one pass: the later one is moved, and nobody is to compare it with anything."""
    first = done(services, "thermo1", "x.raw")
    path = services.instrument_folder("thermo1") / "x.raw"
    path.unlink()
    acquire(services, "thermo1", "x.raw", seed=9, size_bytes=30_000)
    (second,) = look_at(services, "thermo1").registered
    (outcome,) = move_all(services, "thermo1")
    assert (outcome.raw_file.id, outcome.moved, outcome.problem) == ("x.raw", False, None)
    assert f"is {second.id!r} now" in outcome.reason
    assert "ompare" not in outcome.reason
    after = services.store.raw_files.get("x.raw")
    assert after.instrument_file_status is InstrumentFileStatus.NOT_APPLICABLE
    assert (after.status, after.archive, after.file_info) == (first.status, None, first.file_info)
    assert services.backup_folder(after).joinpath("x.raw").exists()
    assert in_status(services) == []
    finish(services, "thermo1")
    assert services.store.raw_files.get(second.id).status is Status.MONITORING_DONE
    assert look_at(services, "thermo1").registered == ()


def test_a_name_is_found_to_be_taken_also_before_a_look_has_seen_the_other(services):
    done(services, "thermo1", "x.raw")
    path = services.instrument_folder("thermo1") / "x.raw"
    with path.open("ab") as file:
        file.write(b"!")
    size = path.stat().st_size
    (outcome,) = move_all(services, "thermo1")
    assert outcome.problem is None
    (other,) = services.store.raw_files.in_status("thermo1", {Status.QUEUED_FOR_MONITORING})
    assert (other.original_name, path.stat().st_size) == ("x.raw", size)
    assert look_at(services, "thermo1").registered == ()


def test_of_two_names_that_are_one_to_the_instrument_the_message_asks_for_no_comparison(services):
    done(services, "thermo1", "X.raw")
    done(services, "thermo1", "x.raw", seed=3)
    outcomes = {item.raw_file.id: item for item in move_all(services, "thermo1")}
    assert sorted(item.moved for item in outcomes.values()) == [False, True]
    (refused,) = [item.reason for item in outcomes.values() if not item.moved]
    assert "differs only in case" in refused
    assert "ompare" not in refused


def test_a_comparison_that_finds_the_same_bytes_ends_what_one_before_refused(
    services, make_services
):
    done(services, "thermo1", "x.raw")
    services = with_options(services, make_services, move_files=False)
    path = services.instrument_folder("thermo1") / "x.raw"
    mend = link(services)
    raw_file = services.store.raw_files.get("x.raw")
    services.store.retention.source_differs("x.raw", raw_file.source_look.mtime, now=services.now())
    (outcome,) = compare_changed(services, "thermo1", run_id="c")
    assert outcome.is_refusal
    assert len(in_status(services)) == 1  # though nothing is archived
    mend()
    os.utime(path, (1, 1))
    its_time_comes(services, "x.raw", "archive")
    (outcome,) = compare_changed(services, "thermo1", run_id="c")
    assert outcome.problem is None
    assert services.store.raw_files.get("x.raw").archive is None
    assert in_status(services) == []


@pytest.mark.parametrize("space_is_short", [True, False])
def test_a_purge_forgets_what_was_refused_once_it_is_mended(
    services, make_services, monkeypatch, space_is_short
):
    services = with_options(services, make_services, **ONE_GB)
    moved(services, "thermo1", "x.raw")
    path = aside(services, "thermo1") / "x.raw"
    flip_a_bit(path)
    with monkeypatch.context() as full:
        disk_is_full(full)
        purge_all(services, "thermo1")
    (line,) = in_status(services)
    assert "can't be purged, refused, looked at again at " in line
    flip_a_bit(path)
    its_time_comes(services, "x.raw", "purge")
    before = content(services.instrument_folder("thermo1"))
    if space_is_short:
        disk_is_full(monkeypatch)
    purge_all(services, "thermo1", min_free_space_gb=1e-9)
    assert services.store.raw_files.get("x.raw").purge is None
    assert in_status(services) == []
    if not space_is_short:  # only looked at
        assert content(services.instrument_folder("thermo1")) == before


def test_what_is_still_wrong_with_a_file_is_no_reason_to_delete_it(services, make_services):
    services = with_options(services, make_services, **ONE_GB)
    moved(services, "thermo1", "x.raw")
    flip_a_bit(aside(services, "thermo1") / "x.raw")
    raw_file = services.store.raw_files.get("x.raw")
    refusal = Refusal(problem="an earlier version said so", at=services.now())
    services.store.retention.note(raw_file, "purge", refusal, now=services.now(), run_id="r")
    before = content(services.instrument_folder("thermo1"))
    purge_all(services, "thermo1", min_free_space_gb=1e-9)
    assert content(services.instrument_folder("thermo1")) == before
    problem = services.store.raw_files.get("x.raw").purge.problem
    assert "is not what was backed up" in problem


@pytest.mark.parametrize("field", ["archive", "purge"])
def test_nobody_is_told_of_what_is_switched_off_or_not_due_any_more(services, make_services, field):
    on = with_options(services, make_services, **ONE_GB)
    done(on, "thermo1", "x.raw") if field == "archive" else moved(on, "thermo1", "x.raw")
    refusal = Refusal(problem="odd", at=on.now(), refused=True)
    raw_file = on.store.raw_files.get("x.raw")
    on.store.retention.note(raw_file, field, refusal, now=on.now(), run_id="r")
    assert len(in_status(on)) == len(in_the_way(on, "thermo1")) == 1
    assert in_status(with_options(on, make_services, move_files=False, remove_files=False)) == []
    off = {"file_move_delay_m": -1, "min_free_space_gb": -1}
    assert in_status(with_options(on, make_services, **off)) == []
    on.store.raw_files.update(
        raw_file, {"backup_status": "copying_failed"}, now=on.now(), note="a test"
    )
    assert in_status(on) == []
