"""The asset `metrics`: figures from the results, in MongoDB and plotted by Dagit."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import dagster as dg

from kraken_dagster.assets.common import make_world
from kraken_dagster.assets.many import Done, Events, for_each_file, for_many_at_once
from kraken_dagster.domain.config import KrakenConfig
from kraken_dagster.domain.quant import failed_details
from kraken_dagster.failures import dagster_errors
from kraken_dagster.partitions import METRICS, QUANT_RESULT, asset_key, raw_files
from kraken_dagster.steps.collect import CollectOutcome, collect
from resources.cluster import ClusterResource
from resources.storage import StorageResource
from resources.store import StoreResource


def metrics_asset(config: KrakenConfig, instrument_id: str) -> dg.AssetsDefinition:
    key = asset_key(instrument_id, METRICS)

    @dg.asset(
        key=key,
        deps=[asset_key(instrument_id, QUANT_RESULT)],
        group_name=instrument_id,
        partitions_def=raw_files(instrument_id),
        output_required=False,
        description="Quality figures of a raw file, by settings.",
    )
    def metrics(
        context: dg.AssetExecutionContext,
        store: dg.ResourceParam[StoreResource],
        cluster: dg.ResourceParam[ClusterResource],
        storage: dg.ResourceParam[StorageResource],
    ) -> Events:
        with dagster_errors():
            world = make_world(config, store, cluster, storage)

        def collected(raw_file_id: str) -> Done:
            outcome = collect(world, raw_file_id, run_id=context.run.run_id)
            return Done(
                f"{outcome.raw_file.id!r}: {outcome.reason}",
                metadata=_figures_metadata(outcome) if outcome.provenance else None,
                failure=_failure(outcome) if outcome.failures else None,
            )

        threads = config.instrument(instrument_id).catchup_threads
        yield from for_each_file(context, key, world, collected, threads=threads)

    return for_many_at_once(metrics)


def _failure(outcome: CollectOutcome) -> dg.Failure:
    return dg.Failure(
        description=failed_details(outcome.failures),
        metadata=_log_tails(outcome),
        allow_retries=False,
    )


def _figures_metadata(outcome: CollectOutcome) -> dict[str, dg.MetadataValue]:
    """Numbers as numbers, so that Dagit plots each over the partitions.

    With one settings a figure has its own name, with several the settings' name in front.
    """
    several = len(outcome.figures) > 1
    metadata: dict[str, dg.MetadataValue] = {
        "status": dg.MetadataValue.text(outcome.raw_file.status.value)
    }
    for settings, figures in outcome.figures.items():
        for name, value in figures.items():
            key = f"{settings}: {name}" if several else name
            if isinstance(value, bool | str):
                metadata[key] = dg.MetadataValue.text(str(value))
            elif value is not None and math.isfinite(value):
                metadata[key] = dg.MetadataValue.float(float(value))
    for settings, origin in outcome.provenance.items():
        metadata[f"{settings} provenance"] = dg.MetadataValue.json(_as_json(origin))
    return metadata


def _as_json(value: Any) -> Any:
    """Plain values, with times as ISO 8601."""
    if isinstance(value, Mapping):
        return {key: _as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    return value.isoformat() if isinstance(value, datetime) else value


def _log_tails(outcome: CollectOutcome) -> dict[str, dg.MetadataValue]:
    failed = {name for name, _ in outcome.failures}
    return {
        f"{job.settings_name} log": dg.MetadataValue.md(f"```\n{job.log_tail}\n```")
        for job in outcome.jobs
        if job.settings_name in failed and job.log_tail
    }
