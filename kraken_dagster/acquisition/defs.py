"""The watcher of one instrument: looks at its folder, and requests what is due on its files."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

from kraken_dagster.acquisition.quiet import QuietLooks
from kraken_dagster.acquisition.watch import FolderScan, due_for_backup
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.fs.stores.marker import Role
from kraken_dagster.model.errors import FolderError, StoreUnavailable
from kraken_dagster.model.raw_file import RawFile, Status, Step
from kraken_dagster.monitoring.being_written import copies_wait_for, why_copied_later
from kraken_dagster.monitoring.waiting import what_they_wait_for
from kraken_dagster.orchestration.failures import skip
from kraken_dagster.orchestration.file_runs.run_groups import in_groups, request_run
from kraken_dagster.orchestration.file_runs.run_requests import (
    ensure_partitions,
    live_runs,
    quant_run_config,
)
from kraken_dagster.orchestration.partitions import (
    BACKUP,
    RAW_METRICS,
    TAG_INSTRUMENT,
    asset_key,
    copy_pool,
    ingest_job,
    op_name,
    quant_job,
)
from kraken_dagster.orchestration.pools import pool_limit
from kraken_dagster.runtime.services import Services
from kraken_dagster.runtime.stores import why_away
from resources.kraken import KrakenResource

_SHOWN = 3  # files in a tick's reason
# Of a backup that was not read although its run is over: a catch-up reads what is older.
_READ_WITHIN, _READ_TRIES, _READ_AT_ONCE = timedelta(days=1), 3, 200


def watcher_sensor(
    config: KrakenConfig, instrument_id: str, jobs: Sequence[Any]
) -> dg.SensorDefinition:
    instrument, looks = config.instrument(instrument_id), QuietLooks()

    @dg.sensor(
        name=f"{instrument_id}_watcher",
        jobs=jobs,
        minimum_interval_seconds=instrument.watch_interval_s,
        default_status=dg.DefaultSensorStatus(instrument.sensors.upper()),
        description=f"Looks at the folder of {instrument_id} and requests backups.",
        tags={TAG_INSTRUMENT: instrument_id},
    )
    def watcher(
        context: dg.SensorEvaluationContext,
        kraken: dg.ResourceParam[KrakenResource],
    ) -> dg.SensorResult | dg.SkipReason:
        try:
            services = kraken.create_services(config)
            scan = _scan(looks, services, instrument_id)
            due = due_for_backup(services.store, instrument_id, services.now())
            if scan.blind:  # nothing can be copied, but what is in the backup goes on
                due = [item for item in due if item.is_backed_up]
            due, away = _with_stores(services, due)
            ensure_partitions(context.instance, instrument_id, _shown(scan, due))
            due, later = _without_later(services, instrument_id, due)
            away += [f"{len(later)} wait while another file is being acquired"] if later else []
            requests = _requests(context, services, instrument_id, due)
            waiting = _waiting(services, [*scan.open, *later, *due]) if not requests else ""
        except StoreUnavailable as error:
            return skip(str(error))
        for left in scan.newly_left_alone:
            context.log.warning(f"left alone: {left.name!a}: {left.reason}")
        if requests:
            return dg.SensorResult(run_requests=requests)
        runs = f"{len(due)} are due and have a run or wait for a slot" if due else "no run is due"
        reported = "".join(f"; {line}" for line in away)
        return skip(f"{scan.problem or f'{scan.summary()}; {runs}'}{reported}{waiting}")

    return watcher


def _shown(scan: FolderScan, due: Sequence[RawFile]) -> list[RawFile]:
    """The files that Dagit shows."""
    files = [*scan.registered, *scan.open, *scan.ended, *due]
    return [item for item in files if item.status is not Status.IGNORED]


def _waiting(services: Services, files: Sequence[RawFile]) -> str:
    """What the first files wait for."""
    shown = files[:_SHOWN]
    found = what_they_wait_for(services, shown)
    reported = "".join(f"; {item.id!a}: {found[item.id]}" for item in shown if found[item.id])
    more = len(files) - len(shown)
    return f"{reported}; {more} more wait, see `kraken files`" if more else reported


def _with_stores(services: Services, due: list[RawFile]) -> tuple[list[RawFile], list[str]]:
    """What can be done with the stores that are there, and one line for each that is away.

    A run that is requested in vain would fail; what waits for a store is due again by itself.
    """
    if due and (away := why_away(services, Role.BACKUP)) is not None:
        return [], [f"{len(due)} files wait. {away}"]
    if any(item.is_backed_up for item in due):
        away = why_away(services, Role.OUTPUT)
        if away is not None:
            left = [item for item in due if not item.is_backed_up]
            return left, [f"{len(due) - len(left)} files wait. {away}"]
    return due, []


def _without_later(
    services: Services, instrument_id: str, due: list[RawFile]
) -> tuple[list[RawFile], list[RawFile]]:
    """What is done now, and what is not copied while the instrument writes."""
    behind = copies_wait_for(services, instrument_id)
    later = {item.id for item in due if why_copied_later(services, item, behind)}
    now = [item for item in due if item.id not in later]
    return now, [item for item in due if item.id in later]


def _scan(looks: QuietLooks, services: Services, instrument_id: str) -> FolderScan:
    """The look, or an empty one and why. What is known is gone on with either way."""
    try:
        return looks.look_at(services, instrument_id)
    except FolderError as error:
        return FolderScan(0, (), (), (), (), problem=str(error), blind=True)


def _requests(
    context: dg.SensorEvaluationContext, services: Services, instrument_id: str, due: list[RawFile]
) -> list[dg.RunRequest]:
    jobs = {ingest_job(instrument_id), quant_job(instrument_id)}
    live = live_runs(context.instance, services, jobs)
    instrument = services.instrument(instrument_id)
    pool = copy_pool(instrument_id)
    free = pool_limit(context.instance, pool, default=instrument.copy_slots) - live.slots
    many_from = instrument.files_per_run_from
    requests: list[dg.RunRequest] = []
    ready = [item for item in due if item.id not in live.files]
    for files in in_groups(ready, many_from=many_from, fixed=live.fixed):
        if free < 1:
            return requests
        taken = free if len(files) > 1 and not files[0].is_backed_up else 1
        wanted = _request(context.instance, services, files, copies=taken)
        if wanted is not None:
            requests.append(wanted)
            free -= taken
    left = _not_read(services, instrument_id, {*live.files, *(it.id for it in due)})
    fixed = live.fixed | {item.id for item in left if _tries(item) > 0}
    for files in in_groups(left, many_from=many_from, fixed=fixed)[: max(free, 0)]:
        requests += _reading(context.instance, services, files)
    return requests


def _not_read(services: Services, instrument_id: str, handled: Collection[str]) -> list[RawFile]:
    """Files whose run died between their backup and the reading of it."""
    if why_away(services, Role.BACKUP) is not None:
        return []
    since = services.now() - _READ_WITHIN
    missing = services.store.raw_metrics.missing(instrument_id, since=since)
    ids = [item for item in missing if item not in handled][:_READ_AT_ONCE]
    known = services.store.raw_files.many(ids)
    files = [known[item] for item in ids if item in known]
    return [item for item in files if _tries(item) < _READ_TRIES]


def _tries(raw_file: RawFile) -> int:
    return raw_file.attempts.get(Step.RAW_METRICS, 0)


def _reading(
    instance: dg.DagsterInstance, services: Services, files: Sequence[RawFile]
) -> list[dg.RunRequest]:
    instrument_id = files[0].instrument_id
    wanted = request_run(
        instance,
        services,
        files,
        step=Step.RAW_METRICS,
        job_name=ingest_job(instrument_id),
        only=asset_key(instrument_id, RAW_METRICS),
    )
    return [] if wanted is None else [wanted]


def _request(
    instance: dg.DagsterInstance, services: Services, files: Sequence[RawFile], *, copies: int
) -> dg.RunRequest | None:
    """A run for files of which the same is due."""
    instrument_id = files[0].instrument_id
    quant_config = quant_run_config(services, instrument_id)
    if files[0].is_backed_up:
        return request_run(
            instance,
            services,
            files,
            step=Step.QUANT,
            job_name=quant_job(instrument_id),
            run_config={"ops": quant_config},
        )
    return request_run(
        instance,
        services,
        files,
        step=Step.BACKUP,
        job_name=ingest_job(instrument_id),
        run_config={"ops": {**_backup_run_config(services, instrument_id), **quant_config}},
        copies=copies,
    )


def _backup_run_config(services: Services, instrument_id: str) -> dict[str, object]:
    """The values of instruments.yaml, so that they are shown on the run that used them."""
    instrument = services.instrument(instrument_id)
    options = {
        "backup_overwrite_file_id": instrument.backup_overwrite_file_id,
        "checksum_overwrite_file_id": instrument.checksum_overwrite_file_id,
    }
    given = {name: value for name, value in options.items() if value is not None}
    return {op_name(instrument_id, BACKUP): {"config": given}}
