"""The asset `offsite` (a second copy on an S3 server) and the sensor that has uploads made."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.fs.stores.marker import Role
from kraken_dagster.model.errors import ConfigError, OffsiteError, StoreUnavailable
from kraken_dagster.model.files.dates import local
from kraken_dagster.model.offsite import is_within, next_begin
from kraken_dagster.model.raw_file import RawFile, Step
from kraken_dagster.offsite.client import S3, connect
from kraken_dagster.offsite.places import configured, place_of, require_fit
from kraken_dagster.offsite.scrub import Look, scrub, sweep
from kraken_dagster.offsite.upload import UploadOutcome, upload_file, why_not
from kraken_dagster.orchestration.asked_by import asked_by_hand
from kraken_dagster.orchestration.exclusive_ops import alone, fail
from kraken_dagster.orchestration.failures import dagster_errors, skip
from kraken_dagster.orchestration.file_runs.file_assets import file_asset
from kraken_dagster.orchestration.file_runs.outcomes import Done, Work
from kraken_dagster.orchestration.file_runs.run_requests import (
    ensure_partitions,
    live_runs,
    request,
)
from kraken_dagster.orchestration.metadata import offsite_metadata
from kraken_dagster.orchestration.partitions import (
    BACKUP,
    OFFSITE,
    OFFSITE_POOL,
    OFFSITE_SENSOR,
    name_here,
    offsite_job,
)
from kraken_dagster.orchestration.pools import pool_limit
from kraken_dagster.runtime.exclusive_runs import scrub_copies_of
from kraken_dagster.runtime.services import Services
from kraken_dagster.runtime.stores import why_away
from resources.kraken import KrakenResource

_LOOKED_AT = 50  # due files of an instrument in one tick


def offsite_asset(config: KrakenConfig, instrument_id: str) -> dg.AssetsDefinition:
    assert config.offsite is not None

    def uploaded_in(context: dg.AssetExecutionContext, services: Services) -> Work:
        with dagster_errors():
            s3 = connect(configured(services))
        run_id, by_hand = context.run.run_id, asked_by_hand(context)

        def uploaded(raw_file_id: str) -> Done:
            return _done(upload_file(services, s3, raw_file_id, run_id=run_id, by_hand=by_hand))

        return uploaded

    return file_asset(
        config,
        instrument_id,
        OFFSITE,
        uploaded_in,
        after=BACKUP,
        description="The backup's copy on an S3 server.",
        kinds=["s3"],
        pool=OFFSITE_POOL,
        at_once=config.offsite.slots,
    )


def _done(outcome: UploadOutcome) -> Done:
    reported, state = f"{outcome.raw_file.id!r}: {outcome.reason}", outcome.state
    if state is None:
        return Done(reported, unusual=True)
    return Done(
        reported,
        metadata={
            **offsite_metadata(state),
            "sent bytes": dg.MetadataValue.int(outcome.sent_bytes),
        },
    )


def uploads_sensor(config: KrakenConfig, jobs: Sequence[Any]) -> dg.SensorDefinition:
    """One for all instruments: they share the line and the server."""
    instruments = list(config.instruments)
    interval = min(config.instrument(item).watch_interval_s for item in instruments)

    @dg.sensor(
        name=name_here(config, OFFSITE_SENSOR),
        jobs=jobs,
        minimum_interval_seconds=interval,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Has backups copied to the S3 server, oldest first.",
    )
    def offsite_uploads(
        context: dg.SensorEvaluationContext,
        kraken: dg.ResourceParam[KrakenResource],
    ) -> dg.SensorResult | dg.SkipReason:
        try:
            services = kraken.create_services(config)
            due = _due(services)
            if (reason := _why_none(services, due)) is not None:
                services.store.health.offsite_seen(details=reason, is_well=True, now=services.now())
                return skip(reason)
            ready, problems = _with_fit_buckets(services, due)
            requests = _requests(context, services, ready)
        except (ConfigError, StoreUnavailable) as error:
            return skip(str(error))
        for problem in problems:
            context.log.error(problem)
        if requests:
            return dg.SensorResult(run_requests=requests)
        reported = "".join(f"; {problem}" for problem in problems)
        return skip(f"{len(ready)} files are being uploaded, or wait for a slot{reported}")

    return offsite_uploads


def _due(services: Services) -> list[RawFile]:
    """What has a local backup and no copy, of all instruments, oldest first."""
    now = services.now()
    found = [
        item
        for instrument_id in services.config.instruments
        for item in services.store.offsite.due(instrument_id, now, limit=_LOOKED_AT)
        if why_not(services, item) is None
    ]
    return sorted(found, key=lambda item: item.dated_at)


def _why_none(services: Services, due: Sequence[RawFile]) -> str | None:
    """Why nothing is uploaded now, and the server need not be asked."""
    if not due:
        return "every backup has its copy, or waits for its next try"
    config = configured(services)
    hours, now = config.allowed_hours, services.now().astimezone(config.zone)
    if hours is not None and not is_within(hours, now):
        begin = local(next_begin(hours, now))
        return f"{len(due)} files wait: uploads run again at {begin}"
    away = why_away(services, Role.BACKUP)
    return None if away is None else f"{len(due)} files wait: {away}"


def _with_fit_buckets(
    services: Services, due: Sequence[RawFile]
) -> tuple[list[RawFile], list[str]]:
    """The files whose bucket takes them, and what is wrong with the other buckets.

    Each bucket is asked once, so that no run fails for what is wrong with all of its files.
    """
    s3, now = connect(configured(services)), services.now()
    asked: dict[str, str | None] = {}
    problems: dict[str, None] = {}
    ready: list[RawFile] = []
    for raw_file in due:
        problem = _why_unfit(services, s3, raw_file, asked)
        if problem is None:
            ready.append(raw_file)
            continue
        problems[problem] = None
        if raw_file.offsite_waits_for != problem:
            services.store.offsite.waits(raw_file, problem, now=now)
    reported = "; ".join(problems) or f"it answers; {len(due)} files are due"
    services.store.health.offsite_seen(details=reported, is_well=not problems, now=now)
    return ready, list(problems)


def _why_unfit(
    services: Services, s3: S3, raw_file: RawFile, asked: dict[str, str | None]
) -> str | None:
    """Why a file's bucket takes nothing now; `asked` has what was found of each bucket."""
    try:
        bucket = place_of(services, raw_file).bucket
    except ConfigError as error:
        return str(error)
    if bucket not in asked:
        try:
            require_fit(s3, bucket)
            asked[bucket] = None
        except OffsiteError as error:
            asked[bucket] = str(error)
    return asked[bucket]


