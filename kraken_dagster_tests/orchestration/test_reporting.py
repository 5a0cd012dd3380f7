"""Many events stored together: what Dagster has afterwards, and what when it fails.

On a real PostgreSQL, too.
"""

from typing import Any, cast

import dagster as dg
import pytest
from dagster._check import CheckError

from kraken_dagster.orchestration.event_log import Origin, Planned, report
from kraken_dagster_tests.rebuild.rebuilding import INSTRUMENT, new_instance

pytestmark = pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated")
both_storages = pytest.mark.parametrize("opened", ["SQLite", "PostgreSQL"], indirect=True)


def _events(number: int) -> list:
    key, backup = dg.AssetKey([INSTRUMENT, "raw_file"]), dg.AssetKey([INSTRUMENT, "backup"])
    return [
        dg.AssetMaterialization(key, partition=f"{number}", metadata={"number": number}),
        dg.AssetObservation(key, partition=f"{number}", metadata={"seen": number}),
        dg.AssetMaterialization(backup, partition=f"{number}"),
        dg.AssetCheckEvaluation(
            asset_key=backup,
            check_name="digests_match",
            passed=number % 2 == 0,
            partition=f"{number}",
        ),
    ]


def _content(instance: dg.DagsterInstance) -> list:
    """Everything that Dagit could read of these events, but for times and ids."""
    storage = instance.event_log_storage
    found: list = []
    for name in ("raw_file", "backup"):
        key = dg.AssetKey([INSTRUMENT, name])
        found.append(instance.has_asset_key(key))
        for fetch in (instance.fetch_materializations, instance.fetch_observations):
            found.extend(
                (item.partition_key, item.event_log_entry.dagster_event, item.run_id)
                for item in fetch(key, limit=1000).records
            )
        (asset,) = storage.get_asset_records([key])
        latest = asset.asset_entry.last_materialization
        found.append((latest.dagster_event, asset.asset_entry.last_observation_storage_id is None))
    check = dg.AssetCheckKey(dg.AssetKey([INSTRUMENT, "backup"]), "digests_match")
    found.extend(
        (item.partition, item.status, item.event.dagster_event)
        for item in storage.get_asset_check_execution_history(check, limit=1000)
    )
    return found


@both_storages
def test_many_events_stored_together_are_those_that_dagster_stores_one_by_one(opened, tmp_path):
    events = [event for number in range(70) for event in _events(number)]
    with opened(tmp_path / "one") as one, opened(tmp_path / "many") as many:
        for event in events:
            one.report_runless_asset_event(event)
        report(many, events)
        assert _content(many) == _content(one)


@both_storages
def test_a_backup_is_checked_more_than_once(opened, tmp_path):
    key = dg.AssetKey([INSTRUMENT, "backup"])
    verdicts = [True, False, True]
    checks = [
        dg.AssetCheckEvaluation(
            asset_key=key, check_name="digests_match", passed=passed, partition="a.raw"
        )
        for passed in verdicts
    ]
    check = dg.AssetCheckKey(key, "digests_match")
    with opened(tmp_path / "home") as instance:
        report(instance, checks)
        report(instance, checks[1:2])
        found = instance.event_log_storage.get_asset_check_execution_history(check, limit=10)
    reported = [item.event.dagster_event.asset_check_evaluation_data.passed for item in found]
    assert reported == [False, *reversed(verdicts)]


def test_of_events_that_can_not_be_stored_together_none_is_there(tmp_path):
    no_event = cast(Any, "no event")
    with new_instance(tmp_path / "home") as instance:
        with pytest.raises(CheckError):
            report(instance, [*_events(1), no_event])
        found = instance.fetch_materializations(dg.AssetKey([INSTRUMENT, "raw_file"]), limit=10)
        assert found.records == []
        report(instance, _events(1))
        assert "1" in instance.get_materialized_partitions(dg.AssetKey([INSTRUMENT, "raw_file"]))


@both_storages
def test_a_runs_events_are_those_of_the_run(opened, tmp_path):
    key = dg.AssetKey([INSTRUMENT, "backup"])
    run_id = "11111111-1111-4111-8111-111111111111"
    events = [event for number in range(3) for event in _events(number)]
    events += [Planned(key, "failed"), Planned(key, "failed as well")]
    with opened(tmp_path / "home") as instance:
        report(instance, events, Origin(run_id, "a_job", "a_step"))
        entries = [
            item.event_log_entry for item in instance.get_records_for_run(run_id, limit=100).records
        ]
        assert {(item.job_name, item.step_key, item.run_id) for item in entries} == {
            ("a_job", "a_step", run_id)
        }
        assert len(entries) == len(events)
        assert instance.get_materialized_partitions(key) == {"0", "1", "2"}
        attempts = instance.event_log_storage
        left = attempts.get_latest_asset_partition_materialization_attempts_without_materializations
        assert {name: reported[0] for name, reported in left(key).items()} == {
            "failed": run_id,
            "failed as well": run_id,
        }
        check = dg.AssetCheckKey(key, "digests_match")
        history = attempts.get_asset_check_execution_history(check, limit=10)
        assert {(item.partition, item.run_id) for item in history} == {
            (f"{number}", run_id) for number in range(3)
        }
