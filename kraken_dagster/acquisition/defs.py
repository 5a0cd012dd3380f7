"""The watcher of one instrument: looks at its folder, and requests what is due on its files."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from kraken_dagster.acquisition.watch import Look, due_for_backup, look_at
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.fs.stores.marker import Role
from kraken_dagster.model.errors import FolderError, StoreUnavailable
from kraken_dagster.model.raw_file import RawFile, Status, Step
from kraken_dagster.monitoring.waiting import what_they_wait_for
from kraken_dagster.orchestration.asset_world import make_world
from kraken_dagster.orchestration.failures import skip
from kraken_dagster.orchestration.partitions import (
    BACKUP,
    copy_pool,
    ingest_job,
    op_name,
    pool_limit,
    quant_job,
)
from kraken_dagster.orchestration.run_requests import (
    ensure_partitions,
    live_files,
    quant_run_config,
    request,
)
from kraken_dagster.runtime.services import World
from kraken_dagster.runtime.stores import why_away
from resources.cluster import ClusterResource
from resources.storage import StorageResource
from resources.store import StoreResource

_SHOWN = 3  # files in a tick's reason


def watcher_sensor(
    config: KrakenConfig, instrument_id: str, jobs: Sequence[Any]
) -> dg.SensorDefinition:
    instrument = config.instrument(instrument_id)

    @dg.sensor(
        name=f"{instrument_id}_watcher",
        jobs=jobs,
        minimum_interval_seconds=instrument.watch_interval_s,
        default_status=dg.DefaultSensorStatus(instrument.sensors.upper()),
        description=f"Looks at the folder of {instrument_id} and requests backups.",
    )
    def watcher(
        context: dg.SensorEvaluationContext,
        store: dg.ResourceParam[StoreResource],
        cluster: dg.ResourceParam[ClusterResource],
        storage: dg.ResourceParam[StorageResource],
    ) -> dg.SensorResult | dg.SkipReason:
        try:
            world = make_world(config, store, cluster, storage)
            look = _look(world, instrument_id)
            due = due_for_backup(world.store, instrument_id, world.now())
            if look.blind:  # nothing can be copied, but what is in the backup goes on
                due = [item for item in due if item.is_backed_up]
            due, away = _with_stores(world, due)
            shown = [*look.registered, *look.open, *look.ended, *due]
            handled = [item for item in shown if item.status is not Status.IGNORED]
            ensure_partitions(context.instance, instrument_id, handled)
            requests = _requests(context, world, instrument_id, due)
            waiting = _waiting(world, [*look.open, *due]) if not requests else ""
        except StoreUnavailable as error:
            return skip(str(error))
        for left in look.newly_left_alone:
            context.log.warning(f"left alone: {left.name!a}: {left.reason}")
        if requests:
            return dg.SensorResult(run_requests=requests)
        runs = f"{len(due)} are due and have a run or wait for a slot" if due else "no run is due"
        told = "".join(f"; {line}" for line in away)
        return skip(f"{look.problem or f'{look.summary()}; {runs}'}{told}{waiting}")

    return watcher


def _waiting(world: World, files: Sequence[RawFile]) -> str:
    """What the first files wait for."""
    shown = files[:_SHOWN]
    found = what_they_wait_for(world, shown)
    told = "".join(f"; {item.id!a}: {found[item.id]}" for item in shown if found[item.id])
    more = len(files) - len(shown)
    return f"{told}; {more} more wait, see `kraken files`" if more else told


def _with_stores(world: World, due: list[RawFile]) -> tuple[list[RawFile], list[str]]:
    """What can be done with the stores that are there, and one line for each that is away.

    A run that is requested in vain would fail; what waits for a store is due again by itself.
    """
    if due and (away := why_away(world, Role.BACKUP)) is not None:
        return [], [f"{len(due)} files wait. {away}"]
    if any(item.is_backed_up for item in due):
        away = why_away(world, Role.OUTPUT)
        if away is not None:
            left = [item for item in due if not item.is_backed_up]
            return left, [f"{len(due) - len(left)} files wait. {away}"]
    return due, []


def _look(world: World, instrument_id: str) -> Look:
    """The look, or an empty one and why. What is known is gone on with either way."""
    try:
        return look_at(world, instrument_id)
    except FolderError as error:
        return Look(0, (), (), (), (), problem=str(error), blind=True)


def _requests(
    context: dg.SensorEvaluationContext, world: World, instrument_id: str, due: list[RawFile]
) -> list[dg.RunRequest]:
    jobs = {ingest_job(instrument_id), quant_job(instrument_id)}
    live = live_files(context.instance, world, jobs)
    instrument = world.instrument(instrument_id)
    pool = copy_pool(instrument_id)
    slots = pool_limit(context.instance, pool, default=instrument.copy_slots)
    runs = len(set(live.values()))
    requests: list[dg.RunRequest] = []
    for raw_file in due:
        if runs + len(requests) >= slots:
            break
        if raw_file.id in live:
            continue
        wanted = _request(world, raw_file)
        if wanted is not None:
            requests.append(wanted)
    return requests


def _request(world: World, raw_file: RawFile) -> dg.RunRequest | None:
    instrument_id = raw_file.instrument_id
    quant_config = quant_run_config(world, instrument_id)
    if raw_file.is_backed_up:
        return request(
            world,
            raw_file,
            step=Step.QUANT,
            job_name=quant_job(instrument_id),
            run_config={"ops": quant_config},
        )
    return request(
        world,
        raw_file,
        step=Step.BACKUP,
        job_name=ingest_job(instrument_id),
        run_config={"ops": {**_backup_run_config(world, instrument_id), **quant_config}},
    )


def _backup_run_config(world: World, instrument_id: str) -> dict[str, object]:
    """The values of instruments.yaml, so that they are shown on the run that used them."""
    instrument = world.instrument(instrument_id)
    options = {
        "backup_overwrite_file_id": instrument.backup_overwrite_file_id,
        "checksum_overwrite_file_id": instrument.checksum_overwrite_file_id,
    }
    given = {name: value for name, value in options.items() if value is not None}
    return {op_name(instrument_id, BACKUP): {"config": given}}
