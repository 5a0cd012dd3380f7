"""The asset `metrics`: figures from the results, in MongoDB and plotted by Dagit."""

import dagster as dg

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.errors import BackupDamaged
from kraken_dagster.model.jobs.job import failed_details
from kraken_dagster.orchestration.asset_services import make_services
from kraken_dagster.orchestration.failures import dagster_errors
from kraken_dagster.orchestration.file_batches import (
    Check,
    Done,
    Events,
    for_each_file,
    for_many_at_once,
)
from kraken_dagster.orchestration.metadata import figures_metadata, log, text
from kraken_dagster.orchestration.partitions import (
    BACKUP,
    DIGESTS_MATCH,
    METRICS,
    QUANT_RESULT,
    asset_key,
    raw_files,
)
from kraken_dagster.orchestration.run_config import require_understood
from kraken_dagster.quant.collect import CollectOutcome, collect
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
        require_understood(context, config)
        with dagster_errors():
            services = make_services(config, store, cluster, storage)

        def collected(raw_file_id: str) -> Done:
            outcome = collect(services, raw_file_id, run_id=context.run.run_id)
            metadata = None
            if outcome.provenance:
                metadata = figures_metadata(outcome.raw_file, outcome.figures, outcome.provenance)
            failed = outcome.failures or outcome.damage
            parts = [outcome.reason, *([outcome.note] if outcome.note else [])]
            return Done(
                f"{outcome.raw_file.id!r}: {'; '.join(parts)}",
                metadata=metadata,
                checks=(_failed_check(outcome.damage),) if outcome.damage else (),
                checks_of=asset_key(instrument_id, BACKUP),
                failure=_failure(outcome) if failed else None,
                unusual=outcome.note is not None,
            )

        threads = config.instrument(instrument_id).catchup_threads
        yield from for_each_file(context, key, services, collected, threads=threads)

    return for_many_at_once(metrics)


def _failed_check(damage: BackupDamaged) -> Check:
    return Check(DIGESTS_MATCH, False, {"what was found": text(str(damage))})


def _failure(outcome: CollectOutcome) -> dg.Failure:
    reported = [str(outcome.damage)] if outcome.damage else []
    reported += [failed_details(outcome.failures)] if outcome.failures else []
    return dg.Failure(
        description="\n".join(reported),
        metadata=_log_tails(outcome),
        allow_retries=False,
    )


def _log_tails(outcome: CollectOutcome) -> dict[str, dg.MetadataValue]:
    failed = {name for name, _ in outcome.failures}
    return {
        f"{job.settings_name} log": log(job.log_tail)
        for job in outcome.jobs
        if job.settings_name in failed and job.log_tail
    }
