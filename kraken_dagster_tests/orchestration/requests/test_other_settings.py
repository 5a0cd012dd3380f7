"""Files that are processed once more with settings that a person chose."""

import pytest

from kraken_dagster.model.errors import Archived, InputRefused, StatusConflict
from kraken_dagster.model.raw_file import Status
from kraken_dagster.operations.process_again import process_again, process_all_again
from kraken_dagster.operations.retry import retry
from kraken_dagster.quant.jobs.attempts import JOBS_COUNTER, latest_jobs
from kraken_dagster.runtime.services import Services
from kraken_dagster_tests.support.fakes import custom_settings
from kraken_dagster_tests.support.helpers import backed_up, tick_until_idle, unassign

NAME = "x.raw"
WRITES = 'echo result > "$OUTPUT_PATH/result.txt"'
QC = {"software_type": "msqc", "metrics_type": "msqc"}
TABLE = 'printf "ms1_scans\\n7\\n" > "$OUTPUT_PATH/msqc_results.tsv"'


@pytest.fixture
def done(services: Services) -> Services:
    """A file that has ended well with two settings; a third is there, and nobody's."""
    custom_settings(services, "search", WRITES)
    custom_settings(services, "qc", TABLE, **QC)
    custom_settings(services, "other", WRITES)
    unassign(services, "other")
    backed_up(services, "thermo1", NAME)
    tick_until_idle(services)
    assert _status(services) is Status.DONE
    return services


def _status(services: Services) -> Status:
    return services.store.raw_files.get(NAME).status


def _used(services: Services) -> set[tuple[str, int]]:
    jobs = latest_jobs(services, services.store.raw_files.get(NAME))
    return {(job.settings_name, job.attempt) for job in jobs}


def _program(services: Services, name: str, script: str) -> None:
    assert services.config.locations.software is not None
    (services.config.locations.software.path / name).write_text(f"#!/bin/sh\n{script}\n")


def test_chosen_settings_take_the_place_of_their_type_and_all_results_stay(done: Services) -> None:
    other = done.store.catalog.settings("other", 1)
    process_again(done, NAME, [other], asked_by="somebody")
    assert done.store.raw_files.get(NAME).history[-1]["reason"] == (
        "asked for again by somebody, with other version 1"
    )
    tick_until_idle(done)
    assert _status(done) is Status.DONE
    assert _used(done) == {("other", 2), ("qc", 1)}
    results = {item["settings_name"] for item in done.store.metrics.of(NAME)}
    assert results == {"search", "qc", "other"}


def test_what_was_chosen_and_failed_is_tried_again_until_it_has_ended_well(done: Services) -> None:
    _program(done, "other", "exit 3")
    other = done.store.catalog.settings("other", 1)
    process_again(done, NAME, [other], asked_by="somebody")
    tick_until_idle(done)
    assert _status(done) is Status.QUANTING_FAILED
    _program(done, "other", WRITES)
    retry(done, NAME, asked_by="somebody")
    tick_until_idle(done)
    assert _status(done) is Status.DONE
    assert _used(done) == {("other", 3), ("qc", 1)}


def test_a_file_that_is_processed_once_more_without_a_choice_has_its_projects(
    done: Services,
) -> None:
    from kraken_dagster.config.instruments import OutputExistsMode

    process_again(done, NAME, [done.store.catalog.settings("other", 1)], asked_by="somebody")
    tick_until_idle(done)
    retry(done, NAME, asked_by="somebody", mode=OutputExistsMode.ADD)
    tick_until_idle(done)
    assert {name for name, _ in _used(done)} == {"search", "qc"}


def test_what_failed_of_another_type_is_done_once_more(done: Services) -> None:
    _program(done, "qc", "exit 3")
    process_again(done, NAME, [done.store.catalog.settings("qc", 1)], asked_by="somebody")
    tick_until_idle(done)
    assert _status(done) is Status.QUANTING_FAILED
    _program(done, "qc", TABLE)
    process_again(done, NAME, [done.store.catalog.settings("other", 1)], asked_by="somebody")
    tick_until_idle(done)
    assert _status(done) is Status.DONE
    assert _used(done) == {("other", 3), ("qc", 3)}


def test_of_two_who_ask_at_once_the_second_is_told(
    done: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = done.store.catalog.settings("other", 1)
    before = done.store.raw_files.get(NAME)
    process_again(done, NAME, [other], asked_by="the first")
    with monkeypatch.context() as patched:
        patched.setattr(done.store.raw_files, "get", lambda _: before)
        with pytest.raises(StatusConflict):
            process_again(done, NAME, [done.store.catalog.settings("qc", 1)], asked_by="second")
    after = done.store.raw_files.get(NAME)
    assert after.attempts[JOBS_COUNTER] == 2
    assert {item.name for item in after.quant_settings} == {"other", "qc"}
    assert "the first" in after.history[-1]["reason"]


def test_what_can_not_be_asked_for_changes_nothing(done: Services) -> None:
    catalog = done.store.catalog
    search, other = catalog.settings("search", 1), catalog.settings("other", 1)
    before = done.store.raw_files.get(NAME)
    for settings in ([], [search, other]):
        with pytest.raises(InputRefused):
            process_again(done, NAME, settings, asked_by="somebody")
    catalog.archive_settings(other)
    with pytest.raises(Archived):
        process_again(done, NAME, [catalog.settings("other", 1)], asked_by="somebody")
    assert done.store.raw_files.get(NAME) == before


def test_each_file_of_several_is_for_itself(done: Services) -> None:
    backed_up(done, "thermo1", "a_dda_b.raw")
    tick_until_idle(done)
    other = done.store.catalog.settings("other", 1)
    names = ["nothing.raw", "a_dda_b.raw", NAME, NAME]
    queued, refused = process_all_again(done, names, [other], asked_by="somebody")
    assert queued == [NAME]
    assert len(refused) == 2
    assert "No such raw file" in refused[0]
    assert "Filename contains 'dda'" in refused[1]
