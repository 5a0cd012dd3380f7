"""The contract of the store: jobs, metrics, settings and how the instruments are.

Runs on the embedded server, or on the MongoDB that KRAKEN_TEST_MONGODB_URI names.
"""

from datetime import timedelta

import pymongo
import pytest

from kraken_dagster.model.errors import UnknownSettings
from kraken_dagster.model.files.folder import LeftAlone
from kraken_dagster.model.jobs.report import JobReport, JobState
from kraken_dagster.model.projects import Project
from kraken_dagster.model.settings import Settings
from kraken_dagster.store.connection import connect
from kraken_dagster_tests.support.helpers import NOW, job

LATER = NOW + timedelta(minutes=5)


@pytest.fixture
def database(mongodb_uri):
    with pymongo.MongoClient(mongodb_uri) as client:
        yield client.get_default_database()


@pytest.fixture
def empty(mongodb_uri):
    """A store on a database that nobody has prepared."""
    store = connect(mongodb_uri)
    yield store
    store.close()


def settings(name: str = "s", **fields) -> Settings:
    return Settings(name=name, software="program", **fields)


def test_a_job_that_is_intended_again_is_found_as_it_is_by_now(store):
    assert store.jobs.intend(job()) == job()
    store.jobs.submitted(job(), "4711")
    found = store.jobs.intend(job(software="another"))
    assert (found.state, found.cluster_job_id, found.software) == ("waiting", "4711", "program")


def test_an_intention_is_withdrawn_and_a_submitted_job_is_not(store):
    for name in ("intended", "submitted"):
        store.jobs.intend(job(name))
    store.jobs.submitted(job("submitted"), "4711")
    for name in ("intended", "submitted"):
        store.jobs.withdraw(job(name))
    assert [item.id for item in store.jobs.of("x.raw")] == ["submitted"]


def test_a_job_is_submitted_once(store):
    store.jobs.intend(job())
    store.jobs.submitted(job(), "4711")
    store.jobs.submitted(job(), "4712")
    assert store.jobs.get("job-1").cluster_job_id == "4711"


def test_a_job_stays_uncollected_until_it_is_collected_whatever_became_of_it(store):
    store.jobs.intend(job())
    store.jobs.intend(job("elsewhere", engine="cluster"))
    assert [item.id for item in store.jobs.uncollected("local")] == ["job-1"]
    store.jobs.submitted(job(), "4711")
    store.jobs.report(store.jobs.get("job-1"), JobReport(JobState.FAILED, 1), now=NOW)
    assert [item.id for item in store.jobs.uncollected("local")] == ["job-1"]
    store.jobs.collected(job(), now=LATER, result_error="no table")
    assert store.jobs.uncollected("local") == []
    found = store.jobs.get("job-1")
    assert (found.collected_at, found.failure) == (LATER, "no table")


def test_what_the_engine_says_is_kept_with_the_end_of_the_log(store):
    store.jobs.intend(job())
    report = JobReport(JobState.FAILED, 137, NOW, LATER, "ended by SIGKILL")
    store.jobs.report(job(), report, now=NOW)
    ended = store.jobs.get("job-1").model_copy(update={"log_tail": "first\nlast words"})
    store.jobs.collected(ended, now=LATER, result_error=None)
    found = store.jobs.get("job-1")
    assert (found.started_at, found.ended_at) == (NOW, LATER)
    assert found.failure == (
        "failed with exit code 137: ended by SIGKILL; its log ends with 'last words'"
    )


def test_an_answer_that_was_overtaken_by_a_newer_one_is_dropped(store):
    store.jobs.intend(job())
    store.jobs.report(job(), JobReport(JobState.SUCCEEDED, 0), now=NOW)
    store.jobs.report(job(), JobReport(JobState.RUNNING), now=NOW)
    assert store.jobs.get("job-1").state is JobState.SUCCEEDED


def test_a_files_jobs_come_oldest_first(store):
    for name, attempt, created_at in (("b", 2, LATER), ("a", 1, NOW)):
        store.jobs.intend(job(name, attempt=attempt, created_at=created_at))
    store.jobs.intend(job("of another file", raw_file="y.raw"))
    assert [item.id for item in store.jobs.of("x.raw")] == ["a", "b"]


def test_a_result_is_added_once_and_never_changed(store):
    for when in (NOW, LATER):
        store.metrics.add(job(), {"proteins": 1.0}, provenance={"job": "job-1"}, now=when)
    (found,) = store.metrics.of("x.raw")
    assert found["proteins"] == 1.0
    assert (found["raw_file"], found["settings_name"], found["settings_version"]) == (
        "x.raw",
        "s",
        1,
    )
    assert (found["type"], found["output_path"]) == ("custom", "x")
    assert (found["created_at_"], found["provenance"]) == (NOW, {"job": "job-1"})


def test_the_newest_result_comes_first_and_older_ones_stay(store):
    store.metrics.add(job("old"), {"proteins": 1.0}, provenance={}, now=NOW)
    store.metrics.add(job("new"), {"proteins": 2.0}, provenance={}, now=LATER)
    assert [item["proteins"] for item in store.metrics.of("x.raw")] == [2.0, 1.0]


