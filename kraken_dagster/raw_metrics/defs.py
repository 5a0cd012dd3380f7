"""The asset `raw_metrics`: figures and traces from the raw file itself, right after its backup."""

import dagster as dg

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.raw_metrics import RawMetricsStatus
from kraken_dagster.orchestration.asset_services import make_services
from kraken_dagster.orchestration.failures import dagster_errors
from kraken_dagster.orchestration.file_batches import (
    Check,
    Done,
    Events,
    for_each_file,
    for_many_at_once,
)
from kraken_dagster.orchestration.metadata import index_metadata, raw_metrics_metadata
from kraken_dagster.orchestration.partitions import (
    BACKUP,
    INDEX_COMPLETE,
    RAW_METRICS,
    asset_key,
    raw_files,
)
from kraken_dagster.orchestration.run_config import require_understood
from kraken_dagster.raw_metrics.measure import RawOutcome, measure
from resources.cluster import ClusterResource
from resources.storage import StorageResource
from resources.store import StoreResource


def raw_metrics_asset(config: KrakenConfig, instrument_id: str) -> dg.AssetsDefinition:
    key = asset_key(instrument_id, RAW_METRICS)
    backup_key = asset_key(instrument_id, BACKUP)

    @dg.asset(
        key=key,
        deps=[backup_key],
        group_name=instrument_id,
        partitions_def=raw_files(instrument_id),
        output_required=False,
        description="Figures and traces from the raw file itself, read from its backup.",
    )
    def raw_metrics(
        context: dg.AssetExecutionContext,
        store: dg.ResourceParam[StoreResource],
        cluster: dg.ResourceParam[ClusterResource],
        storage: dg.ResourceParam[StorageResource],
    ) -> Events:
        require_understood(context, config)
        with dagster_errors():
            services = make_services(config, store, cluster, storage)

        def measured(raw_file_id: str) -> Done:
            return _done(measure(services, raw_file_id), backup_key)

        threads = config.instrument(instrument_id).catchup_threads
        yield from for_each_file(context, key, services, measured, threads=threads)

    return for_many_at_once(raw_metrics)


def _done(outcome: RawOutcome, backup_key: dg.AssetKey) -> Done:
    """A file that can't be read fails no run: its check says so, and its document."""
    state, reported = outcome.state, f"{outcome.raw_file.id!r}: {outcome.reason}"
    check = Check(
        INDEX_COMPLETE, state is None or state.is_sound, index_metadata(state, outcome.reason)
    )
    if state is None or state.status is not RawMetricsStatus.DONE:
        return Done(reported, unusual=True, checks=(check,), checks_of=backup_key)
    return Done(
        reported,
        metadata=raw_metrics_metadata(
            state, outcome.figures, outcome.provenance, traces=outcome.traces
        ),
        checks=(check,),
        checks_of=backup_key,
        unusual=not state.is_sound,
    )
