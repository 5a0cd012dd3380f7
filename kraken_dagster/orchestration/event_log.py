"""Tells Dagster of many things that have happened, in a run or outside, and asks what it knows."""

import logging
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import dagster as dg
from dagster import DagsterEventType
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import NullPool

from kraken_dagster.orchestration.dagster_internals import (
    INDEX_SHARD_NAME,
    RUNLESS_JOB_NAME,
    RUNLESS_RUN_ID,
    SQLITE_BUSY_TIMEOUT_SECONDS,
    AssetCheckExecutionRecordStatus,
    AssetMaterializationPlannedData,
    AssetObservationData,
    SqliteEventLogStorage,
    StepMaterializationData,
)
from kraken_dagster.orchestration.partitions import (
    BACKUP,
    DIGESTS_MATCH,
    INDEX_COMPLETE,
    RAW_FILE,
    WITH_OFFSITE,
    asset_key,
)

_IN_A_TRANSACTION = 250


@dataclass(frozen=True)
class Planned:
    """A run means to materialise this partition: it counts as failed if the run fails before."""

    asset_key: dg.AssetKey
    partition: str


Event = dg.AssetMaterialization | dg.AssetObservation | dg.AssetCheckEvaluation | Planned


@dataclass(frozen=True)
class Origin:
    """The step of a run in which something happened; the default is outside of any run."""

    run_id: str = RUNLESS_RUN_ID
    job_name: str = RUNLESS_JOB_NAME
    step_key: str | None = None


_NO_RUN = Origin()


@dataclass(frozen=True)
class Reported:
    """What Dagster knows of some partitions of an instrument.

    `materialised` by asset; `observed` of `raw_file`; `sound` and `complete` are whether the last
    check of the backup's digests, and of its index, passed.
    """

    materialised: Mapping[str, Set[str]]
    observed: Set[str]
    sound: Mapping[str, bool]
    complete: Mapping[str, bool]


def reported(instance: dg.DagsterInstance, instrument_id: str, keys: Set[str]) -> Reported:
    """Read for all of them together: a query for each asset."""
    storage = instance.event_log_storage

    def having(asset: str, kind: DagsterEventType) -> Set[str]:
        return storage.get_latest_storage_id_by_partition(
            asset_key(instrument_id, asset), kind, partitions=set(keys)
        ).keys()

    def passed(name: str) -> Mapping[str, bool]:
        check = dg.AssetCheckKey(asset_key(instrument_id, BACKUP), name)
        found = storage.get_asset_check_partition_info([check], partition_keys=list(keys))
        return {
            str(item.partition_key): item.latest_execution_status
            is AssetCheckExecutionRecordStatus.SUCCEEDED
            for item in found
        }

    return Reported(
        materialised={
            asset: having(asset, DagsterEventType.ASSET_MATERIALIZATION) for asset in WITH_OFFSITE
        },
        observed=having(RAW_FILE, DagsterEventType.ASSET_OBSERVATION),
        sound=passed(DIGESTS_MATCH),
        complete=passed(INDEX_COMPLETE),
    )


def report(instance: dg.DagsterInstance, events: Sequence[Event], origin: Origin = _NO_RUN) -> None:
    """Stores events as `report_runless_asset_event`, or a run's step, does for one.

    With SQLite each of those opens two files and flushes both; here many share one transaction,
    short enough that nobody else waits for it.
    """
    for start in range(0, len(events), _IN_A_TRANSACTION):
        some = events[start : start + _IN_A_TRANSACTION]
        again = _checked_before(instance, some) if origin == _NO_RUN else {}
        _store(instance, [event for event in some if id(event) not in again], origin)
        for event in again.values():
            # Dagster takes one check of a partition for each run, and for no run as well one.
            entry = _entry(event, Origin(str(uuid.uuid4())))
            instance.event_log_storage.store_event(entry)


def _checked_before(
    instance: dg.DagsterInstance, events: Sequence[Event]
) -> dict[int, dg.AssetCheckEvaluation]:
    """By object, the checks of partitions that have one already or earlier among these."""
    checks = [event for event in events if isinstance(event, dg.AssetCheckEvaluation)]
    known: set[tuple[dg.AssetCheckKey, str | None]] = set()
    for key in {event.asset_check_key for event in checks}:
        keys = [str(event.partition) for event in checks if event.asset_check_key == key]
        storage = instance.event_log_storage
        found = storage.get_asset_check_partition_info([key], partition_keys=keys)
        known |= {(key, item.partition_key) for item in found}
    again: dict[int, dg.AssetCheckEvaluation] = {}
    for event in checks:
        place = (event.asset_check_key, event.partition)
        if place in known:
            again[id(event)] = event
        known.add(place)
    return again


