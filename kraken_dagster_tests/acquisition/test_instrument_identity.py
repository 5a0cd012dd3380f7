"""What leaves the configuration stays visible, and nothing is registered a second time."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kraken_dagster.acquisition.watch import look_at
from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.backup.restore import restore
from kraken_dagster.backup.verify import Verdict, verify_backup
from kraken_dagster.catchup.catchup import CatchupOptions
from kraken_dagster.catchup.register import register_all
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.fs.rate_limit import RateLimit
from kraken_dagster.model.errors import InstrumentInDoubt, RenameRefused
from kraken_dagster.model.jobs.report import JobState
from kraken_dagster.model.raw_file import InstrumentFileStatus, Status
from kraken_dagster.operations.doctor.checks import examine
from kraken_dagster.operations.instruments.rename import plan_rename, rename
from kraken_dagster.operations.instruments.retire import accept, plan_retirement, retire
from kraken_dagster.operations.presence import Presence
from kraken_dagster.operations.report import status
from kraken_dagster.retention.archiving.archive import ArchiveOptions, archive
from kraken_dagster.runtime.services import Services
from kraken_dagster_tests.retention.killable import run as run_killable
from kraken_dagster_tests.support.helpers import (
    acquire,
    backed_up,
    finish,
    job,
    lease,
    md5sum,
    record,
)

Make = Callable[[KrakenConfig], Services]


def changed(services: Services, **instruments: dict[str, Any] | None) -> Services:
    """The same laboratory after a change of instruments.yaml; None takes an instrument out."""
    values = services.config.model_dump(mode="json", exclude_unset=True)
    for name, entry in instruments.items():
        if entry is None:
            del values["instruments"][name]
        else:
            values["instruments"][name] = entry
    return replace(services, config=KrakenConfig.model_validate(values))


def renamed(services: Services, old: str = "thermo1", new: str = "astral1") -> Services:
    """Under another id in instruments.yaml, with the same folder."""
    entry = {"type": services.instrument(old).type, "path": str(services.instrument_folder(old))}
    return changed(services, **{old: None, new: entry})


def done(services: Services, name: str, instrument_id: str = "thermo1") -> None:
    """A file that was backed up and has ended."""
    item = backed_up(services, instrument_id, name)
    services.store.raw_files.transition(item, Status.DONE_NOT_QUANTED, now=services.now())


def of(services: Services, instrument_id: str) -> set[str]:
    return set(services.store.bulk.ids(instrument_id))


def write(folder: Path, name: str, *, size: int = 900, mtime: float = 1772360000.0) -> None:
    (folder / name).write_bytes(b"x" * size)
    os.utime(folder / name, (mtime, mtime))


def test_a_renamed_instrument_registers_nothing_again_until_a_person_decides(
    services: Services,
) -> None:
    for name in ("a.raw", "b.raw", "c.raw"):
        acquire(services, "thermo1", name)
    finish(services, "thermo1")
    back_up(services, "a.raw", run_id="b", options=BackupOptions())
    acquire(services, "thermo1", "d.raw")
    after = renamed(services)
    for step in (
        lambda: look_at(after, "astral1"),
        lambda: register_all(after, "astral1", CatchupOptions()),
    ):
        with pytest.raises(InstrumentInDoubt, match="`kraken instrument rename thermo1 astral1`"):
            step()
    assert of(after, "astral1") == set()
    reported = status(after)
    (wrong,) = [line for line in reported["wrong"] if line.startswith("astral1: ")]
    assert "`kraken instrument rename thermo1 astral1`" in wrong
    assert "`kraken instrument retire thermo1`" in wrong
    (left,) = reported["left"]
    assert (left["id"], left["files"], left["unfinished"], left["backups"]) == ("thermo1", 3, 3, 1)
    assert [line for line in reported["wrong"] if "thermo1 is not in instruments.yaml" in line]
    found = {item.what: item for item in examine(after.config, lambda: after)}
    assert "rename thermo1 astral1" in found["astral1"].found
    assert "3 files, 3 of them in work" in found["instruments"].found

    rename(after, "thermo1", "astral1", by="anna")
    scan = look_at(after, "astral1")
    assert [item.id for item in scan.registered] == ["d.raw"]
    assert of(after, "astral1") == {"a.raw", "b.raw", "c.raw", "d.raw"}
    assert status(after)["left"] == []


def test_one_file_is_enough_also_before_its_kraken_says_that_it_serves_the_new_id(
    services: Services,
) -> None:
    """`kraken up` says every 10 s what it serves: its watcher may have looked before."""
    acquire(services, "thermo1", "a.raw")
    look_at(services, "thermo1")
    Presence.of(services.store, services.config, now=services.now()).begin()
    after = renamed(services)
    with pytest.raises(InstrumentInDoubt, match="`kraken instrument rename thermo1 astral1`"):
        look_at(after, "astral1")
    assert of(after, "astral1") == set()


def test_what_was_backed_up_before_stays_and_can_be_proven_moved_and_restored(
    services: Services, tmp_path: Path
) -> None:
    done(services, "a.raw")
    acquire(services, "thermo1", "b.raw")
    finish(services, "thermo1")
    after = renamed(services)
    rename(after, "thermo1", "astral1", by="anna")
    (place,) = (tmp_path / "backup" / "thermo1").rglob("a.raw")
    assert (
        verify_backup(after, "a.raw", run_id="v", rate_limit=RateLimit()).verdict
        is Verdict.VERIFIED
    )
    (tmp_path / "out").mkdir()
    restore(after, "a.raw", tmp_path / "out")
    assert md5sum(tmp_path / "out" / "a.raw") == md5sum(place)
    finish(after, "astral1")
    archive(after, "astral1", run_id="m", options=ArchiveOptions(file_move_delay_m=0))
    assert after.store.raw_files.get("a.raw").instrument_file_status is InstrumentFileStatus.MOVED
    # What was recorded before goes beside the others; what is new under the new id.
    back_up(after, "b.raw", run_id="b", options=BackupOptions())
    assert (place.parent / "b.raw").exists()
    done(after, "c.raw", "astral1")
    assert [item.name for item in (tmp_path / "backup" / "astral1").rglob("*.raw")] == ["c.raw"]

    rename(services, "astral1", "thermo1", by="anna")
    found = services.store.raw_files.get("a.raw")
    assert (found.instrument_id, found.filed_as) == ("thermo1", None)
    assert services.store.raw_files.get("c.raw").filed_as == "astral1"
    assert (
        verify_backup(services, "c.raw", run_id="v", rate_limit=RateLimit()).verdict
        is Verdict.VERIFIED
    )
    assert look_at(services, "thermo1").registered == ()


def test_an_older_record_without_its_backups_place_is_still_found(services: Services) -> None:
    """As AlphaKraken left it: members below the instrument's folder, and no path."""
    done(services, "a.raw")
    documents = services.store.raw_files._collection
    facts = documents.find_one({"_id": "a.raw"})["file_info"]["a.raw"]
    month = services.store.raw_files.get("a.raw").year_month
    documents.update_one(
        {"_id": "a.raw"},
        {"$set": {"file_info": {f"thermo1/{month}/a.raw": facts}, "backup_base_path": None}},
    )
    assert (
        verify_backup(services, "a.raw", run_id="v", rate_limit=RateLimit()).verdict
        is Verdict.VERIFIED
    )
    after = renamed(services)
    rename(after, "thermo1", "astral1", by="anna")
    assert (
        verify_backup(after, "a.raw", run_id="v", rate_limit=RateLimit()).verdict
        is Verdict.VERIFIED
    )


