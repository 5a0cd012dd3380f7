"""The ops of a raw file's life after its backup: moved aside, purged, its backup read again.

They work on many files in one run, so they are no assets; what became of each file is an
observation of its `raw_file`, or a check of its `backup`.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial

import dagster as dg
from pydantic import Field

from kraken_dagster.backup.scrub import Verification, scrub_due, verify_all
from kraken_dagster.backup.verify import PROOFS, Verdict, VerifyOutcome
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.fs.rate_limit import RateLimit
from kraken_dagster.model.errors import KrakenError
from kraken_dagster.model.raw_file import InstrumentFileStatus, partition_key
from kraken_dagster.orchestration.asset_services import make_services
from kraken_dagster.orchestration.failures import NothingToDo, dagster_errors
from kraken_dagster.orchestration.interruption import who_ended
from kraken_dagster.orchestration.metadata import text
from kraken_dagster.orchestration.partitions import (
    BACKUP,
    DIGESTS_MATCH,
    RAW_FILE,
    asset_key,
    op_name,
)
from kraken_dagster.retention.archive import ArchiveOptions, MoveOutcome, archive, compare_changed
from kraken_dagster.retention.purge import PurgeOutcome, purge
from kraken_dagster.retention.purge_file import Purged
from kraken_dagster.retention.purge_plan import PurgeOptions, PurgePlan, plan
from kraken_dagster.runtime.ending import explained
from kraken_dagster.runtime.exclusive_runs import SCRUB, archive_of, at_work, purge_of
from kraken_dagster.runtime.services import Services
from resources.cluster import ClusterResource
from resources.storage import StorageResource
from resources.store import StoreResource

_SHOWN = 20  # problems in a run's failure; all are in its log


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
        store: dg.ResourceParam[StoreResource],
        cluster: dg.ResourceParam[ClusterResource],
        storage: dg.ResourceParam[StorageResource],
    ) -> Iterator[dg.AssetObservation]:
        options = ArchiveOptions(**config.model_dump())
        with dagster_errors():
            services = make_services(kraken_config, store, cluster, storage)
        lease_s = services.instrument(instrument_id).lease_s
        with _alone(context, services, archive_of(instrument_id), lease_s) as ours:
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
        _fail([f"{it.raw_file.id!r}: {it.reason}" for it in outcomes if it.is_refusal])

    return archive_files


def _is_news(outcome: MoveOutcome) -> bool:
    """Not what is put off: it is tried again, and again."""
    stands_there = outcome.raw_file.instrument_file_status is InstrumentFileStatus.INITIAL
    return not stands_there or outcome.is_refusal


def _moved(instrument_id: str, outcome: MoveOutcome) -> dg.AssetObservation:
    raw_file = outcome.raw_file
    metadata: dict[str, dg.MetadataValue] = {
        "on the instrument": text(str(raw_file.instrument_file_status)),
        "moved aside": dg.MetadataValue.bool(outcome.moved),
        "what was done": text(outcome.reason),
    }
    if outcome.renamed:
        metadata["second copies"] = dg.MetadataValue.json(list(outcome.renamed))
    return _observation(instrument_id, raw_file.id, metadata)


def purge_op(config: KrakenConfig) -> dg.OpDefinition:
    kraken_config = config

    class PurgeConfig(dg.Config):
        """What is left open is taken from each instrument in instruments.yaml."""

        instruments: list[str] = Field(default_factory=list)
        dry_run: bool = False
        min_free_space_gb: float | None = Field(default=None, allow_inf_nan=False)
        min_file_age_to_remove_in_days: float | None = Field(
            default=None, ge=0, allow_inf_nan=False
        )
        remove_files: bool | None = None
        purge_needs_complete_index: bool | None = None

    @dg.op(
        name="purge_instruments",
        out=dg.Out(dg.Nothing),
        description="Deletes the oldest files that were moved aside, where space is short.",
    )
    def purge_instruments(
        context: dg.OpExecutionContext,
        config: PurgeConfig,
        store: dg.ResourceParam[StoreResource],
        cluster: dg.ResourceParam[ClusterResource],
        storage: dg.ResourceParam[StorageResource],
    ) -> Iterator[dg.AssetObservation | dg.AssetCheckEvaluation]:
        with dagster_errors():
            services = make_services(kraken_config, store, cluster, storage)
        given = config.model_dump(exclude={"instruments", "dry_run"}, exclude_none=True)
        wrong: list[str] = []
        for instrument_id in config.instruments or list(kraken_config.instruments):
            if instrument_id not in kraken_config.instruments:
                wrong.append(f"{instrument_id}: no such instrument here")
                continue
            options = replace(PurgeOptions.of(services.instrument(instrument_id)), **given)
            try:
                if config.dry_run:
                    _planned(context, services, instrument_id, options)
                else:
                    yield from _purged(context, services, instrument_id, options, wrong)
            except KrakenError as error:
                wrong.append(f"{instrument_id}: {error}")
            except Exception as error:
                context.log.exception(f"{instrument_id}: nobody expected this")
                wrong.append(
                    f"{instrument_id}: {type(error).__name__}: {error}. Next: see in this run's "
                    "log where; no other instrument is touched, and the schedule tries again."
                )
        _fail(wrong)

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
    with _alone(context, services, purge_of(instrument_id), lease_s) as ours:
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
        store: dg.ResourceParam[StoreResource],
        cluster: dg.ResourceParam[ClusterResource],
        storage: dg.ResourceParam[StorageResource],
    ) -> Iterator[dg.AssetCheckEvaluation]:
        with dagster_errors():
            services = make_services(kraken_config, store, cluster, storage)
        wrong: list[str] = []
        with _alone(context, services, SCRUB, kraken_config.defaults.lease_s) as ours:
            if not ours:
                return
            with dagster_errors():
                chosen = _due_until_tomorrow(services, config.scrub_every_days)
                context.log.info(f"{len(chosen.todo)} backups are due")
                rate_limit = RateLimit(config.scrub_mb_per_s)
                run_id = context.run.run_id
                for outcome in verify_all(services, chosen, run_id=run_id, rate_limit=rate_limit):
                    context.log.info(f"{outcome.raw_file_id!r}: {outcome.reason}")
                    if outcome.verdict in (Verdict.MISMATCH, Verdict.UNREADABLE):
                        wrong.append(f"{outcome.raw_file_id!r}: {outcome.reason}")
                    if outcome.verdict in PROOFS:
                        file = services.store.raw_files.get(outcome.raw_file_id)
                        yield from verified(file.instrument_id, outcome)
        _fail(wrong)

    return scrub_backups


def _due_until_tomorrow(services: Services, every_days: float | None) -> Verification:
    """What must be read before the schedule comes again, a day later."""
    now = services.now()
    due = scrub_due(services, now + timedelta(days=1), every_days)
    todo = tuple(item.raw_file_id for item in due)
    return Verification(SCRUB, began_at=now, todo=todo, resumed=False)


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


def _observation(
    instrument_id: str, raw_file_id: str, metadata: dict[str, dg.MetadataValue]
) -> dg.AssetObservation:
    return dg.AssetObservation(
        asset_key=asset_key(instrument_id, RAW_FILE),
        partition=partition_key(raw_file_id),
        metadata=metadata,
    )


@contextmanager
def _alone(
    context: dg.OpExecutionContext, services: Services, exclusive_run: str, lease_s: float
) -> Iterator[bool]:
    """Whether this run is the only one at the errand; if it isn't, it ends quietly."""
    with ExitStack() as stack, explained(context.run.run_id, partial(who_ended, context)):
        try:
            with dagster_errors():
                run_id = context.run.run_id
                stack.enter_context(
                    at_work(services, exclusive_run, run_id=run_id, lease_s=lease_s)
                )
        except NothingToDo as reason:
            context.log.warning(str(reason))
            yield False
            return
        yield True


def _fail(wrong: Sequence[str]) -> None:
    if not wrong:
        return
    more = f"\n... and {len(wrong) - _SHOWN} more, in the log" if len(wrong) > _SHOWN else ""
    raise dg.Failure(description="\n".join(wrong[:_SHOWN]) + more, allow_retries=False)
