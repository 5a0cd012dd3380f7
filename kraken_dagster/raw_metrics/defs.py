"""The asset `raw_metrics`: metrics and traces from the raw file itself, right after its backup."""

import dagster as dg

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.raw_metrics import RawMetricsStatus
from kraken_dagster.orchestration.file_runs.file_assets import file_asset
from kraken_dagster.orchestration.file_runs.outcomes import Check, Done, Work
from kraken_dagster.orchestration.metadata import (
    catalogue_metadata,
    index_metadata,
    plots_metadata,
    raw_metrics_metadata,
)
from kraken_dagster.orchestration.partitions import (
    BACKUP,
    INDEX_COMPLETE,
    RAW_METRICS,
    asset_key,
)
from kraken_dagster.raw_metrics.measure import RawOutcome, measure
from kraken_dagster.runtime.services import Services


def raw_metrics_asset(config: KrakenConfig, instrument_id: str) -> dg.AssetsDefinition:
    backup_key = asset_key(instrument_id, BACKUP)

    def measured_in(_context: dg.AssetExecutionContext, services: Services) -> Work:
        return lambda raw_file_id: _done(measure(services, raw_file_id), backup_key)

    return file_asset(
        config,
        instrument_id,
        RAW_METRICS,
        measured_in,
        after=BACKUP,
        description="Metrics and traces from the raw file itself, read from its backup.",
        metadata={
            **plots_metadata(config.alerts.page_url, instrument_id),
            **catalogue_metadata("raw"),
        },
    )


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
            state, outcome.metrics, outcome.provenance, traces=outcome.traces
        ),
        checks=(check,),
        checks_of=backup_key,
        unusual=not state.is_sound,
    )