def test_jobs_go_along_and_their_results_are_collected(services: Services) -> None:
    services.store.jobs.intend(job(state=JobState.RUNNING))
    assert services.store.raw_files.register(record(status=Status.QUANTING), reason="test")
    after = renamed(services)
    assert status(after)["left"][0]["open_jobs"] == 1
    plan = rename(after, "thermo1", "astral1", by="anna")
    assert plan.open_jobs == 1
    assert [item.instrument_id for item in after.store.jobs.of("x.raw")] == ["astral1"]


def test_one_that_is_killed_at_any_write_is_ended_by_the_same_command(services: Services) -> None:
    """And meanwhile the new id registers nothing; what it was doesn't matter to the end."""
    names = ("a.raw", "b.raw")
    for name in names:
        acquire(services, "thermo1", name)
    look_at(services, "thermo1")
    for name in names:
        assert services.store.jobs.intend(job(f"of {name}", raw_file=name, state=JobState.RUNNING))
    after, killed = renamed(services), 0
    for die_at in range(1, 50):
        if run_killable(after, "rename", "thermo1", die_at=die_at) == 0:
            break
        killed += 1
        identity = services.store.instruments.get("astral1")
        assert of(after, "astral1") | of(after, "thermo1") == set(names)
        if identity is not None and of(after, "thermo1"):
            with pytest.raises(InstrumentInDoubt, match="rename thermo1 astral1"):
                look_at(after, "astral1")
        rename(after, "thermo1", "astral1", by="anna")
        assert of(after, "astral1") == set(names)
        assert look_at(after, "astral1").registered == ()
        assert {item.instrument_id for name in names for item in services.store.jobs.of(name)} == {
            "astral1"
        }
        rename(services, "astral1", "thermo1", by="anna")
        assert {services.store.raw_files.get(name).filed_as for name in names} == {None}
    assert killed >= 12  # each of its writes, before and after it


