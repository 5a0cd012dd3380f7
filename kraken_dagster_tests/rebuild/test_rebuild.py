"""Dagster's storage made anew from MongoDB alone."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import click.testing
import pymongo
import pytest
import yaml

from kraken_dagster.cli.main import main
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.files.file_ids import partition_key
from kraken_dagster.model.raw_file import InstrumentFileStatus, Status
from kraken_dagster.orchestration.partitions import ASSETS
from kraken_dagster.store.connection import Store
from kraken_dagster.store.raw_files.bulk import PAGE
from kraken_dagster_tests.projects import alphakraken
from kraken_dagster_tests.rebuild.rebuilding import INSTRUMENT, Rebuilding
from kraken_dagster_tests.support.dagster_bench import hastened, install_search
from kraken_dagster_tests.support.helpers import HOSTILE_STEMS, NOW, record

pytestmark = [
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
    pytest.mark.filterwarnings("ignore::dagster.PreviewWarning"),
]
# What only the run that did it can tell, or tells in other words.
_OF_THE_RUN = {
    "backup": {"how", "copied bytes", "proven without a copy", "seconds", "MB/s"},
    "quant_job": {"state"},
    "quant_result": {"files", "size bytes"},
}


@pytest.fixture
def before(config: KrakenConfig, store: Store, opened, tmp_path: Path) -> Iterator[Rebuilding]:
    made = hastened(config, copy_slots=20, file_move_delay_m=0)
    install_search(made, store)
    with opened(tmp_path / "before") as instance:
        yield Rebuilding.on(made, store, instance)


@pytest.fixture
def after(before: Rebuilding, opened, tmp_path: Path) -> Iterator[Rebuilding]:
    """The same with a Dagster that knows nothing."""
    with opened(tmp_path / "after") as instance:
        yield before.with_instance(instance)


def add(bench: Rebuilding, *names: str, **fields) -> None:
    """Documents, without any file."""
    for name in names:
        assert bench.store.raw_files.register(record(name, **fields), reason="test")


@pytest.mark.parametrize("opened", ["SQLite", "PostgreSQL"], indirect=True)
def test_a_new_storage_shows_what_the_old_one_showed(before, after):
    before.process("a.raw")
    rebuilt = after.rebuild()
    assert (rebuilt.files, rebuilt.partitions, rebuilt.checks) == (1, 1, 2)
    assert rebuilt.events == dict.fromkeys(ASSETS, 1)
    assert after.partitions() == ["a.raw"]
    old, new = before.shown("a.raw"), after.shown("a.raw")
    assert list(new) == list(ASSETS)
    for asset in ASSETS:
        of_the_run = _OF_THE_RUN.get(asset, set())
        kept = {key: value for key, value in old[asset].items() if key not in of_the_run}
        rebuilt_metadata = {
            key: value for key, value in new[asset].items() if key not in of_the_run
        }
        assert rebuilt_metadata.pop("happened at") is not None
        kept.pop("status", None)  # of a file that went on since
        rebuilt_metadata.pop("status", None)
        assert rebuilt_metadata == kept
    assert after.checks("a.raw") == [True]


def test_what_is_made_anew_leads_to_the_page_as_what_a_run_made_does(before, after):
    alerts = before.config.alerts.model_copy(update={"page_url": "https://lab.example/kraken/"})
    config = before.config.model_copy(update={"alerts": alerts})
    old, new = (Rebuilding.on(config, it.store, it.instance) for it in (before, after))
    old.process("a.raw")
    new.rebuild()
    for bench in (old, new):
        links = {asset: shown.get("page") for asset, shown in bench.shown("a.raw").items()}
        assert links == dict.fromkeys(ASSETS, "https://lab.example/kraken/file?id=a.raw")


def test_each_step_is_shown_with_the_time_at_which_it_really_happened(before, after):
    before.process("a.raw")
    after.rebuild()
    times = {asset: new["happened at"] for asset, new in after.shown("a.raw").items()}
    file, (job,) = before.file("a.raw"), before.store.jobs.of("a.raw")
    assert times["raw_file"] == file.acquisition["ended_at"].timestamp()
    assert times["backup"] == file.backed_up_at.timestamp()
    assert times["quant_job"] == job.tried_at.timestamp()
    assert times["quant_result"] == job.ended_at.timestamp()
    (result,) = before.store.metrics.of("a.raw")
    assert times["metrics"] == result["created_at_"].timestamp()


def test_a_second_run_adds_nothing(before, after):
    before.process("a.raw")
    after.rebuild()
    again = after.rebuild()
    assert (again.files, again.partitions, again.checks) == (1, 0, 0)
    assert again.events == {}
    assert after.counts() == dict.fromkeys(ASSETS, 1)
    assert before.rebuild().events == {}  # what the runs have told is there as well
    assert before.counts() == dict.fromkeys(ASSETS, 1)


def test_sensors_carry_on_where_the_files_are_and_nothing_is_done_twice(before, after):
    before.back_up("a.raw")
    assert after.rebuild().events == dict.fromkeys(("raw_file", "backup", "quant_job"), 1)
    assert after.requested(INSTRUMENT) == []
    (request,) = after.collected()
    assert after.run(request).success
    assert after.status("a.raw") is Status.DONE
    assert after.rebuild().events == {}
    assert after.counts() == dict.fromkeys(ASSETS, 1)
    assert len(after.store.jobs.of("a.raw")) == 1


def test_what_has_not_happened_is_not_reported(after):
    add(after, "new.raw")
    add(after, "failed.raw", status=Status.ACQUISITION_FAILED)
    add(after, "ignored.raw", status=Status.IGNORED)
    rebuilt = after.rebuild()
    assert after.partitions() == ["failed.raw", "new.raw"]
    assert rebuilt.events == {"raw_file": 1}
    assert list(after.materialised(INSTRUMENT, "raw_file")) == ["failed.raw"]


def _damage(bench: Rebuilding, name: str) -> bytes:
    path = bench.services.backup_folder(bench.file(name)) / name
    content = path.read_bytes()
    path.write_bytes(b"X" + content[1:])
    return content


def test_a_damaged_backup_fails_its_check_until_it_is_whole_again(before, after):
    before.process("a.raw")
    content = _damage(before, "a.raw")
    scrub = before.repository.get_job("scrub")
    options = {"ops": {"scrub_backups": {"config": {"scrub_every_days": 1e-9}}}}
    assert not scrub.execute_in_process(
        run_config=options, instance=before.instance, raise_on_error=False
    ).success
    assert after.rebuild().checks == 2
    assert "backup" in after.shown("a.raw")
    assert after.checks("a.raw") == [False]
    assert after.rebuild().checks == 0

    (after.services.backup_folder(after.file("a.raw")) / "a.raw").write_bytes(content)
    after.execute(f"{INSTRUMENT}_ingest", "a.raw")
    assert after.file("a.raw").is_backed_up
    after.rebuild()
    assert after.checks("a.raw")[0] is True


def test_what_was_moved_aside_is_an_observation(before, after):
    before.process("a.raw")
    (request,) = before.tick(f"{INSTRUMENT}_archiver").run_requests
    job = before.repository.get_job(request.job_name)
    assert job.execute_in_process(run_config=request.run_config, instance=before.instance).success
    assert before.file("a.raw").instrument_file_status is InstrumentFileStatus.MOVED
    after.rebuild()
    (shown,) = after.observed("a.raw")
    assert shown["on the instrument"] == "moved"
    event = next(item for item in before.file("a.raw").history if "instrument_file" in item)
    assert shown["happened at"] == event["at"].timestamp()
    after.rebuild()
    before.rebuild()
    assert len(after.observed("a.raw")) == len(before.observed("a.raw")) == 1


def test_names_that_dagster_can_not_take_lead_back(after):
    names = [f"{stem}.raw" for stem in HOSTILE_STEMS]
    add(after, *names)
    after.rebuild()
    assert after.partitions() == sorted(map(partition_key, names))
    assert after.rebuild().partitions == 0


def test_files_of_the_same_moment_and_without_one_are_all_there(after, mongodb_uri):
    same = [f"same_{number:03d}.raw" for number in range(2 * PAGE + 1)]
    add(after, *same)
    add(after, "later.raw", created_at=NOW + timedelta(seconds=1))
    add(after, "undated.raw")
    with pymongo.MongoClient(mongodb_uri) as client:
        raw_files = client.get_default_database()["raw_file"]
        raw_files.update_one({"_id": "undated.raw"}, {"$unset": {"created_at": ""}})
    rebuilt = after.rebuild()
    assert after.partitions() == sorted([*same, "later.raw", "undated.raw"])
    assert rebuilt.files == len(same) + 2


def test_documents_of_alphakraken_are_shown_as_far_as_they_tell(after, mongodb_uri):
    add(after, "of_another.raw", instrument_id="bruker1")
    with pymongo.MongoClient(mongodb_uri) as client:
        database = client.get_default_database()
        database["raw_file"].insert_one(
            alphakraken.raw_file("old.raw", instrument_id=INSTRUMENT, status="done")
        )
        result = {"raw_file": "old.raw", "proteins": 5.0, "odd": {"a": 1}, "created_at_": NOW}
        database["metrics"].insert_one(result)
    after.rebuild()
    shown = after.shown("old.raw")
    assert {"raw_file", "metrics"} <= set(shown)
    assert "quant_job" not in shown
    assert shown["metrics"]["proteins"] == 5.0
    assert "odd" not in shown["metrics"]
    assert after.partitions("bruker1") == []


def test_a_rebuilt_backup_is_verified_more_than_once(before, after, monkeypatch, tmp_path):
    before.process("a.raw")
    after.rebuild()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "after"))
    path = tmp_path / "instruments.yaml"
    path.write_text(yaml.safe_dump(before.config.model_dump(mode="json", exclude_unset=True)))
    for _ in range(2):
        result = click.testing.CliRunner().invoke(main, ["--config", str(path), "verify", "a.raw"])
        assert result.exit_code == 0, result.output
    assert after.checks("a.raw") == [True, True, True]


def test_the_job_does_what_the_command_does(before, after):
    before.process("a.raw")
    job = after.repository.get_job("rebuild_from_mongodb")
    result = job.execute_in_process(instance=after.instance)
    assert result.success
    assert "thermo1: 1 files: 1 partitions added" in after.log_of(result)
    assert after.counts() == dict.fromkeys(ASSETS, 1)
    wrong = {"ops": {"rebuild_instruments": {"config": {"instruments": ["nobody"]}}}}
    assert not job.execute_in_process(
        instance=after.instance, run_config=wrong, raise_on_error=False
    ).success
