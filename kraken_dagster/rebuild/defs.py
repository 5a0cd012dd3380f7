"""Dagster's storage made anew from MongoDB: partitions, and what has happened to each file.

What Dagster has already is left alone, so that it can be done again, and while everything runs.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime

import dagster as dg
from pydantic import Field

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.files.file_ids import partition_key
from kraken_dagster.model.raw_file import RawFile
from kraken_dagster.model.raw_metrics import RawMetricsState, RawMetricsStatus
from kraken_dagster.orchestration.event_log import Event, Reported, report, reported
from kraken_dagster.orchestration.failures import dagster_errors
from kraken_dagster.orchestration.metadata import (
    Metadata,
    acquisition_metadata,
    backup_metadata,
    digests_metadata,
    ended_metadata,
    index_metadata,
    metrics_metadata,
    offsite_metadata,
    page_metadata,
    raw_metrics_metadata,
    submitted_metadata,
    text,
)
from kraken_dagster.orchestration.partitions import (
    BACKUP,
    DIGESTS_MATCH,
    INDEX_COMPLETE,
    METRICS,
    OFFSITE,
    QUANT_JOB,
    QUANT_RESULT,
    RAW_FILE,
    RAW_METRICS,
    WITH_OFFSITE,
    add_partitions,
    asset_key,
    partitions_of,
)
from kraken_dagster.rebuild.history import Known, Page, page_of, pages_of
from kraken_dagster.runtime.services import Services
from resources.kraken import KrakenResource

HAPPENED_AT = "happened at"
_AT_ONCE = 500  # files whose events are stored together


@dataclass
class Rebuilt:
    """How much was added; `events` by asset, `unreadable` are ids of documents in MongoDB."""

    files: int = 0
    partitions: int = 0
    retired: int = 0
    events: Counter[str] = field(default_factory=Counter)
    checks: int = 0
    unreadable: list[str] = field(default_factory=list)

    def summary(self) -> str:
        each = ", ".join(
            f"{self.events[name]} {name}" for name in WITH_OFFSITE if self.events[name]
        )
        text = (
            f"{self.files} files: {self.partitions} partitions added, {each or 'nothing'} reported"
        )
        if self.checks:
            text += f", {self.checks} checks"
        if self.retired:
            text += f"; {self.retired} files are older than partition_window_days and stay out"
        return text


def rebuild_instrument(
    services: Services,
    instance: dg.DagsterInstance,
    instrument_id: str,
    *,
    on_files: Callable[[int, int], None] = lambda done, of: None,  # noqa: ARG005
) -> Rebuilt:
    """Adds what Dagster lacks of an instrument.

    Args:
        on_files: told how many files were looked at, and how many there are.

    Raises:
        StoreUnavailable
    """
    ids = services.store.bulk.ids(instrument_id)
    return _Rebuilding(services, instance, instrument_id).of(
        pages_of(services, ids), lambda done: on_files(done, len(ids))
    )


def rebuild_file(services: Services, instance: dg.DagsterInstance, raw_file: RawFile) -> Rebuilt:
    """Adds what Dagster lacks of one file, however old it is."""
    page = page_of(services, raw_file)
    return _Rebuilding(services, instance, raw_file.instrument_id).of([page], lambda _: None)


class _Rebuilding:
    """What Dagster lacks of one instrument is added to it."""

    def __init__(
        self, services: Services, instance: dg.DagsterInstance, instrument_id: str
    ) -> None:
        self._instance = instance
        self._instrument_id = instrument_id
        self._page_url = services.config.alerts.page_url

    def of(self, pages: Iterable[Page], on_files: Callable[[int], None]) -> Rebuilt:
        rebuilt, partitions = Rebuilt(), set(partitions_of(self._instance, self._instrument_id))
        waiting: list[Known] = []
        for page in pages:
            rebuilt.files += page.looked_at
            rebuilt.retired += page.retired
            rebuilt.unreadable.extend(page.unreadable)
            waiting.extend(page.known)
            if len(waiting) >= _AT_ONCE:
                self._add(waiting, partitions, rebuilt)
                waiting = []
            on_files(rebuilt.files)
        self._add(waiting, partitions, rebuilt)
        return rebuilt

    def _add(self, files: Sequence[Known], partitions: Set[str], rebuilt: Rebuilt) -> None:
        keys = [partition_key(item.raw_file.id) for item in files]
        if not keys:
            return
        missing = [key for key in keys if key not in partitions]
        if missing:
            add_partitions(self._instance, self._instrument_id, missing)
        rebuilt.partitions += len(missing)
        there = reported(self._instance, self._instrument_id, set(keys))
        events = [event for item in files for event in missing_events(item, there, self._page_url)]
        report(self._instance, events)
        for event in events:
            if isinstance(event, dg.AssetCheckEvaluation):
                rebuilt.checks += 1
            elif isinstance(event, dg.AssetMaterialization):
                rebuilt.events[event.asset_key.path[-1]] += 1


def missing_events(known: Known, there: Reported, page_url: object | None) -> Iterator[Event]:
    """What has happened to a file and Dagster doesn't know of, with links as runs have them."""
    instrument_id, key = known.raw_file.instrument_id, partition_key(known.raw_file.id)
    link = page_metadata(page_url, known.raw_file.id)
    for asset, (at, metadata) in _happened(known).items():
        if key not in there.materialised[asset]:
            yield dg.AssetMaterialization(
                asset_key=asset_key(instrument_id, asset),
                partition=key,
                description="rebuilt from MongoDB",
                metadata={HAPPENED_AT: dg.MetadataValue.timestamp(at), **metadata, **link},
            )
    if known.backed_up_at is not None and there.sound.get(key) is not known.is_sound:
        yield _check(known, key)
    state = known.raw_file.raw_metrics
    if (
        known.backed_up_at is not None
        and state is not None
        and there.complete.get(key) is not state.is_sound
    ):
        yield _index_check(known.raw_file, state, key)
    if key not in there.observed:
        yield from _archived(known, key)


