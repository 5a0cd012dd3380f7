"""Files that are final and old leave Dagit; MongoDB keeps them, and whatever is due is back."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click.testing
import dagster as dg
import pymongo
import pytest
import yaml

from kraken_dagster.cli.main import main
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.jobs.report import JobState
from kraken_dagster.model.raw_file import Status
from kraken_dagster.model.retention.refusal import PurgeIntent, Refusal
from kraken_dagster.operations.retry import retry
from kraken_dagster.rebuild.retire_defs import retire
from kraken_dagster.rebuild.window_rules import why_kept
from kraken_dagster.store.connection import Store
from kraken_dagster.store.raw_files.bulk import PAGE
from kraken_dagster_tests.rebuild.rebuilding import INSTRUMENT, Rebuilding, new_instance
from kraken_dagster_tests.support.dagster_bench import hastened, install_search
from kraken_dagster_tests.support.helpers import NOW, job, lease, record

pytestmark = [
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
    pytest.mark.filterwarnings("ignore::dagster.PreviewWarning"),
]
WINDOW_DAYS = 30
LONG_AGO = datetime.now(UTC) - timedelta(days=400)


# -- the rule -------------------------------------------------------------------------------------

OLD = NOW - timedelta(days=WINDOW_DAYS, seconds=1)


def old(**fields):
    times = {"created_at": OLD, "created_at_": OLD, "updated_at_": NOW}
    history = [{"at": OLD, "from": None, "to": "queued_for_monitoring"}]
    return record(**{"status": Status.DONE, "history": history, **times, **fields})


def kept(raw_file, *jobs, window_days=WINDOW_DAYS):
    return why_kept(raw_file, jobs, now=NOW, window_days=window_days)


@pytest.mark.parametrize(
    "status",
    [Status.DONE, Status.DONE_NOT_QUANTED, Status.QUANTING_FAILED, Status.ACQUISITION_FAILED],
)
def test_a_file_that_is_final_and_old_is_not_kept(status):
    ended = job(state=JobState.SUCCEEDED, collected_at=OLD)
    skipped = job("skipped", state=JobState.SKIPPED)
    assert kept(old(status=status), ended, skipped) is None


@pytest.mark.parametrize("status", sorted(set(Status) - {"done", "ignored"}))
def test_a_file_that_may_go_on_is_kept(status):
    final = {Status.DONE_NOT_QUANTED, Status.QUANTING_FAILED, Status.ACQUISITION_FAILED}
    reason = kept(old(status=status))
    assert (reason is None) == (status in final)


_TROUBLE = Refusal(problem="busy", at=OLD)
_INTENT = PurgeIntent(began_at=OLD, run_id="r", files=1, bytes=1)


@pytest.mark.parametrize(
    "fields",
    [
        {"lease": lease()},
        {"archive": _TROUBLE},
        {"purge": _TROUBLE},
        {"purge_intent": _INTENT},
        {"history": [{"at": OLD}, {"at": OLD + timedelta(seconds=2)}]},
        {"history": [], "updated_at_": NOW},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_a_file_that_somebody_needs_is_kept(fields):
    assert kept(old(**fields)) is not None


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.UNKNOWN, JobState.SUCCEEDED])
def test_a_file_with_a_job_that_is_not_settled_is_kept(state):
    assert kept(old(), job(state=state)) == "a job of it is open"


def test_without_a_window_everything_is_kept():
    assert kept(old(), window_days=0) == "no window is set"


# -- in Dagster -----------------------------------------------------------------------------------


@pytest.fixture
def bench(config: KrakenConfig, store: Store, tmp_path: Path) -> Iterator[Rebuilding]:
    made = hastened(config, copy_slots=20, partition_window_days=WINDOW_DAYS, file_move_delay_m=0)
    install_search(made, store)
    with new_instance(tmp_path / "dagster") as instance:
        yield Rebuilding.on(made, store, instance)


def retired(bench: Rebuilding) -> int:
    return retire(bench.services, bench.instance, INSTRUMENT)


def grow_old(mongodb_uri: str, *names: str) -> None:
    """As if all that happened to these files had happened long ago."""
    with pymongo.MongoClient(mongodb_uri) as client:
        raw_files = client.get_default_database()["raw_file"]
        for name in names:
            history = raw_files.find_one({"_id": name})["history"]
            changes = {
                "history": [{**event, "at": LONG_AGO} for event in history],
                "created_at": LONG_AGO,
                "updated_at_": LONG_AGO,
            }
            raw_files.update_one({"_id": name}, {"$set": changes})


def add_old(bench: Rebuilding, *names: str, status: Status = Status.DONE) -> None:
    times = {"created_at": LONG_AGO, "created_at_": LONG_AGO, "updated_at_": LONG_AGO}
    for name in names:
        assert bench.store.raw_files.register(record(name, status=status, **times), reason="test")


def test_files_that_are_old_and_final_leave_dagit_and_the_others_stay(bench, mongodb_uri):
    bench.process("old.raw", "new.raw")
    grow_old(mongodb_uri, "old.raw")
    add_old(bench, "failed.raw", status=Status.ERROR)
    bench.rebuild()
    assert bench.partitions() == ["failed.raw", "new.raw", "old.raw"]
    assert retired(bench) == 1
    assert bench.partitions() == ["failed.raw", "new.raw"]
    assert retired(bench) == 0
    assert bench.status("old.raw") is Status.DONE


def test_more_files_than_are_read_at_once_leave(bench):
    names = [f"old_{number}.raw" for number in range(PAGE + 1)]
    add_old(bench, *names)
    bench.instance.add_dynamic_partitions(f"{INSTRUMENT}_raw_files", [*names, "not in MongoDB"])
    assert retired(bench) == len(names)
    assert bench.partitions() == ["not in MongoDB"]


def test_what_was_shown_of_a_file_is_there_again_with_its_partition(bench, mongodb_uri):
    bench.process("a.raw")
    before = bench.shown("a.raw")
    grow_old(mongodb_uri, "a.raw")
    assert retired(bench) == 1
    assert bench.rebuild().retired == 1
    assert bench.partitions() == []
    bench.instance.add_dynamic_partitions(f"{INSTRUMENT}_raw_files", ["a.raw"])
    assert bench.shown("a.raw") == before
    assert bench.counts() == dict.fromkeys(before, 1)


def test_a_retired_file_that_is_asked_for_again_is_back_at_the_next_tick(bench, mongodb_uri):
    bench.process("a.raw")
    grow_old(mongodb_uri, "a.raw")
    assert retired(bench) == 1
    found = bench.file("a.raw")
    bench.store.raw_files.transition(found, Status.ERROR, now=LONG_AGO, reason="test")
    retry(bench.services, "a.raw", asked_by="somebody")
    bench.requested(INSTRUMENT)
    assert bench.partitions() == ["a.raw"]
    assert retired(bench) == 0


def test_a_retired_file_that_is_to_be_moved_aside_is_back_for_that(bench, mongodb_uri):
    bench.process("a.raw")
    grow_old(mongodb_uri, "a.raw")
    assert retired(bench) == 1
    (request,) = bench.tick(f"{INSTRUMENT}_archiver").run_requests
    job_ = bench.repository.get_job(request.job_name)
    assert job_.execute_in_process(run_config=request.run_config, instance=bench.instance).success
    assert len(bench.observed("a.raw")) == 1
    assert bench.partitions() == ["a.raw"]
    assert retired(bench) == 0


def test_the_schedule_retires_where_there_is_a_window_and_skips_elsewhere(bench, config, store):
    add_old(bench, "old.raw")
    bench.instance.add_dynamic_partitions(f"{INSTRUMENT}_raw_files", ["old.raw"])
    assert (
        bench.repository.get_job("retire_partitions")
        .execute_in_process(instance=bench.instance)
        .success
    )
    assert bench.partitions() == []
    without = Rebuilding.on(config, store, bench.instance)
    for each, runs in ((bench, 1), (without, 0)):
        schedule = each.repository.get_schedule_def("retire_partitions")
        context = dg.build_schedule_context(
            instance=bench.instance,
            scheduled_execution_time=datetime.now(UTC),
            resources=each.repository.get_top_level_resources(),
        )
        with context:
            assert len(schedule.evaluate_tick(context).run_requests) == runs
    assert retire(without.services, without.instance, INSTRUMENT) == 0


def test_rebuild_leaves_out_what_is_retired_and_brings_one_back_that_is_named(
    bench, mongodb_uri, monkeypatch, tmp_path
):
    add_old(bench, "a.raw", "b.raw")
    assert bench.rebuild().retired == 2
    assert bench.partitions() == []
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    path = tmp_path / "instruments.yaml"
    path.write_text(yaml.safe_dump(bench.config.model_dump(mode="json", exclude_unset=True)))
    result = click.testing.CliRunner().invoke(
        main, ["--config", str(path), "rebuild", "--id", "a.raw"]
    )
    assert result.exit_code == 0, result.output
    assert bench.partitions() == ["a.raw"]
    assert retired(bench) == 0  # somebody wants to see it
    assert "shown in Dagit again" in bench.file("a.raw").history[-1]["reason"]
    assert bench.rebuild().retired == 1