def test_an_empty_database_gets_the_built_in_settings_for_bruker_files(store):
    (assigned,) = store.catalog.assigned(None)
    assert (assigned.settings.software, assigned.scope.scope) == ("kraken-rawqc", "bruker")
    assert store.catalog.project_ids() == []


def test_preparing_a_database_again_changes_nothing(store, database):
    def content():
        names = ("project", "settings", "project_settings")
        return {name: list(database[name].find()) for name in names}

    before = content()
    store.prepare()
    assert content() == before
    assert len(before["settings"]) == 1


def test_a_database_that_has_settings_is_given_none(empty):
    empty.catalog.add_settings(settings(), now=NOW)
    empty.prepare()
    assert empty.catalog.assigned(None) == []
    with pytest.raises(UnknownSettings):
        empty.catalog.settings("rawqc", 1)


def test_settings_come_in_the_order_in_which_they_were_assigned(empty):
    names = ["d", "a", "c", "b", "e"]
    for minute, name in enumerate(names):
        empty.catalog.add_settings(settings(name), now=NOW)
        empty.catalog.assign("P123", settings(name), now=NOW + timedelta(minutes=minute))
    assert [item.settings.name for item in empty.catalog.assigned("P123")] == names


def test_archived_settings_go_on_where_they_are_assigned(empty):
    empty.catalog.add_settings(settings(), now=NOW)
    empty.catalog.assign("P123", settings(), now=NOW)
    empty.catalog.archive_settings(settings())
    (found,) = empty.catalog.assigned("P123")
    assert (found.settings.status, found.settings.is_active) == ("inactive", False)
    assert empty.catalog.settings("s", 1).status == "inactive"


def test_a_version_of_settings_is_never_changed(empty):
    empty.prepare()
    empty.catalog.add_settings(settings(config_params="--first"), now=NOW)
    empty.catalog.add_settings(settings(config_params="--second"), now=NOW)
    empty.catalog.add_settings(settings(version=2, config_params="--third"), now=NOW)
    found = [empty.catalog.settings("s", version).config_params for version in (1, 2)]
    assert found == ["--first", "--third"]


def test_settings_that_are_gone_are_told_by_name_and_version(store):
    with pytest.raises(UnknownSettings, match="'s version 3'"):
        store.catalog.settings("s", 3)


def test_an_assignment_of_another_program_is_read(store, database):
    settings_id = database["settings"].insert_one(
        {"name": "dia", "version": 2, "software": "diann", "software_type": "custom"}
    )
    database["project_settings"].insert_one(
        {
            "project": "P123",
            "settings": settings_id.inserted_id,
            "scope": "thermo",
            "excluded": ["thermo2"],
            "raw_file_id_filter": "_DIA_",
        }
    )
    (found,) = store.catalog.assigned("P123")
    assert (found.settings.name, found.settings.version) == ("dia", 2)
    assert (found.scope.scope, found.scope.raw_file_id_filter) == ("thermo", "_DIA_")
    assert found.scope.excluded == {"thermo2"}


def test_only_active_projects_are_named_and_the_fallback_is_none(store, database):
    store.catalog.add_project(Project(id="P123", name="first"), now=NOW)
    store.catalog.add_project(Project(id="P123", name="never renamed"), now=NOW)
    database["project"].insert_one({"_id": "OLD1", "status": "inactive"})
    assert store.catalog.project_ids() == ["P123"]
    assert database["project"].find_one({"_id": "P123"})["name"] == "first"


def well(store, *names: str, now=NOW) -> list[str]:
    items = [LeftAlone(name, "a link") for name in names]
    news = store.health.well("thermo1", details="fine", free_bytes=0, left_alone=items, now=now)
    return [item.name for item in news]


def test_what_is_left_alone_is_news_once_and_again_after_it_went_and_came_back(store):
    assert well(store, "a", "b") == ["a", "b"]
    assert well(store, "a", "b", "c") == ["c"]
    assert well(store) == []
    assert well(store, "a") == ["a"]


def test_a_name_that_is_no_utf8_is_news_once_too(store):
    name = b"\xff.raw".decode(errors="surrogateescape")
    assert well(store, name) == [name]
    assert well(store, name) == []
    assert store.health.get("thermo1")["left_alone"][0]["name"] == r"\xff.raw"


def test_a_folder_full_of_what_is_left_alone_is_no_news_the_second_time(store):
    names = [f"{number}.raw" for number in range(300)]
    well(store, *names)
    assert well(store, *names) == []


def test_an_instrument_that_is_unwell_keeps_what_was_known_of_it(store):
    well(store, "a")
    store.health.unwell("thermo1", details="the share hangs", now=LATER)
    found = store.health.get("thermo1")
    assert (found["status"], found["status_details"]) == ("error", "the share hangs")
    assert (found["last_error_occurred_at"], found["updated_at_"]) == (LATER, LATER)
    assert (found["entity_type"], found["free_space_gb"]) == ("instrument", 0)
    assert well(store, "a", now=LATER) == []
    assert store.health.get("thermo1")["status"] == "ok"
