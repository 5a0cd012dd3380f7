"""Settings, engines and documents that are gone or can't be read: told, mendable, and nobody else's
trouble."""

import os
import shutil
from dataclasses import replace

import pymongo
import pytest

from kraken_dagster.acquisition.watch import look_at
from kraken_dagster.config.engines import LocalEngine
from kraken_dagster.model.errors import InputMissing, SettingsRefused, StatusConflict
from kraken_dagster.model.jobs.job import InputFile
from kraken_dagster.model.jobs.report import JobState
from kraken_dagster.model.raw_file import Status
from kraken_dagster.operations.retry import retry
from kraken_dagster.projects import projects as catalog
from kraken_dagster.projects.settings import new_version
from kraken_dagster.quant.input_files import changed_since
from kraken_dagster.quant.jobs.poll import poll
from kraken_dagster.quant.preview import preview
from kraken_dagster.quant.submit import submit_jobs
from kraken_dagster_tests.support.fakes import MemoryEngine, custom_settings
from kraken_dagster_tests.support.helpers import NOW, backed_up, each, job, tick, tick_until_idle

WRITES = 'echo result > "$OUTPUT_PATH/result.txt"'
TABLE = 'printf "ms1_scans\\n7\\n" > "$OUTPUT_PATH/msqc_results.tsv"'


def stored(services, name: str = "x.raw"):
    return services.store.raw_files.get(name)


def mend(services, name: str, script: str) -> None:
    (services.config.locations.software.path / name).write_text(f"#!/bin/sh\n{script}\n")


# -- retries after changes ------------------------------------------------------------------------


def test_what_succeeded_stays_although_its_settings_were_upgraded_meanwhile(services):
    custom_settings(services, "search", WRITES)
    custom_settings(services, "qc", "exit 3", software_type="msqc")
    backed_up(services, "thermo1", "x.raw")
    tick_until_idle(services)
    new_version(services, "search", {"num_threads": 4})
    catalog.upgrade(services, "_FALLBACK", "search")
    mend(services, "qc", WRITES)
    retry(services, "x.raw", asked_by="a person")
    tick_until_idle(services)
    assert stored(services).status is Status.DONE
    jobs = [(item.settings_name, item.settings_version) for item in services.store.jobs.of("x.raw")]
    assert sorted(jobs) == [("qc", 1), ("qc", 1), ("search", 1)]


def test_a_result_that_is_in_mongodb_counts_although_its_folder_was_cleaned_up(services):
    custom_settings(services, "search", TABLE, metrics_type="msqc")
    custom_settings(services, "qc", "exit 3", software_type="msqc")
    backed_up(services, "thermo1", "x.raw")
    tick_until_idle(services)
    (search,) = [it for it in services.store.jobs.of("x.raw") if it.settings_name == "search"]
    shutil.rmtree(services.result_folder(search))
    mend(services, "qc", WRITES)
    retry(services, "x.raw", asked_by="a person")
    tick_until_idle(services)
    assert stored(services).status is Status.DONE
    metrics = [item.get("ms1_scans") for item in services.store.metrics.of("x.raw")]
    assert sorted(metrics, key=str) == [7, None]


def test_a_retry_that_died_half_way_loses_no_result(services):
    custom_settings(services, "search", WRITES)
    custom_settings(services, "qc", "exit 3", software_type="msqc")
    backed_up(services, "thermo1", "x.raw")
    tick_until_idle(services)
    before = [{"name": it.name, "version": it.version} for it in stored(services).quant_settings]
    services.store.raw_files.update(
        stored(services), {"quant_settings": before}, now=NOW, note="as an older version wrote it"
    )
    services.store.raw_files.next_attempt(stored(services), "quant_jobs")
    mend(services, "qc", WRITES)
    retry(services, "x.raw", asked_by="a person")
    tick_until_idle(services)
    assert stored(services).status is Status.DONE
    assert len(services.store.jobs.of("x.raw")) == 3


