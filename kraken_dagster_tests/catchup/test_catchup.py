"""Catching up: what is registered, what is due, and what is associated and not computed."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kraken_dagster.acquisition.watch import look_at
from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.catchup.catchup import CatchupOptions, decide_on, due
from kraken_dagster.catchup.register import register_all
from kraken_dagster.config.instruments import OutputExistsMode
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.engines.job_script import EXIT_CODE_FILE
from kraken_dagster.model.errors import FolderMissing, OutputExists, StoreAway
from kraken_dagster.model.jobs.report import JobState
from kraken_dagster.model.raw_file import FALLBACK_PROJECT, InstrumentFileStatus, Status
from kraken_dagster.model.settings import Settings
from kraken_dagster.quant.collect import collect
from kraken_dagster.quant.output_folder import planned_folder
from kraken_dagster.quant.submit import submit_jobs
from kraken_dagster.runtime.services import Services
from kraken_dagster.simulation import search_program
from kraken_dagster_tests.support.helpers import each, lease, record

OPTIONS = CatchupOptions()
SEARCH = Settings(name="search", software_type="custom", software="search", metrics_type="alphadia")


def _write(services: Services, name: str, *, hours_ago: float = 10, below: str = "") -> Path:
    """A file of `thermo1`, as old as that by its own time."""
    path = services.instrument_folder("thermo1") / below / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(f"bytes of {name}".encode())
    at = (services.now() - timedelta(hours=hours_ago)).timestamp()
    os.utime(path, (at, at))
    return path


def _statuses(services: Services) -> dict[str, str]:
    found = services.store.raw_files.in_status("thermo1", set(Status))
    return {item.id: item.status.value for item in found}


def _due(services: Services, **options: Any) -> tuple[list[list[str]], list[str]]:
    waves, to_decide = due(services, "thermo1", CatchupOptions(**options), now=services.now())
    return [[item.id for item in wave.files] for wave in waves], [item.id for item in to_decide]


def _assign(services: Services) -> None:
    assert services.config.locations.software is not None
    services.config.locations.software.path.mkdir(exist_ok=True)
    (services.config.locations.software.path / "search").write_text("#!/bin/sh\n")
    services.store.catalog.add_settings(SEARCH, now=services.now())
    services.store.catalog.assign(FALLBACK_PROJECT, SEARCH, scope="thermo", now=services.now())


def _result(services: Services, name: str) -> Path:
    """A complete result of a job that nobody knows any more."""
    raw_file = services.store.raw_files.get(name)
    folder = services.config.locations.output.path / planned_folder(raw_file, SEARCH)
    folder.mkdir(parents=True)
    search_program.main([str(services.instrument_folder("thermo1") / name), str(folder)])
    return folder


def _backed_up(services: Services, name: str, **options: Any) -> None:
    back_up(services, name, run_id="b", options=BackupOptions(), by_hand=False, **options)


def _submit(services: Services, name: str) -> Any:
    mode = OutputExistsMode.ASSOCIATE
    return submit_jobs(services, name, run_id="q", slots=each(0), output_exists_mode=mode)


def test_old_files_are_registered_as_over_and_the_youngest_is_watched(services: Services) -> None:
    for name in ("a.raw", "b.raw"):
        _write(services, name)
    _write(services, "young.raw", hours_ago=0)
    found = register_all(services, "thermo1", OPTIONS)
    assert (found.in_folder, len(found.registered), found.still_open) == (3, 3, 1)
    assert _statuses(services) == {
        "a.raw": "monitoring_done",
        "b.raw": "monitoring_done",
        "young.raw": "queued_for_monitoring",
    }
    assert services.store.raw_files.get("a.raw").acquisition["ended_size"] == len("bytes of a.raw")


def test_without_the_option_old_files_are_watched_like_any_other(services: Services) -> None:
    _write(services, "a.raw")
    _write(services, "young.raw", hours_ago=0)
    register_all(services, "thermo1", CatchupOptions(consider_old_files_acquired=False))
    assert set(_statuses(services).values()) == {"queued_for_monitoring"}


def test_files_that_a_watcher_watches_already_are_over_too(services: Services) -> None:
    _write(services, "a.raw")
    _write(services, "young.raw", hours_ago=0)
    look_at(services, "thermo1")
    services.now.forward(seconds=1)  # type: ignore[attr-defined]
    assert register_all(services, "thermo1", OPTIONS).registered == ()
    assert _statuses(services)["a.raw"] == "monitoring_done"


def test_too_old_files_are_ignored_and_not_due(services: Services) -> None:
    _write(services, "old.raw", hours_ago=100)
    _write(services, "a.raw")
    _write(services, "young.raw", hours_ago=0)
    register_all(services, "thermo1", CatchupOptions(debug_max_file_age_in_hours=50))
    assert _statuses(services)["old.raw"] == "ignored"
    assert _due(services) == ([["a.raw"]], [])


def test_what_was_moved_aside_is_known_under_its_id_and_backed_up_from_there(
    services: Services,
) -> None:
    flagged = "20260101-120000-000001-x.raw"
    _write(services, "moved.raw", below="Backup")
    _write(services, flagged, below="Backup")
    found = register_all(services, "thermo1", OPTIONS)
    assert found.in_backup_folder == 2
    item = services.store.raw_files.get(flagged)
    assert (item.original_name, item.collision_flag) == ("x.raw", "20260101-120000-000001-")
    for name in ("moved.raw", flagged):
        file = services.store.raw_files.get(name)
        assert file.instrument_file_status is InstrumentFileStatus.MOVED
        _backed_up(services, name)
        copy = services.backup_folder(file) / name
        assert copy.read_bytes() == f"bytes of {name}".encode()


def test_a_file_of_the_name_of_one_that_was_moved_aside_is_another_one(services: Services) -> None:
    _write(services, "x.raw", below="Backup")
    _write(services, "x.raw").write_bytes(b"the later one, and longer")
    register_all(services, "thermo1", OPTIONS)
    first = services.store.raw_files.get("x.raw")
    assert first.instrument_file_status is InstrumentFileStatus.MOVED
    [other] = [name for name in _statuses(services) if name != "x.raw"]
    assert services.store.raw_files.get(other).original_name == "x.raw"


def test_a_moved_file_whose_id_is_taken_is_told_and_left_alone(services: Services) -> None:
    services.store.raw_files.register(record("x.raw", instrument_id="bruker1"), reason="x")
    services.store.raw_files.register(record("y.raw"), reason="x")
    for name in ("x.raw", "y.raw"):
        _write(services, name, below="Backup")
    found = register_all(services, "thermo1", OPTIONS)
    assert found.registered == ()
    assert ["'x.raw'" in found.problems[0], "'y.raw'" in found.problems[1]] == [True, True]
    assert services.store.raw_files.get("x.raw").instrument_id == "bruker1"


def test_catching_up_twice_registers_nothing_anew(services: Services) -> None:
    for number in range(30):
        _write(services, f"f{number}.raw")
    _write(services, "moved.raw", below="Backup")
    assert len(register_all(services, "thermo1", OPTIONS).registered) == 31
    assert register_all(services, "thermo1", OPTIONS).registered == ()


def test_a_folder_that_is_gone_is_told(services: Services) -> None:
    services.instrument_folder("thermo1").rmdir()
    with pytest.raises(FolderMissing):
        register_all(services, "thermo1", OPTIONS)


def test_the_order_and_the_limit_are_as_asked_for(services: Services) -> None:
    for number in range(5):
        _write(services, f"f{number}.raw", hours_ago=20 - number)
    _write(services, "young.raw", hours_ago=0)
    register_all(services, "thermo1", OPTIONS)
    assert _due(services, limit=2) == ([["f0.raw", "f1.raw"]], [])
    assert _due(services, limit=2, newest_first=True) == ([["f4.raw", "f3.raw"]], [])


def test_what_somebody_holds_or_is_on_its_way_is_not_due(services: Services) -> None:
    for name in ("a.raw", "b.raw", "c.raw"):
        _write(services, name)
    _write(services, "young.raw", hours_ago=0)
    register_all(services, "thermo1", OPTIONS)
    until = services.now() + timedelta(minutes=1)
    services.store.raw_files.take_lease("a.raw", lease(until=until), now=services.now())
    [wave], _ = due(services, "thermo1", OPTIONS, now=services.now(), live={"b.raw"})
    assert [item.id for item in wave.files] == ["c.raw"]


def test_a_backup_that_is_there_and_identical_is_proven_and_not_copied(services: Services) -> None:
    _write(services, "a.raw")
    _write(services, "young.raw", hours_ago=0)
    register_all(services, "thermo1", OPTIONS)
    file = services.store.raw_files.get("a.raw")
    folder = services.backup_folder(file)
    folder.mkdir(parents=True)
    (folder / "a.raw").write_bytes(b"bytes of a.raw")
    before = (folder / "a.raw").stat()
    outcome = back_up(services, "a.raw", run_id="b", options=BackupOptions(), by_hand=False)
    assert (outcome.copied_bytes, outcome.proven) == (0, 1)
    assert (folder / "a.raw").stat().st_ino == before.st_ino


def test_a_file_with_nothing_to_run_ends_with_its_backup(services: Services) -> None:
    _write(services, "a.raw")
    _write(services, "young.raw", hours_ago=0)
    register_all(services, "thermo1", OPTIONS)
    _backed_up(services, "a.raw", decides=True)
    assert _statuses(services)["a.raw"] == "done_not_quanted"


def test_files_that_are_backed_up_are_decided_on(services: Services) -> None:
    _assign(services)
    _write(services, "a.raw")
    _write(services, "young.raw", hours_ago=0)
    register_all(services, "thermo1", OPTIONS)
    _backed_up(services, "a.raw")
    assert _due(services) == ([], ["a.raw"])
    assert decide_on(services, "a.raw", run_id="c") is None
    assert _statuses(services)["a.raw"] == "queued_for_quanting"


def test_a_result_that_is_there_is_associated_and_not_computed(services: Services) -> None:
    _assign(services)
    _write(services, "a.raw")
    _write(services, "b.raw")
    _write(services, "young.raw", hours_ago=0)
    register_all(services, "thermo1", OPTIONS)
    _result(services, "a.raw")
    waves, _ = due(services, "thermo1", OPTIONS, now=services.now())
    assert {(wave.backup, wave.result): [item.id for item in wave.files] for wave in waves} == {
        (True, True): ["a.raw"],
        (True, False): ["b.raw"],
    }
    _backed_up(services, "a.raw")
    [job] = _submit(services, "a.raw").submitted  # there are no slots, and none is needed
    assert (job.state, job.followed, job.cluster_job_id) == (JobState.SUCCEEDED, True, None)
    assert job.inputs == []
    assert collect(services, "a.raw", run_id="c").raw_file.status is Status.DONE
    [stored] = services.store.metrics.of("a.raw")
    assert stored["precursors"] > 0


def test_results_are_not_said_to_be_missing_while_the_output_is_away(services: Services) -> None:
    _assign(services)
    for name in ("a.raw", "young.raw"):
        _write(services, name, hours_ago=0 if name == "young.raw" else 10)
    register_all(services, "thermo1", OPTIONS)
    _result(services, "a.raw")
    output = services.config.locations.output.path
    output.rename(output.with_name("away"))
    output.mkdir()  # a mount point, without its file system
    with pytest.raises(StoreAway, match="it is not mounted"):
        due(services, "thermo1", OPTIONS, now=services.now())
    output.rmdir()
    output.with_name("away").rename(output)
    [wave], _ = due(services, "thermo1", OPTIONS, now=services.now())
    assert (wave.backup, wave.result) == (True, True)


def test_a_result_with_something_wrong_is_not_taken_for_complete(services: Services) -> None:
    _assign(services)
    _write(services, "a.raw")
    _write(services, "young.raw", hours_ago=0)
    register_all(services, "thermo1", OPTIONS)
    (_result(services, "a.raw") / "stat.tsv").write_text("torn")
    _backed_up(services, "a.raw")
    with pytest.raises(OutputExists):
        _submit(services, "a.raw")
    assert services.store.jobs.of("a.raw") == []


@pytest.mark.parametrize(("exit_code", "taken"), [("0", True), ("3", False)])
def test_the_exit_code_of_krakens_own_job_decides(
    services: Services, exit_code: str, taken: bool
) -> None:
    _assign(services)
    _write(services, "a.raw")
    _write(services, "young.raw", hours_ago=0)
    register_all(services, "thermo1", OPTIONS)
    folder = _result(services, "a.raw")
    (folder / EXIT_CODE_FILE).write_text(f"{exit_code} 2026-03-01T10:00:00Z kraken-old-job\n")
    _backed_up(services, "a.raw")
    if taken:
        assert len(_submit(services, "a.raw").submitted) == 1
    else:
        with pytest.raises(OutputExists):
            _submit(services, "a.raw")


def test_results_are_not_looked_for_in_another_mode(services: Services) -> None:
    _assign(services)
    _write(services, "a.raw")
    _write(services, "young.raw", hours_ago=0)
    register_all(services, "thermo1", OPTIONS)
    _result(services, "a.raw")
    [wave], _ = due(
        services,
        "thermo1",
        CatchupOptions(output_exists_mode=OutputExistsMode.ADD),
        now=services.now(),
    )
    assert (wave.backup, wave.result) == (True, False)


def test_an_instrument_that_is_not_processed_has_no_results_to_look_for(
    make_services: Callable[[KrakenConfig], Services], config: KrakenConfig
) -> None:
    given = config.model_dump(exclude_unset=True)
    services = make_services(
        KrakenConfig.model_validate({**given, "defaults": {"skip_processing": True}})
    )
    _assign(services)
    _write(services, "a.raw")
    _write(services, "young.raw", hours_ago=0)
    register_all(services, "thermo1", OPTIONS)
    _result(services, "a.raw")
    [wave], _ = due(services, "thermo1", OPTIONS, now=services.now())
    assert (wave.backup, wave.result) == (True, False)
