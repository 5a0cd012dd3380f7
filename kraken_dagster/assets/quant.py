"""The assets `quant_job` (jobs are submitted) and `quant_result` (jobs have ended)."""

from collections.abc import Iterator

import dagster as dg

from kraken_dagster.assets.common import asked_by_hand, make_world
from kraken_dagster.assets.metadata import ended_metadata, submitted_metadata
from kraken_dagster.domain.config import KrakenConfig, OutputExistsMode
from kraken_dagster.failures import NothingToDo, dagster_errors, raw_file_of
from kraken_dagster.partitions import (
    BACKUP,
    QUANT_JOB,
    QUANT_RESULT,
    asset_key,
    raw_files,
    slots_of_all_engines,
)
from kraken_dagster.steps.collect import results_of
from kraken_dagster.steps.quant import submit_jobs
from resources.cluster import ClusterResource
from resources.storage import StorageResource
from resources.store import StoreResource


def quant_job_asset(config: KrakenConfig, instrument_id: str) -> dg.AssetsDefinition:
    defaults = config.instrument(instrument_id)

    class QuantConfig(dg.Config):
        output_exists_mode: OutputExistsMode = defaults.output_exists_mode
        debug_no_cluster_ssh: bool = defaults.debug_no_cluster_ssh

    @dg.asset(
        key=asset_key(instrument_id, QUANT_JOB),
        deps=[asset_key(instrument_id, BACKUP)],
        group_name=instrument_id,
        partitions_def=raw_files(instrument_id),
        output_required=False,
        description="The processing jobs of a raw file, one for each settings that apply.",
    )
    def quant_job(
        context: dg.AssetExecutionContext,
        config: QuantConfig,
        store: dg.ResourceParam[StoreResource],
        cluster: dg.ResourceParam[ClusterResource],
        storage: dg.ResourceParam[StorageResource],
    ) -> Iterator[dg.MaterializeResult]:
        try:
            with dagster_errors():
                outcome = submit_jobs(
                    make_world(kraken_config, store, cluster, storage),
                    raw_file_of(context),
                    run_id=context.run.run_id,
                    slots=slots_of_all_engines(context.instance, kraken_config),
                    output_exists_mode=config.output_exists_mode,
                    no_cluster=config.debug_no_cluster_ssh,
                    by_hand=asked_by_hand(context),
                )
        except NothingToDo as reason:
            context.log.warning(str(reason))
            return
        context.log.info(f"{outcome.raw_file.id!r}: {outcome.reason}")
        if outcome.submitted:
            yield dg.MaterializeResult(
                metadata=submitted_metadata(outcome.submitted, state=outcome.reason)
            )

    kraken_config = config
    return quant_job


def quant_result_asset(config: KrakenConfig, instrument_id: str) -> dg.AssetsDefinition:
    @dg.asset(
        key=asset_key(instrument_id, QUANT_RESULT),
        deps=[asset_key(instrument_id, QUANT_JOB)],
        group_name=instrument_id,
        partitions_def=raw_files(instrument_id),
        output_required=False,
        description="What the jobs left in the output folder.",
    )
    def quant_result(
        context: dg.AssetExecutionContext,
        store: dg.ResourceParam[StoreResource],
        cluster: dg.ResourceParam[ClusterResource],
        storage: dg.ResourceParam[StorageResource],
    ) -> Iterator[dg.MaterializeResult]:
        with dagster_errors():
            world = make_world(config, store, cluster, storage)
            results, missing = results_of(world, raw_file_of(context))
        if missing:
            context.log.warning(f"Not everything is there yet: {missing}")
        if not results:
            return
        metadata = {
            **ended_metadata([item.job for item in results]),
            "files": dg.MetadataValue.int(sum(item.files for item in results)),
            "size bytes": dg.MetadataValue.int(sum(item.size_bytes for item in results)),
        }
        yield dg.MaterializeResult(metadata=metadata)

    return quant_result
