"""What N files of one instrument cost in Dagster: a tick, Dagit's asset page, a backfill.

    python benchmarks/partitions.py 1000 10000 100000

Each number is a laboratory of its own: the embedded server, and Dagster's storage in SQLite as
`kraken up` makes it, where `metrics` is materialised for every file. Dagit's queries go through its
schema in this process, with a workspace as the web server has it; the backfill is launched, not
run. Wall seconds; "warm" is the same query once more.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster_graphql.test.utils import execute_dagster_graphql
from many_files import INSTRUMENT, fill, make_services, name_of

from kraken_dagster.definitions import build_defs
from kraken_dagster.operations.dagster_home import prepare_dagster
from kraken_dagster.orchestration.event_log import add_partitions, report
from kraken_dagster.orchestration.partitions import METRICS, asset_key
from kraken_dagster.rebuild.retire_defs import retire
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.embedded.server import ensure_running
from kraken_dagster_tests.support.helpers import database_uri

_COUNTS = """
query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
  partitionStats { numMaterialized numPartitions numFailed numMaterializing } } } }
"""
_KEYS = """
query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
  partitionKeysByDimension { partitionKeys }
  assetPartitionStatuses { ... on DefaultPartitionStatuses {
    materializedPartitions unmaterializedPartitions failedPartitions } } } } }
"""
_EVENTS = """
query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
  assetMaterializations(limit: 100) { partition timestamp metadataEntries { label } } } } }
"""
_BACKFILL = """
mutation ($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }
"""
_AT_ONCE = 100
_ADDED_AT_ONCE = 500


def seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def add_to_dagster(instance: dg.DagsterInstance, files: int) -> None:
    """The partitions, and a materialisation of `metrics` for each."""
    metadata = {f"metric_{number}": float(number) for number in range(25)}
    key = asset_key(INSTRUMENT, METRICS)
    for start in range(0, files, _ADDED_AT_ONCE):
        names = [name_of(number) for number in range(start, min(start + _ADDED_AT_ONCE, files))]
        add_partitions(instance, INSTRUMENT, names)
        events = [dg.AssetMaterialization(key, partition=name, metadata=metadata) for name in names]
        report(instance, events)


def tick(services: Services, instance: dg.DagsterInstance) -> float:
    """A tick of the watcher at an empty folder, with every file known and done."""
    repository = build_defs(services.config).get_repository_def()
    name = f"{INSTRUMENT}_watcher"

    def evaluate() -> None:
        context = dg.build_sensor_context(
            instance=instance,
            repository_def=repository,
            sensor_name=name,
            resources=repository.get_top_level_resources(),
        )
        with context, partition_loading_context(dynamic_partitions_store=instance):
            repository.get_sensor_def(name).evaluate_tick(context)

    evaluate()
    return seconds(evaluate)


def asked(context: WorkspaceProcessContext, query: str, variables: dict[str, Any]) -> Any:
    result = execute_dagster_graphql(context.create_request_context(), query, variables)
    assert not result.errors, result.errors
    return result.data


def dagit(context: WorkspaceProcessContext) -> dict[str, float]:
    key = {"key": {"path": [INSTRUMENT, "metrics"]}}
    found: dict[str, float] = {}
    for name, query in (("counts", _COUNTS), ("partitions", _KEYS), ("events", _EVENTS)):
        found[f"{name}, cold"] = seconds(lambda query=query: asked(context, query, key))
        found[f"{name}, warm"] = seconds(lambda query=query: asked(context, query, key))
    return found


def backfill(context: WorkspaceProcessContext, keys: list[str]) -> float:
    params = {
        "assetSelection": [{"path": [INSTRUMENT, "metrics"]}],
        "partitionNames": keys,
        "fromFailure": False,
    }

    def launch() -> None:
        data = asked(context, _BACKFILL, {"params": params})
        assert data["launchPartitionBackfill"]["__typename"] == "LaunchBackfillSuccess", data

    return seconds(launch)


def measured(folder: Path, files: int) -> dict[str, float]:
    server = ensure_running(folder / "mongodb")
    try:
        uri = database_uri(server.uri, "benchmark")
        services = make_services(folder, uri, partition_window_days=36_500)
        fill(uri, files)
        path, home = folder / "instruments.yaml", folder / "home" / "dagster"
        path.write_text(yaml.safe_dump(services.config.model_dump(mode="json", exclude_unset=True)))
        os.environ["KRAKEN_CONFIG"] = str(path)
        prepare_dagster(home, services.config, path)
        with dg.DagsterInstance.from_config(str(home)) as instance:
            add_to_dagster(instance, files)
            found = {"tick of the watcher": tick(services, instance)}
            name = f"{INSTRUMENT}_raw_files"
            found["reading all partition keys"] = seconds(
                lambda: instance.get_dynamic_partitions(name)
            )
            found["asking for one partition"] = seconds(
                lambda: instance.has_dynamic_partition(name, name_of(0))
            )
            found["retiring none"] = seconds(lambda: retire(services, instance, INSTRUMENT))
            target = ModuleTarget(
                module_name="kraken_dagster.definitions",
                attribute=None,
                working_directory=None,
                location_name="kraken",
            )
            with WorkspaceProcessContext(instance, target) as context:
                found |= dagit(context)
                some = [name_of(number) for number in range(min(_AT_ONCE, files))]
                found[f"launching a backfill of {_AT_ONCE}"] = backfill(context, some)
                everything = [name_of(number) for number in range(files)]
                found["launching a backfill of all"] = backfill(context, everything)
    finally:
        server.stop()
    return found


def main() -> None:
    counts = [int(item) for item in sys.argv[1:]] or [1000, 10_000]
    columns: list[dict[str, float]] = []
    for files in counts:
        with tempfile.TemporaryDirectory() as name:
            columns.append(measured(Path(name), files))
            print(
                f"{files} files:", {key: round(s, 3) for key, s in columns[-1].items()}, flush=True
            )
    print(f"{'seconds':32}", *(f"{files:>10}" for files in counts), f"{'ratio':>8}")
    for key in columns[0]:
        values = [column[key] for column in columns]
        ratio = values[-1] / values[0] if values[0] else 0.0
        print(f"{key:32}", *(f"{value:10.3f}" for value in values), f"{ratio:8.1f}")


if __name__ == "__main__":
    main()