def _store(instance: dg.DagsterInstance, events: Sequence[Event], origin: Origin) -> None:
    storage = instance.event_log_storage
    if isinstance(storage, SqliteEventLogStorage):
        with _one_transaction(storage, origin.run_id) as batch:
            for event in events:
                batch.store_event(_entry(event, origin))
        return
    for some in _by_asset_and_kind(events):
        entries = [_entry(event, origin) for event in some]
        if isinstance(some[0], dg.AssetMaterialization | dg.AssetObservation):
            storage.store_event_batch(entries)
            continue
        for entry in entries:  # which no storage takes in batches
            storage.store_event(entry)


class _Batch(SqliteEventLogStorage):
    """Dagster's own storage on connections that stay open."""

    def __init__(self, base_dir: str, run_id: str, index: Connection, own: Connection) -> None:
        super().__init__(base_dir)
        self._run_id = run_id
        self._connections = (index, own)
        self._latest: dict[object, tuple[Connection, dg.EventLogEntry, int]] = {}

    def index_connection(self) -> AbstractContextManager[Connection]:
        return nullcontext(self._connections[0])

    def run_connection(self, run_id: str | None = None) -> AbstractContextManager[Connection]:
        assert run_id == self._run_id
        return nullcontext(self._connections[1])

    def _store_asset_event(self, conn: Connection, event: dg.EventLogEntry, event_id: int) -> None:
        """An asset's own row tells of its latest events; those before need not be written."""
        assert event.dagster_event is not None
        key = (event.dagster_event.asset_key, event.dagster_event_type)
        self._latest[key] = conn, event, event_id

    def finish(self) -> None:
        for latest in self._latest.values():
            super()._store_asset_event(*latest)

    @cached_property
    def supports_asset_checks(self) -> bool:
        return super().supports_asset_checks


@contextmanager
def _one_transaction(storage: SqliteEventLogStorage, run_id: str) -> Iterator[_Batch]:
    """What is stored in the block is stored as a whole, or not at all.

    The index, which is what Dagit reads, is committed last.
    """
    with storage.run_connection(run_id):
        pass  # makes the file where there is none
    with ExitStack() as stack:
        connections = []
        for shard in (INDEX_SHARD_NAME, run_id):
            engine = create_engine(
                storage.conn_string_for_shard(shard),
                poolclass=NullPool,
                connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS},
            )
            stack.callback(engine.dispose)
            connection = stack.enter_context(engine.connect())
            stack.enter_context(connection.begin())
            connections.append(connection)
        index, own = connections
        folder = str(Path(storage.path_for_shard(INDEX_SHARD_NAME)).parent)
        batch = _Batch(folder, run_id, index, own)
        yield batch
        batch.finish()


def _by_asset_and_kind(events: Sequence[Event]) -> Iterator[list[Event]]:
    groups: dict[tuple[dg.AssetKey, type], list[Event]] = {}
    for event in events:
        groups.setdefault((event.asset_key, type(event)), []).append(event)
    yield from groups.values()


def _entry(event: Event, origin: Origin) -> dg.EventLogEntry:
    """The entry that Dagster itself makes."""
    data: (
        StepMaterializationData
        | AssetObservationData
        | AssetMaterializationPlannedData
        | dg.AssetCheckEvaluation
    )
    if isinstance(event, dg.AssetMaterialization):
        kind, data = DagsterEventType.ASSET_MATERIALIZATION, StepMaterializationData(event)
    elif isinstance(event, dg.AssetObservation):
        kind, data = DagsterEventType.ASSET_OBSERVATION, AssetObservationData(event)
    elif isinstance(event, Planned):
        kind = DagsterEventType.ASSET_MATERIALIZATION_PLANNED
        data = AssetMaterializationPlannedData(event.asset_key, event.partition)
    else:
        kind, data = DagsterEventType.ASSET_CHECK_EVALUATION, event
    message = None if origin == _NO_RUN else f"{event.partition}: {kind.value}"
    return dg.EventLogEntry(
        user_message="",
        level=logging.INFO,
        job_name=origin.job_name,
        run_id=origin.run_id,
        error_info=None,
        timestamp=time.time(),
        step_key=origin.step_key,
        dagster_event=dg.DagsterEvent(
            event_type_value=kind.value,
            event_specific_data=data,
            job_name=origin.job_name,
            step_key=origin.step_key,
            message=message,
        ),
    )
