"""The ops of a raw file's life after its backup: archived, purged, its backup read again.

They work on many files in one run, so they are no assets; what became of each file is an
observation of its `raw_file`, or a check of its `backup`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import dagster as dg
from pydantic import Field

from kraken_dagster.backup.verify import Verdict, VerifyOutcome
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.errors import KrakenError
from kraken_dagster.model.files.file_ids import partition_key
from kraken_dagster.model.raw_file import InstrumentFileStatus
from kraken_dagster.orchestration.exclusive_ops import alone, fail
from kraken_dagster.orchestration.failures import dagster_errors
from kraken_dagster.orchestration.metadata import text
from kraken_dagster.orchestration.partitions import (
    RAW_FILE,
    asset_key,
    op_name,
)
from kraken_dagster.retention.archiving.archive import ArchiveOptions, MoveOutcome, archive
from kraken_dagster.retention.archiving.compare import compare_changed
from kraken_dagster.retention.purge import PurgeOutcome, purge
from kraken_dagster.retention.purge_plan import PurgeOptions, PurgePlan, plan
from kraken_dagster.retention.purge_record import Purged
from kraken_dagster.retention.scrub_defs import verified
from kraken_dagster.runtime.exclusive_runs import archive_of, purge_of
from kraken_dagster.runtime.services import Services
from resources.kraken import KrakenResource


def archive_op(config: KrakenConfig, instrument_id: str) -> dg.OpDefinition:
    kraken_config, defaults = config, ArchiveOptions.of(config.instrument(instrument_id))

    class ArchiveConfig(dg.Config):
        move_files: bool = defaults.move_files
        move_failed: bool = defaults.move_failed
        file_move_delay_m: float = defaults.file_move_delay_m

    @dg.op(
        name=op_name(instrument_id, "archive"),
        out=dg.Out(dg.Nothing),
        description=f"Moves backed up files of {instrument_id} into its Backup folder.",
    )
    def archive_files(
        context: dg.OpExecutionContext,
        config: ArchiveConfig,
        kraken: dg.ResourceParam[KrakenResource],
    ) -> Iterator[dg.AssetObservation]:
        options = ArchiveOptions(**config.model_dump())
        with dagster_errors():
            services = kraken.create_services(kraken_config)
        lease_s = services.instrument(instrument_id).lease_s
        with alone(context, services, archive_of(instrument_id), lease_s) as ours:
            if not ours:
                return
            with dagster_errors():
                run_id = context.run.run_id
                outcomes = compare_changed(services, instrument_id, run_id=run_id)
                outcomes += archive(services, instrument_id, run_id=run_id, options=options)
            context.log.info(options.off or f"{len(outcomes)} files were due")
            for outcome in outcomes:
                context.log.info(f"{outcome.raw_file.id!r}: {outcome.reason}")
                if _is_news(outcome):
                    yield _moved(instrument_id, outcome)
        fail([f"{it.raw_file.id!r}: {it.reason}" for it in outcomes if it.is_refusal])

    return archive_files


def _is_news(outcome: MoveOutcome) -> bool:
    """Not what is put off: it is tried again, and again."""
    stands_there = outcome.raw_file.instrument_file_status is InstrumentFileStatus.INITIAL
    return not stands_there or outcome.is_refusal


def _moved(instrument_id: str, outcome: MoveOutcome) -> dg.AssetObservation:
    raw_file = outcome.raw_file
    metadata: dict[str, dg.MetadataValue] = {
        "on the instrument": text(str(raw_file.instrument_file_status)),
        "archived": dg.MetadataValue.bool(outcome.moved),
        "what was done": text(outcome.reason),
    }
    if outcome.renamed:
        metadata["second copies"] = dg.MetadataValue.json(list(outcome.renamed))
    return _observation(instrument_id, raw_file.id, metadata)


@contextmanager
def _noted(context: dg.OpExecutionContext, instrument_id: str, wrong: list[str]) -> Iterator[None]:
    """What goes wrong with an instrument is told at the end, and stops no other."""
    try:
        yield
    except KrakenError as error:
        wrong.append(f"{instrument_id}: {error}")
    except Exception as error:
        context.log.exception(f"{instrument_id}: unexpected error")
        wrong.append(
            f"{instrument_id}: {type(error).__name__}: {error}. Next: see in this run's "
            "log where; no other instrument is touched, and the schedule tries again."
        )


class PurgeConfig(dg.Config):
    """What is left open is taken from each instrument in instruments.yaml."""

    instruments: list[str] = Field(default_factory=list)
    dry_run: bool = False
    min_free_space_gb: float | None = Field(default=None, allow_inf_nan=False)
    min_file_age_to_remove_in_days: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    remove_files: bool | None = None
    purge_needs_complete_index: bool | None = None


def purge_op(config: KrakenConfig) -> dg.OpDefinition:
    kraken_config = config

    @dg.op(
        name="purge_instruments",
        out=dg.Out(dg.Nothing),
        description="Deletes the oldest files that were archived, where space is short.",
    )
    def purge_instruments(
        context: dg.OpExecutionContext,
        config: PurgeConfig,
        kraken: dg.ResourceParam[KrakenResource],
    ) -> Iterator[dg.AssetObservation | dg.AssetCheckEvaluation]:
        with dagster_errors():
            services = kraken.create_services(kraken_config)
        given = config.model_dump(exclude={"instruments", "dry_run"}, exclude_none=True)
        wrong: list[str] = []
        for instrument_id in config.instruments or list(kraken_config.instruments):
            if instrument_id not in kraken_config.instruments:
                wrong.append(f"{instrument_id}: no such instrument here")
                continue
            options = replace(PurgeOptions.of(services.instrument(instrument_id)), **given)
            with _noted(context, instrument_id, wrong):
                if config.dry_run:
                    _planned(context, services, instrument_id, options)
                else:
                    yield from _purged(context, services, instrument_id, options, wrong)
        fail(wrong)

    return purge_instruments


def _planned(
    context: dg.OpExecutionContext,
    services: Services,
    instrument_id: str,
    options: PurgeOptions,
) -> None:
    found = plan(services, instrument_id, now=services.now(), options=options)
    context.log.info(f"{instrument_id}, dry run: {_plan_in_words(found)}")
    for item in found.to_delete:
        context.log.info(f"{instrument_id}: would delete {item.raw_file_id!r}, {item.size_bytes} B")
    for kept in found.kept:
        context.log.info(f"{instrument_id}: would keep {kept.raw_file_id!r}: {kept.reason}")


def _plan_in_words(found: PurgePlan) -> str:
    if found.reason is not None:
        return f"nothing is purged: {found.reason}"
    enough = "enough" if found.enough else "NOT enough"
    not_now = "" if found.obstacle is None else f", but not now: {found.obstacle}"
    return (
        f"{found.free_bytes} B are free, {found.wanted_bytes} B shall be; "
        f"{len(found.to_delete)} files of {found.freed_bytes} B would be deleted, {enough}{not_now}"
    )


def _purged(
    context: dg.OpExecutionContext,
    services: Services,
    instrument_id: str,
    options: PurgeOptions,
    wrong: list[str],
) -> Iterator[dg.AssetObservation | dg.AssetCheckEvaluation]:
    lease_s = services.instrument(instrument_id).lease_s
    with alone(context, services, purge_of(instrument_id), lease_s) as ours:
        if not ours:
            return
        outcome = purge(services, instrument_id, run_id=context.run.run_id, options=options)
    context.log.info(f"{instrument_id}: {outcome.reason}")
    for kept in outcome.kept:
        context.log.info(f"{instrument_id}: kept {kept.raw_file_id!r}: {kept.reason}")
        if kept.damaged:
            wrong.append(f"{kept.raw_file_id!r}: {kept.reason}")
            damage = VerifyOutcome(kept.raw_file_id, Verdict.MISMATCH, kept.reason)
            yield from verified(instrument_id, damage)
    if not outcome.enough:
        wrong.append(f"{instrument_id}: {outcome.reason}")
    yield from (_deleted(instrument_id, outcome, item) for item in outcome.deleted)


def _deleted(instrument_id: str, outcome: PurgeOutcome, item: Purged) -> dg.AssetObservation:
    metadata: dict[str, dg.MetadataValue] = {
        "on the instrument": text(item.status.value),
        "freed bytes": dg.MetadataValue.int(item.size_bytes),
        "files": dg.MetadataValue.int(item.files),
        "gone before": dg.MetadataValue.int(item.gone),
        "what was done": text(item.reason),
        "why": text(
            f"{outcome.free_before_bytes} bytes were free, {outcome.wanted_bytes} shall be"
        ),
    }
    if item.proven_at is not None:
        metadata["proven at"] = dg.MetadataValue.timestamp(item.proven_at)
    return _observation(instrument_id, item.raw_file_id, metadata)


def _observation(
    instrument_id: str, raw_file_id: str, metadata: dict[str, dg.MetadataValue]
) -> dg.AssetObservation:
    return dg.AssetObservation(
        asset_key=asset_key(instrument_id, RAW_FILE),
        partition=partition_key(raw_file_id),
        metadata=metadata,
    )