def test_a_file_that_is_not_to_be_processed_any_more_is_not_retried(
    make_services, config, services
):
    custom_settings(services, "qc", "exit 3")
    backed_up(services, "thermo1", "x.raw")
    tick_until_idle(services)
    defaults = config.defaults.model_copy(update={"skip_processing": True})
    given = {**config.model_dump(exclude_unset=True), "defaults": {"skip_processing": True}}
    assert defaults.skip_processing
    off = make_services(type(config).model_validate(given))
    with pytest.raises(StatusConflict, match="Processing disabled for this instrument"):
        retry(off, "x.raw", asked_by="a person")


# -- engines that are gone ------------------------------------------------------------------------


@pytest.fixture
def two_engines(make_services, config):
    engines = {name: LocalEngine(type="local") for name in ("local", "gone")}
    services = make_services(config.model_copy(update={"engines": engines}))
    services = replace(services, engines={**services.engines, "gone": MemoryEngine()})
    custom_settings(services, "search", WRITES)
    custom_settings(services, "qc", WRITES, software_type="msqc", job_engine="gone")
    backed_up(services, "thermo1", "x.raw")
    return services


def without_engine(services):
    """The same after somebody has taken the engine out of instruments.yaml."""
    engines = {"local": LocalEngine(type="local")}
    config = services.config.model_copy(update={"engines": engines})
    return replace(services, config=config, engines={"local": services.engines["local"]})


def test_a_job_that_runs_on_an_engine_that_is_gone_is_told_and_can_be_given_up(two_engines):
    tick(two_engines)
    services = without_engine(two_engines)
    tick_until_idle(services)
    found = poll(services, slots=each(9))
    assert (found.to_collect, found.to_submit) == ((), ())
    assert "engine 'gone' is not in instruments.yaml" in found.problems[0]
    assert stored(services).status is Status.QUANTING
    retry(services, "x.raw", asked_by="a person")
    tick_until_idle(services)
    assert stored(services).status is Status.DONE
    jobs = sorted((it.settings_name, it.engine, it.state) for it in services.store.jobs.of("x.raw"))
    assert jobs == [
        ("qc", "gone", JobState.CANCELLED),
        ("qc", "local", JobState.SUCCEEDED),
        ("search", "local", JobState.SUCCEEDED),
    ]


def test_a_job_that_ended_on_an_engine_that_is_gone_is_collected(two_engines):
    tick(two_engines)
    engine = two_engines.engines["gone"]
    engine.open.clear()
    poll(two_engines, slots=each(9))
    services = without_engine(two_engines)
    tick_until_idle(services)
    assert stored(services).status is Status.DONE


def test_a_job_that_was_only_intended_for_an_engine_that_is_gone_runs_elsewhere(two_engines):
    two_engines.engines["gone"].refuses = True
    with pytest.raises(Exception, match="no such partition"):
        submit_jobs(two_engines, "x.raw", run_id="q", slots=each(9), by_hand=False)
    services = without_engine(two_engines)
    tick_until_idle(services)
    assert stored(services).status is Status.DONE
    assert {item.engine for item in services.store.jobs.of("x.raw")} == {"local"}


# -- one odd document -----------------------------------------------------------------------------


@pytest.fixture
def database(mongodb_uri):
    with pymongo.MongoClient(mongodb_uri) as client:
        yield client.get_default_database()


def test_an_intention_of_an_instrument_that_is_served_elsewhere_stops_no_poll(services):
    elsewhere = job("j", instrument_id="elsewhere1", raw_file="y.raw", tried_at=NOW)
    services.store.jobs.intend(elsewhere)
    assert poll(services, slots=each(2)).open_jobs == 1
    assert services.store.jobs.get("j").state is JobState.INTENDED


def test_a_job_that_can_not_be_read_stops_no_poll_and_no_file(services, database):
    custom_settings(services, "search", WRITES)
    raw_file = backed_up(services, "thermo1", "x.raw")
    database["quant_job"].insert_one(
        {"_id": "odd", "raw_file": raw_file.id, "engine": "local", "uncollected": True}
    )
    tick_until_idle(services)
    assert stored(services).status is Status.DONE


def test_an_odd_project_stops_no_watcher(services, database):
    database["project"].insert_many([{"_id": "ODD1", "name": 7}, {"_id": "ODD2", "status": 7}])
    look_at(services, "thermo1")
    assert {item.id for item in services.store.catalog.projects()} == {"ODD1", "ODD2", "_FALLBACK"}


