"""The asset `metrics`: figures from the results, in MongoDB and plotted by Dagit."""

from collections.abc import Iterator

import dagster as dg

from kraken_dagster.assets.common import make_world
from kraken_dagster.assets.metadata import figures_metadata
from kraken_dagster.domain.config import KrakenConfig
from kraken_dagster.domain.quant import failed_details
from kraken_dagster.failures import NothingToDo, dagster_errors, raw_file_of
from kraken_dagster.partitions import METRICS, QUANT_RESULT, asset_key, raw_files
from kraken_dagster.steps.collect import CollectOutcome, collect
from resources.cluster import ClusterResource
from resources.storage import StorageResource
from resources.store import StoreResource


def metrics_asset(config: KrakenConfig, instrument_id: str) -> dg.AssetsDefinition:
    @dg.asset(
        key=asset_key(instrument_id, METRICS),
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
    ) -> Iterator[dg.MaterializeResult]:
        try:
            with dagster_errors():
                world = make_world(config, store, cluster, storage)
                outcome = collect(world, raw_file_of(context), run_id=context.run.run_id)
        except NothingToDo as reason:
            context.log.warning(str(reason))
            return
        context.log.info(f"{outcome.raw_file.id!r}: {outcome.reason}")
        if outcome.provenance:
            metadata = figures_metadata(outcome.raw_file, outcome.figures, outcome.provenance)
            yield dg.MaterializeResult(metadata=metadata)
        if outcome.failures:
            raise dg.Failure(
                description=failed_details(outcome.failures),
                metadata=_log_tails(outcome),
                allow_retries=False,
            )

    return metrics


def _log_tails(outcome: CollectOutcome) -> dict[str, dg.MetadataValue]:
    failed = {name for name, _ in outcome.failures}
    return {
        f"{job.settings_name} log": dg.MetadataValue.md(f"```\n{job.log_tail}\n```")
        for job in outcome.jobs
        if job.settings_name in failed and job.log_tail
    }