@pytest.mark.parametrize("who", ["a lease", "an errand", "a living process", "still configured"])
def test_it_is_refused_while_something_is_at_work_and_nothing_changes(
    services: Services, who: str
) -> None:
    from kraken_dagster_tests.operations.test_presence import _other

    assert services.store.raw_files.register(record(), reason="test")
    after, now = renamed(services), services.now()
    mine = lease("run-7", until=now.replace(year=now.year + 1))
    if who == "a lease":
        services.store.raw_files.take_lease("x.raw", mine, now=now)
    elif who == "an errand":
        services.store.exclusive_runs.take("archive thermo1", mine, now=now)
    elif who == "a living process":
        services.store.instances.seen(_other(services))
    else:
        after = services
    expected = {
        "a living process": "process 4711 on pc9",
        "still configured": "change its id there first",
    }
    with pytest.raises(RenameRefused, match=expected.get(who, "by run run-7")):
        rename(after, "thermo1", "astral1", by="anna")
    assert services.store.instruments.get("astral1") is None
    assert services.store.raw_files.get("x.raw").instrument_id == "thermo1"


def test_two_swapped_names_are_put_right_by_way_of_a_third(services: Services) -> None:
    both = changed(services, thermo2={"type": "thermo"})
    (services.config.locations.instruments.path / "thermo2").mkdir()
    for instrument_id, name in (("thermo1", "a.raw"), ("thermo2", "b.raw")):
        acquire(both, instrument_id, name)
        look_at(both, instrument_id)
    paths = {name: str(both.instrument_folder(name)) for name in ("thermo1", "thermo2")}
    swapped = changed(
        both,
        thermo1={"type": "thermo", "path": paths["thermo2"]},
        thermo2={"type": "thermo", "path": paths["thermo1"]},
    )

    def both_wait() -> None:
        for name in paths:
            with pytest.raises(InstrumentInDoubt):
                look_at(swapped, name)

    both_wait()
    with pytest.raises(InstrumentInDoubt, match="rename thermo2 thermo2_before`, then thermo1 to"):
        look_at(swapped, "thermo1")
    rename(swapped, "thermo2", "thermo2_before", by="anna")
    both_wait()
    rename(swapped, "thermo1", "thermo2", by="anna")
    with pytest.raises(InstrumentInDoubt):
        look_at(swapped, "thermo1")
    rename(swapped, "thermo2_before", "thermo1", by="anna")
    assert look_at(swapped, "thermo1").registered == look_at(swapped, "thermo2").registered == ()
    assert of(swapped, "thermo1") == {"b.raw"}
    assert of(swapped, "thermo2") == {"a.raw"}


def test_names_that_coincide_stop_nothing(services: Services) -> None:
    """Generic names come on every instrument; those that were copied even with size and time."""
    both = changed(services, thermo2={"type": "thermo"})
    other = services.config.locations.instruments.path / "thermo2"
    other.mkdir()
    first = services.instrument_folder("thermo1")
    for name in ("blank.raw", "qc.raw", "hela.raw", "own.raw"):
        write(first, name)
    look_at(both, "thermo1")
    write(other, "blank.raw")  # the very same
    assert [item.original_name for item in look_at(both, "thermo2").registered] == ["blank.raw"]
    write(other, "qc.raw", size=901)
    write(other, "hela.raw", mtime=1772360000.0 - 90_000)
    for number in range(3):
        write(other, f"sample_{number}.raw", size=10 + number)
    assert len(look_at(both, "thermo2").registered) == 5


def test_a_new_computer_with_an_empty_disk_is_fine(services: Services) -> None:
    for number in range(4):
        backed_up(services, "thermo1", f"{number}.raw", seed=number)
    folder = services.instrument_folder("thermo1")
    for path in folder.iterdir():
        path.unlink()
    for number in range(4, 6):
        write(folder, f"{number}.raw", size=number)
        look_at(services, "thermo1")
    assert {"4.raw", "5.raw"} <= of(services, "thermo1")


def test_a_changed_path_is_taken_up_where_the_files_stand_there(
    services: Services, tmp_path: Path
) -> None:
    acquire(services, "thermo1", "a.raw")
    look_at(services, "thermo1")
    elsewhere = tmp_path / "elsewhere"
    moved = changed(services, thermo1={"type": "thermo", "path": str(elsewhere)})
    elsewhere.mkdir()
    with pytest.raises(InstrumentInDoubt, match="`kraken instrument accept thermo1`"):
        look_at(moved, "thermo1")
    write(elsewhere, "another.raw")
    with pytest.raises(InstrumentInDoubt, match=f"{services.instrument_folder('thermo1')}"):
        look_at(moved, "thermo1")
    (elsewhere / "another.raw").unlink()
    (services.instrument_folder("thermo1") / "a.raw").rename(elsewhere / "a.raw")
    assert look_at(moved, "thermo1").standing == 1
    assert services.store.instruments.get("thermo1").path == str(elsewhere)