@pytest.fixture
def odd_settings(services, database):
    """Settings that can't be read, assigned to the fallback project together with good ones."""
    settings = custom_settings(services, "s", WRITES)
    database["settings"].update_one({"name": "s"}, {"$set": {"num_threads": "many"}})
    return settings


def test_settings_that_can_not_be_read_are_an_error_of_the_file_with_the_way_out(
    services, odd_settings
):
    backed_up(services, "thermo1", "x.raw")
    with pytest.raises(SettingsRefused, match="s version 1"):
        submit_jobs(services, "x.raw", run_id="q", slots=each(9), by_hand=False)
    assert "kraken project unassign" in stored(services).status_details
    _, broken = services.store.catalog.assignments(None)
    assert preview(services, "y.raw", "thermo1").broken[0].startswith(f"assignment {broken[0].id}")
    catalog.unassign(services, "_FALLBACK", broken[0].id)
    custom_settings(services, "t", WRITES)
    retry(services, "x.raw", asked_by="a person")
    tick_until_idle(services)
    assert stored(services).status is Status.DONE


def test_a_new_version_can_be_made_although_the_newest_can_not_be_read(services, database):
    custom_settings(services, "s", WRITES)
    new_version(services, "s", {"num_threads": 2})
    database["settings"].update_one({"version": 2}, {"$set": {"num_threads": "many"}})
    _, made = new_version(services, "s", {"num_threads": 3})
    assert made.version == 3


def test_settings_that_are_assigned_and_gone_are_an_error_of_the_file(services, database):
    custom_settings(services, "s", WRITES)
    database["settings"].delete_one({"name": "s"})
    backed_up(services, "thermo1", "x.raw")
    with pytest.raises(SettingsRefused, match="MongoDB has no such settings"):
        submit_jobs(services, "x.raw", run_id="q", slots=each(9), by_hand=False)


# -- links among the inputs -----------------------------------------------------------------------


def inputs(services):
    folder = services.config.locations.settings.path
    (folder / "s").mkdir(parents=True)
    (folder / "shared").mkdir()
    (folder / "shared" / "big.speclib").write_text("library")
    custom_settings(services, "s", WRITES, speclib_file_name="x.speclib")
    backed_up(services, "thermo1", "x.raw")
    return folder / "s" / "x.speclib"


def test_an_input_may_be_a_link_to_a_file_that_settings_share(services):
    inputs(services).symlink_to("../shared/big.speclib")
    tick_until_idle(services)
    assert stored(services).status is Status.DONE
    (found,) = services.store.jobs.of("x.raw")
    assert (found.inputs[0].path, found.inputs[0].size) == ("x.speclib", 7)


@pytest.mark.parametrize("what", ["outside", "dangling", "pipe", "folder"])
def test_an_input_that_is_no_file_below_the_settings_is_told(services, tmp_path, what):
    path = inputs(services)
    if what == "outside":
        (tmp_path / "secret").write_text("x")
        path.symlink_to(tmp_path / "secret")
    elif what == "dangling":
        path.symlink_to("nowhere")
    elif what == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(InputMissing, match="The library that the settings name can't be used"):
        submit_jobs(services, "x.raw", run_id="q", slots=each(9), by_hand=False)
    assert services.store.jobs.of("x.raw") == []
    (shown,) = [it for it in preview(services, "y.raw", "thermo1").settings if it.applies]
    assert "can't be used" in shown.problem


def test_an_input_is_not_said_to_have_changed_while_its_share_is_away(services):
    location = services.config.locations.settings
    assert location is not None
    root, file = location.path, location.path / "s" / "x.speclib"
    file.parent.mkdir(parents=True)
    file.write_text("library")
    facts = file.stat()
    item = InputFile(
        role="library",
        path="x.speclib",
        size=facts.st_size,
        mtime_ns=facts.st_mtime_ns,
        md5="0" * 32,
    )
    assert changed_since(services, "s", item) is False
    root.rename(root.with_name("away"))
    root.mkdir()  # a mount point, without its file system
    assert changed_since(services, "s", item) is None
    root.rmdir()
    root.with_name("away").rename(root)
    file.unlink()
    assert changed_since(services, "s", item) is True
