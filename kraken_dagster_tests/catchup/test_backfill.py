"""Runs over many partitions: each file has an event of its own, and none stops another."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value

from kraken_dagster.backup.backup import back_up
from kraken_dagster.backup.outcome import BackupOutcome
from kraken_dagster.catchup.defs import CATCHUP_TAGS
from kraken_dagster.config.engines import LocalEngine
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.errors import StoreUnavailable
from kraken_dagster.model.files.file_ids import partition_key
from kraken_dagster.model.raw_file import Status
from kraken_dagster.orchestration.file_runs.file_batches import _Batch
from kraken_dagster.orchestration.file_runs.outcomes import Done
from kraken_dagster.orchestration.partitions import TAG_INSTRUMENT, asset_key, raw_files
from kraken_dagster.store.connection import Store
from kraken_dagster_tests.rebuild.rebuilding import new_instance
from kraken_dagster_tests.support.dagster_bench import Bench, hastened, install_search, raw_file

pytestmark = [
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
    pytest.mark.filterwarnings("ignore::dagster.PreviewWarning"),
]
NAMES = [f"f{number:02d}.raw" for number in range(12)]
BAD = ("f03.raw", "f07.raw")


@pytest.fixture
def bench(config: KrakenConfig, store: Store) -> Iterator[Bench]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield _bench_on(config, store, instance)


def _bench_on(config: KrakenConfig, store: Store, instance: dg.DagsterInstance) -> Bench:
    engines = {"engines": {"local": LocalEngine(type="local", slots=20)}}
    defaults = {"copy_slots": 3, "files_per_run_from": 0}
    return Bench(hastened(config.model_copy(update=engines), **defaults), store, instance)


def _acquired(bench: Bench, names: list[str] = NAMES) -> None:
    """Files whose acquisition is over, and whose partitions Dagster has."""
    for name in names:
        raw_file(bench.services.instrument_folder("thermo1"), name, f"bytes of {name}".encode())
    bench.requested("thermo1")


def _in_the_way(bench: Bench, names: tuple[str, ...] = BAD) -> None:
    """Something else stands in their place in the backup."""
    for name in names:
        folder = bench.services.backup_folder(bench.file(name))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"something else")


def _clear_the_way(bench: Bench) -> None:
    for name in BAD:
        (bench.services.backup_folder(bench.file(name)) / name).unlink()


def _failures(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    """What each step that failed said."""
    return {
        str(event.step_key): str(event.step_failure_data.user_failure_data.description)
        for event in result.all_events
        if event.is_step_failure and event.step_failure_data.user_failure_data
    }


def _good() -> list[str]:
    return [name for name in NAMES if name not in BAD]


def test_every_file_has_a_materialisation_with_its_own_facts(bench: Bench) -> None:
    _acquired(bench)
    assert bench.execute_range("thermo1_ingest", NAMES[0], NAMES[-1]).success
    shown = bench.materialised("thermo1", "backup")
    assert sorted(shown) == NAMES
    assert {name: facts["size bytes"] for name, facts in shown.items()} == {
        name: bench.file(name).size for name in NAMES
    }
    checked = bench.checks("thermo1", "backup", "digests_match")
    assert {name: [check.passed for check in found] for name, found in checked.items()} == {
        name: [True] for name in NAMES
    }
    assert {bench.status(name) for name in NAMES} == {Status.DONE_NOT_QUANTED}


def test_a_file_that_fails_marks_its_own_partition_and_stops_no_other(bench: Bench) -> None:
    install_search(bench.config, bench.store)
    _acquired(bench)
    _in_the_way(bench)
    result = bench.execute_range("thermo1_ingest", NAMES[0], NAMES[-1])
    assert not result.success
    for asset in ("backup", "quant_job"):
        assert sorted(bench.materialised("thermo1", asset)) == _good()
    [(step, reported)] = _failures(result).items()
    assert step == "thermo1__quant_job"  # the last one, so that the others' jobs are submitted
    assert "2 of 12 files failed" in reported
    for name in BAD:
        assert f"{name!r}: " in reported
        assert "backup_overwrite_file_id" in reported
        assert bench.status(name) is Status.ERROR
        assert bench.store.jobs.of(name) == []
    assert {bench.status(name) for name in _good()} <= {
        Status.QUANTING,
        Status.QUEUED_FOR_QUANTING,
    }


def test_a_catch_ups_run_plans_no_partition_and_shows_those_that_failed(
    config: KrakenConfig, store: Store, tmp_path: Path
) -> None:
    """Dagster writes an event for each asset of each file when it creates a run; for thousands of
    files that costs as much as all else. The tag of a catch-up's backfill keeps it from that."""
    with new_instance(tmp_path / "dagster") as instance:
        bench = _bench_on(config, store, instance)
        install_search(bench.config, bench.store)
        _acquired(bench)
        _in_the_way(bench)
        tags = {**CATCHUP_TAGS, TAG_INSTRUMENT: "thermo1"}
        result = bench.execute_range("thermo1_ingest", NAMES[0], NAMES[-1], tags=tags)
        planned = [
            record.asset_materialization_planned_data.partition
            for record in (
                item.event_log_entry.get_dagster_event()
                for item in instance.get_records_for_run(result.run_id).records
                if item.event_log_entry.is_dagster_event
            )
            if record.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
        ]
        assert sorted(set(planned)) == [*BAD]
        for asset in ("backup", "quant_job"):
            assert _failed_in_dagit(bench, asset) == {*BAD}
            assert sorted(bench.materialised("thermo1", asset)) == _good()
        checked = bench.checks("thermo1", "backup", "digests_match")
        assert [name for name, found in checked.items() if found] == _good()
        assert all(check.passed for found in checked.values() for check in found)


