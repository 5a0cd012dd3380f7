"""The op that reads backups again whose last proof is too old."""

from collections.abc import Iterator
from datetime import timedelta

import dagster as dg
from pydantic import Field

from kraken_dagster.backup.scrub import Verification, scrub_due, verify_all
from kraken_dagster.backup.verify import PROOFS, Verdict, VerifyOutcome
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.fs.rate_limit import RateLimit
from kraken_dagster.model.files.file_ids import partition_key
from kraken_dagster.orchestration.exclusive_ops import alone, fail
from kraken_dagster.orchestration.failures import dagster_errors
from kraken_dagster.orchestration.metadata import text
from kraken_dagster.orchestration.partitions import BACKUP, DIGESTS_MATCH, asset_key
from kraken_dagster.runtime.exclusive_runs import scrub_of
from kraken_dagster.runtime.services import Services
from resources.kraken import KrakenResource


def scrub_op(config: KrakenConfig) -> dg.OpDefinition:
    kraken_config = config

    class ScrubConfig(dg.Config):
        """What is left open is taken from instruments.yaml."""

        scrub_every_days: float | None = Field(default=None, gt=0, allow_inf_nan=False)
        scrub_mb_per_s: float = Field(
            default=config.defaults.scrub_mb_per_s, gt=0, allow_inf_nan=False
        )

    @dg.op(
        name="scrub_backups",
        out=dg.Out(dg.Nothing),
        description="Reads the backups again whose last proof is too old, the oldest first.",
    )
    def scrub_backups(
        context: dg.OpExecutionContext,
        config: ScrubConfig,
        kraken: dg.ResourceParam[KrakenResource],
    ) -> Iterator[dg.AssetCheckEvaluation]:
        with dagster_errors():
            services = kraken.create_services(kraken_config)
        wrong: list[str] = []
        scrub = scrub_of(kraken_config.suffix)
        with alone(context, services, scrub, kraken_config.defaults.lease_s) as ours:
            if not ours:
                return
            with dagster_errors():
                chosen = _due_until_tomorrow(services, config.scrub_every_days)
                rate_limit = RateLimit(config.scrub_mb_per_s)
                yield from _scrubbed(context, services, chosen, rate_limit, wrong)
        fail(wrong)

    return scrub_backups


def _scrubbed(
    context: dg.OpExecutionContext,
    services: Services,
    chosen: Verification,
    rate_limit: RateLimit,
    wrong: list[str],
) -> Iterator[dg.AssetCheckEvaluation]:
    context.log.info(f"{len(chosen.todo)} backups are due")
    for outcome in verify_all(services, chosen, run_id=context.run.run_id, rate_limit=rate_limit):
        context.log.info(f"{outcome.raw_file_id!r}: {outcome.reason}")
        if outcome.verdict in (Verdict.MISMATCH, Verdict.UNREADABLE):
            wrong.append(f"{outcome.raw_file_id!r}: {outcome.reason}")
        if outcome.verdict in PROOFS:
            file = services.store.raw_files.get(outcome.raw_file_id)
            yield from verified(file.instrument_id, outcome)


def _due_until_tomorrow(services: Services, every_days: float | None) -> Verification:
    """What must be read before the schedule comes again, a day later."""
    now = services.now()
    due = scrub_due(services, now + timedelta(days=1), every_days)
    todo = tuple(item.raw_file_id for item in due)
    return Verification(scrub_of(services.config.suffix), began_at=now, todo=todo, resumed=False)


def verified(instrument_id: str, outcome: VerifyOutcome) -> Iterator[dg.AssetCheckEvaluation]:
    """The check of the backup that was read, if that told anything."""
    if outcome.verdict not in PROOFS:
        return
    yield dg.AssetCheckEvaluation(
        asset_key=asset_key(instrument_id, BACKUP),
        check_name=DIGESTS_MATCH,
        passed=outcome.verdict is Verdict.VERIFIED,
        partition=partition_key(outcome.raw_file_id),
        metadata={
            "what was found": text(outcome.reason),
            "files": dg.MetadataValue.int(outcome.files),
            "bytes": dg.MetadataValue.int(outcome.size_bytes),
        },
    )