def _requests(
    context: dg.SensorEvaluationContext, services: Services, due: Sequence[RawFile]
) -> list[dg.RunRequest]:
    jobs = {offsite_job(item) for item in services.config.instruments}
    live = live_runs(context.instance, services, jobs)
    slots = pool_limit(context.instance, OFFSITE_POOL, default=configured(services).slots)
    room = max(slots - live.slots, 0)
    found: list[dg.RunRequest] = []
    for raw_file in [item for item in due if item.id not in live.files][:room]:
        ensure_partitions(context.instance, raw_file.instrument_id, [raw_file])
        wanted = request(
            services,
            raw_file,
            step=Step.OFFSITE,
            job_name=offsite_job(raw_file.instrument_id),
        )
        if wanted is not None:
            found.append(wanted)
    return found


def scrub_copies_op(config: KrakenConfig) -> dg.OpDefinition:
    kraken_config = config

    @dg.op(
        name="scrub_copies",
        out=dg.Out(dg.Nothing),
        description="Asks the S3 server for every copy, reads some back, and gives up old uploads.",
    )
    def scrub_copies(
        context: dg.OpExecutionContext, kraken: dg.ResourceParam[KrakenResource]
    ) -> None:
        with dagster_errors():
            services = kraken.create_services(kraken_config)
            s3 = connect(configured(services))
        wrong: list[str] = []
        name, lease_s = scrub_copies_of(kraken_config.suffix), kraken_config.defaults.lease_s
        with alone(context, services, name, lease_s) as ours:
            if not ours:
                return
            with dagster_errors():
                for given_up in sweep(services, s3):
                    context.log.info(given_up)
                for item in scrub(services, s3):
                    reported = f"{item.raw_file_id!r}: {item.look}: {item.reason}"
                    context.log.info(reported)
                    wrong += [reported] if item.look in (Look.WRONG, Look.UNKNOWN) else []
        fail(wrong)

    return scrub_copies