def _failed_in_dagit(bench: Bench, asset: str) -> set[str]:
    partitions = raw_files("thermo1")
    value = get_and_update_asset_status_cache_value(
        bench.instance, asset_key("thermo1", asset), partitions
    )
    assert value is not None
    with partition_loading_context(dynamic_partitions_store=bench.instance):
        return set(value.deserialize_failed_partition_subsets(partitions).get_partition_keys())


def test_the_failed_ones_succeed_once_the_cause_is_mended(bench: Bench) -> None:
    _acquired(bench)
    _in_the_way(bench)
    assert not bench.execute_range("thermo1_ingest", NAMES[0], NAMES[-1]).success
    _clear_the_way(bench)
    for name in BAD:
        assert bench.execute_range("thermo1_ingest", name, name).success
    assert sorted(bench.materialised("thermo1", "backup")) == NAMES
    assert {bench.status(name) for name in NAMES} == {Status.DONE_NOT_QUANTED}


def test_where_every_file_fails_the_step_itself_fails_and_none_after_it_runs(bench: Bench) -> None:
    _acquired(bench, list(BAD))
    _in_the_way(bench)
    result = bench.execute_range("thermo1_ingest", *BAD)
    assert list(_failures(result)) == ["thermo1__backup"]
    assert bench.materialised("thermo1", "backup") == {}


def test_a_failing_run_lists_the_first_files_and_counts_the_rest(bench: Bench) -> None:
    names = [f"g{number:02d}.raw" for number in range(25)]
    _acquired(bench, names)
    _in_the_way(bench, tuple(names))
    result = bench.execute_range("thermo1_ingest", names[0], names[-1])
    [reported] = _failures(result).values()
    assert sum(line.startswith("'g") for line in reported.splitlines()) == 20
    assert "and 5 more" in reported
    log = bench.log_of(result)
    assert all(f"{name!r}: " in log for name in names)


def test_what_another_run_holds_is_left_alone_and_fails_nothing(bench: Bench) -> None:
    _acquired(bench)
    with bench.held("f05.raw"):
        result = bench.execute_range("thermo1_ingest", NAMES[0], NAMES[-1])
    assert result.success
    assert sorted(bench.materialised("thermo1", "backup")) == [
        name for name in NAMES if name != "f05.raw"
    ]
    assert "Another run works on this file" in bench.log_of(result)


def test_a_damaged_backup_fails_the_check_of_its_own_partition(bench: Bench) -> None:
    _acquired(bench)
    assert bench.execute_range("thermo1_ingest", NAMES[0], NAMES[-1]).success
    copy = bench.services.backup_folder(bench.file("f04.raw")) / "f04.raw"
    copy.write_bytes(copy.read_bytes()[::-1])
    assert not bench.execute_range("thermo1_ingest", NAMES[0], NAMES[-1]).success
    checked = bench.checks("thermo1", "backup", "digests_match")
    newest = {name: found[0].passed for name, found in checked.items()}
    assert newest == {name: name != "f04.raw" for name in NAMES}


def test_no_run_is_requested_for_what_a_live_run_over_many_will_handle(bench: Bench) -> None:
    _acquired(bench)
    run = _queued_over(bench, NAMES[2], NAMES[-1])
    assert {item.partition_key for item in bench.requested("thermo1", ticks=1)} <= {
        NAMES[0],
        NAMES[1],
    }
    bench.instance.report_run_canceled(run)
    wanted = {item.partition_key for item in bench.requested("thermo1", ticks=1)}
    assert wanted & set(NAMES[2:])


