"""The asset `metrics`: metrics from the results, in MongoDB and plotted by Dagit."""

import dagster as dg

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.errors import BackupDamaged
from kraken_dagster.model.jobs.job import failed_details
from kraken_dagster.orchestration.file_runs.file_assets import file_asset
from kraken_dagster.orchestration.file_runs.outcomes import Check, Done, Work
from kraken_dagster.orchestration.metadata import (
    catalogue_metadata,
    log,
    metrics_metadata,
    plots_metadata,
    text,
)
from kraken_dagster.orchestration.partitions import (
    BACKUP,
    DIGESTS_MATCH,
    METRICS,
    QUANT_RESULT,
    asset_key,
)
from kraken_dagster.quant.collect import CollectOutcome, collect
from kraken_dagster.runtime.services import Services


def metrics_asset(config: KrakenConfig, instrument_id: str) -> dg.AssetsDefinition:
    return file_asset(
        config,
        instrument_id,
        METRICS,
        _collected_in,
        after=QUANT_RESULT,
        description="Quality metrics of a raw file, by settings.",
        metadata={
            **plots_metadata(config.alerts.page_url, instrument_id),
            **catalogue_metadata("alphadia", "diann", "msqc", "skyline"),
        },
    )


def _collected_in(context: dg.AssetExecutionContext, services: Services) -> Work:
    def collected(raw_file_id: str) -> Done:
        outcome = collect(services, raw_file_id, run_id=context.run.run_id)
        metadata = None
        if outcome.provenance:
            metadata = metrics_metadata(outcome.raw_file, outcome.metrics, outcome.provenance)
        failed = outcome.failures or outcome.damage
        parts = [outcome.reason, *([outcome.note] if outcome.note else [])]
        return Done(
            f"{outcome.raw_file.id!r}: {'; '.join(parts)}",
            metadata=metadata,
            checks=(_failed_check(outcome.damage),) if outcome.damage else (),
            checks_of=asset_key(outcome.raw_file.instrument_id, BACKUP),
            failure=_failure(outcome) if failed else None,
            unusual=outcome.note is not None,
        )

    return collected


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