def _happened(known: Known) -> Mapping[str, tuple[datetime, Metadata]]:
    record = known.raw_file
    happened: dict[str, tuple[datetime, Metadata]] = {}
    if known.acquired_at is not None:
        happened[RAW_FILE] = known.acquired_at, acquisition_metadata(record)
    if known.backed_up_at is not None:
        happened[BACKUP] = (
            known.backed_up_at,
            backup_metadata(
                record,
                record.file_info,
                how=known.backup_in_words,
                manifest=known.manifest,
                instrument_facts=record.acquisition.get("instrument", {}),
            ),
        )
    if known.uploaded is not None:
        happened[OFFSITE] = known.uploaded.at, offsite_metadata(known.uploaded)
    raw = record.raw_metrics
    if raw is not None and raw.status is RawMetricsStatus.DONE:
        metadata = raw_metrics_metadata(raw, known.raw_metrics, known.raw_provenance)
        happened[RAW_METRICS] = raw.at, metadata
    if known.submitted_at is not None:
        state = f"{len(known.submitted)} jobs were submitted"
        happened[QUANT_JOB] = known.submitted_at, submitted_metadata(known.submitted, state=state)
    if known.ended_at is not None:
        happened[QUANT_RESULT] = known.ended_at, ended_metadata(known.ended)
    if known.measured_at is not None:
        metrics = metrics_metadata(record, known.metrics, known.provenance)
        happened[METRICS] = known.measured_at, metrics
    return happened


def _check(known: Known, key: str) -> dg.AssetCheckEvaluation:
    record = known.raw_file
    told_of = "as recorded" if known.is_sound else record.status_details or "damaged"
    metadata = {"what was found": text(told_of)}
    if known.proven_at is not None:
        metadata["proven at"] = dg.MetadataValue.timestamp(known.proven_at)
    return dg.AssetCheckEvaluation(
        asset_key=asset_key(record.instrument_id, BACKUP),
        check_name=DIGESTS_MATCH,
        passed=known.is_sound,
        partition=key,
        metadata={**digests_metadata(record.file_info), **metadata},
    )


def _index_check(record: RawFile, state: RawMetricsState, key: str) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=asset_key(record.instrument_id, BACKUP),
        check_name=INDEX_COMPLETE,
        passed=state.is_sound,
        partition=key,
        metadata=dict(index_metadata(state, state.in_words)),
    )


def _archived(known: Known, key: str) -> Iterator[dg.AssetObservation]:
    for item in known.archived:
        yield dg.AssetObservation(
            asset_key=asset_key(known.raw_file.instrument_id, RAW_FILE),
            partition=key,
            description="rebuilt from MongoDB",
            metadata={
                HAPPENED_AT: dg.MetadataValue.timestamp(item.at),
                "on the instrument": text(item.status.value),
                "what was done": text(item.reason),
            },
        )


def rebuild_op(config: KrakenConfig) -> dg.OpDefinition:
    kraken_config = config

    class RebuildConfig(dg.Config):
        """Which instruments; all of them where none is named."""

        instruments: list[str] = Field(default_factory=list)

    @dg.op(
        name="rebuild_instruments",
        out=dg.Out(dg.Nothing),
        description="Adds the partitions and materialisations that MongoDB knows of.",
    )
    def rebuild(
        context: dg.OpExecutionContext,
        config: RebuildConfig,
        kraken: dg.ResourceParam[KrakenResource],
    ) -> None:
        with dagster_errors():
            services = kraken.create_services(kraken_config)
        if unknown := set(config.instruments) - set(kraken_config.instruments):
            raise dg.Failure(f"no such instrument here: {', '.join(sorted(unknown))}")
        for instrument_id in config.instruments or list(kraken_config.instruments):
            with dagster_errors():
                rebuilt = rebuild_instrument(services, context.instance, instrument_id)
            context.log.info(f"{instrument_id}: {rebuilt.summary()}")
            for name in rebuilt.unreadable:
                context.log.error(f"{instrument_id}: the document {name!r} can't be read")

    return rebuild