def test_a_changed_path_that_is_accepted_is_taken_up_whatever_stands_there(
    services: Services, tmp_path: Path
) -> None:
    acquire(services, "thermo1", "a.raw")
    look_at(services, "thermo1")
    moved = changed(services, thermo1={"type": "thermo", "path": str(tmp_path / "elsewhere")})
    (tmp_path / "elsewhere").mkdir()
    write(tmp_path / "elsewhere", "another.raw")
    assert "accepted by anna" in accept(moved, "thermo1", by="anna")[0]
    assert [item.id for item in look_at(moved, "thermo1").registered] == ["another.raw"]


def test_a_changed_type_waits_and_says_what_it_means(services: Services) -> None:
    acquire(services, "thermo1", "a.raw")
    look_at(services, "thermo1")
    other = changed(services, thermo1={"type": "bruker"})
    for step in (
        lambda: look_at(other, "thermo1"),
        lambda: archive(other, "thermo1", run_id="m"),
        lambda: register_all(other, "thermo1", CatchupOptions()),
    ):
        with pytest.raises(InstrumentInDoubt, match=r"`type` was changed.*Expected thermo, as its"):
            step()
    assert "accept thermo1" in status(other)["instruments"][0]["details"]
    look_at(services, "thermo1")  # set back
    accept(other, "thermo1", by="anna")
    assert look_at(other, "thermo1").standing == 0


def test_what_is_retired_is_closed_and_explained_and_nothing_is_deleted(
    services: Services, tmp_path: Path
) -> None:
    backed_up(services, "thermo1", "a.raw")
    acquire(services, "thermo1", "b.raw")
    look_at(services, "thermo1")
    with pytest.raises(RenameRefused, match=r"take it out of instruments\.yaml first"):
        retire(services, "thermo1", by="anna")
    after = renamed(services)
    plan = plan_retirement(after, "thermo1")
    assert (plan.not_backed_up, plan.not_processed) == (("b.raw",), ("a.raw",))
    retire(after, "thermo1", by="anna")
    retire(after, "thermo1", by="anna")
    closed = after.store.raw_files.get("b.raw")
    assert closed.status is Status.ERROR
    assert "retired by anna before this file had a backup" in str(closed.status_details)
    assert after.store.raw_files.get("a.raw").status is Status.DONE_NOT_QUANTED
    assert list((tmp_path / "backup" / "thermo1").rglob("a.raw"))
    assert status(after)["left"][0]["state"].startswith("retired")
    assert not [line for line in status(after)["wrong"] if "thermo1" in line]
    # The folder's new owner takes over what has no backup, and backs nothing up twice.
    scan = look_at(after, "astral1")
    assert [item.original_name for item in scan.registered] == ["b.raw"]
    assert "backed up as a file of thermo1, which was retired" in scan.newly_left_alone[0].reason
    # Put back it waits for a word.
    with pytest.raises(InstrumentInDoubt, match="`kraken instrument accept thermo1`"):
        look_at(services, "thermo1")
    accept(services, "thermo1", by="anna")
    look_at(services, "thermo1")


def test_two_instruments_become_one_only_where_that_is_said(services: Services) -> None:
    for name, instrument_id in (("a.raw", "thermo1"), ("b.raw", "astral1")):
        item = record(name, instrument_id=instrument_id)
        assert services.store.raw_files.register(item, reason="test")
    after = renamed(services)
    with pytest.raises(RenameRefused, match="--merge"):
        rename(after, "thermo1", "astral1", by="anna")
    assert "1 files of its own" in " ".join(
        plan_rename(after, "thermo1", "astral1", merge=True).in_words()
    )
    rename(after, "thermo1", "astral1", by="anna", merge=True)
    assert of(after, "astral1") == {"a.raw", "b.raw"}


def test_instruments_of_other_hosts_are_not_left_behind(services: Services) -> None:
    for name, instrument_id in (("a.raw", "thermo1"), ("b.raw", "bruker1"), ("c.raw", "gone")):
        item = record(name, instrument_id=instrument_id)
        assert services.store.raw_files.register(item, reason="test")
    here = replace(services, config=services.config.only({"thermo1"}))
    assert [item["id"] for item in status(here)["left"]] == ["gone"]