def test_new_files_are_requested_beside_a_run_over_many(bench: Bench) -> None:
    _acquired(bench)
    _queued_over(bench, NAMES[0], NAMES[-1])
    raw_file(bench.services.instrument_folder("thermo1"), "new.raw", b"new")
    assert [item.partition_key for item in bench.requested("thermo1")] == ["new.raw"]


def test_a_run_over_many_whose_process_is_gone_holds_up_nothing_for_long(
    config: KrakenConfig, store: Store
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        bench = Bench(hastened(config, lease_s=0.2), store, instance)
        _acquired(bench)
        run = _queued_over(bench, NAMES[0], NAMES[-1], status=dg.DagsterRunStatus.STARTING)
        instance.report_engine_event("started", run)
        bench.start(run)
        found = bench.requested("thermo1", ticks=40, every_s=0.05)
        assert found
        dead = instance.get_run_by_id(run.run_id)
        assert dead is not None
        assert dead.status is dg.DagsterRunStatus.FAILURE
        assert "process is gone" in bench.log_of(dead)


def _queued_over(
    bench: Bench, first: str, last: str, *, status: Any = dg.DagsterRunStatus.NOT_STARTED
) -> dg.DagsterRun:
    """A backfill's run, as it stands in Dagster before anything executes it."""
    return bench.instance.create_run_for_job(
        bench.repository.get_job("thermo1_ingest"),
        status=status,
        tags=bench.range_tags(first, last),
        asset_selection=frozenset({dg.AssetKey(["thermo1", "backup"])}),
    )


def test_hostile_names_are_found_in_ranges(bench: Bench) -> None:
    names = ["new\nline.raw", "dots...dots.raw", "%enc:x.raw", "plain.raw"]
    _acquired(bench, names)
    keys = list(bench.instance.get_dynamic_partitions("thermo1_raw_files"))
    assert sorted(keys) == sorted(map(partition_key, names))
    result = bench.execute_range("thermo1_ingest", keys[0], keys[-1], encoded=True)
    assert result.success
    assert sorted(bench.materialised("thermo1", "backup")) == sorted(keys)


def test_once_mongodb_is_away_the_run_ends_and_what_was_done_is_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    _acquired(bench)
    real, calls = back_up, iter(range(100))

    def stumbling(*args: Any, **options: Any) -> BackupOutcome:
        if next(calls) >= 5:
            time.sleep(0.5)  # as one waits for a server
            raise StoreUnavailable("MongoDB gives no answer", next_step="see to it.")
        return real(*args, **options)

    monkeypatch.setattr("kraken_dagster.backup.defs.back_up", stumbling)
    result = bench.execute_range("thermo1_ingest", NAMES[0], NAMES[-1])
    assert not result.success
    assert "not begun: MongoDB could not be reached" in str(_failures(result))
    done = sorted(name for name in NAMES if bench.file(name).is_backed_up)
    assert len(done) == 5
    assert sorted(bench.materialised("thermo1", "backup")) == done


def test_an_interrupted_run_tells_what_was_done(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    _acquired(bench)
    taken = iter(range(100))
    real = _Batch.take

    def interrupted(self: _Batch, *args: Any) -> None:
        real(self, *args)
        if self.key.path[-1] == "backup" and next(taken) == 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(_Batch, "take", interrupted)
    assert not bench.execute_range("thermo1_ingest", NAMES[0], NAMES[-1]).success
    done = sorted(name for name in NAMES if bench.file(name).is_backed_up)
    assert len(done) >= 7  # and those whose copies ended while the run did
    assert sorted(bench.materialised("thermo1", "backup")) == done
    check = dg.AssetCheckKey(asset_key("thermo1", "backup"), "digests_match")
    reported = bench.instance.event_log_storage.get_asset_check_partition_info([check])
    passed = [it for it in reported if it.latest_execution_status.value == "SUCCEEDED"]
    assert len(passed) == len(done)


def test_a_file_of_which_some_results_are_there_counts_as_materialised(
    config: KrakenConfig, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a file by hand: one of two settings failed, and the metrics of the other are there."""
    real = Done

    def half(reason: str, **options: Any) -> Done:
        failure = dg.Failure("one of two") if BAD[0] in reason else None
        return real(reason, **{"failure": failure, **options})

    monkeypatch.setattr("kraken_dagster.backup.defs.Done", half)
    with new_instance(tmp_path / "dagster") as instance:
        bench = _bench_on(config, store, instance)
        install_search(bench.config, bench.store)
        _acquired(bench)
        tags = {**CATCHUP_TAGS, TAG_INSTRUMENT: "thermo1"}
        bench.execute_range("thermo1_ingest", NAMES[0], NAMES[-1], tags=tags)
        assert sorted(bench.materialised("thermo1", "backup")) == NAMES
        assert _failed_in_dagit(bench, "backup") == set()
