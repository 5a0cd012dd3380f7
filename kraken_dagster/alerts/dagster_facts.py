"""What Dagster itself says: its daemon's signs of life, its sensors, and jobs that fail."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from kraken_dagster.alerts.snapshot import DagsterFacts, FailedJob, Sensor
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.orchestration.dagster_internals import (
    InstigatorStatus,
    InstigatorType,
    SensorInstigatorData,
)
from kraken_dagster.orchestration.partitions import (
    ALERTS_SENSOR,
    CLUSTER_JOBS_SENSOR,
    OFFSITE_SENSOR,
    PURGE_JOB,
    REBUILD_JOB,
    RETIRE_JOB,
    SCRUB_JOB,
    SCRUB_OFFSITE_JOB,
    archive_job,
    catchup_job,
)

# Those that must run for a sensor to tick and a run to start.
_NEEDED = ("SENSOR", "SCHEDULER", "QUEUED_RUN_COORDINATOR")
_RUNS_OF = timedelta(days=7)
_RUNS_LOOKED_AT = 5
_FAILED = dg.DagsterRunStatus.FAILURE


def dagster_facts(
    instance: dg.DagsterInstance,
    config: KrakenConfig,
    *,
    now: datetime,
    suffixes: Sequence[str] = ("",),
) -> DagsterFacts:
    """What Dagster knows of these instruments.

    Args:
        suffixes: of the names that each code location has for itself.
    """
    return DagsterFacts(
        daemon_seen=_daemon_seen(instance),
        sensors=tuple(_sensors(instance, config, suffixes)),
        failed_jobs=tuple(_failed_jobs(instance, config, now, suffixes)),
    )


def _daemon_seen(instance: dg.DagsterInstance) -> datetime | None:
    beats = instance.get_daemon_heartbeats()
    seen = [beats[name].timestamp for name in _NEEDED if name in beats]
    return datetime.fromtimestamp(min(seen), tz=UTC) if len(seen) == len(_NEEDED) else None


def _sensors(
    instance: dg.DagsterInstance, config: KrakenConfig, suffixes: Sequence[str]
) -> Iterator[Sensor]:
    """Those that were ever on or off: of one that nobody has touched Dagster keeps nothing."""
    offsite = () if config.offsite is None else (OFFSITE_SENSOR,)
    shared = (CLUSTER_JOBS_SENSOR, ALERTS_SENSOR, *offsite)
    wanted: dict[str, str | None] = {f"{name}{end}": None for name in shared for end in suffixes}
    for item in config.instruments:
        wanted |= {f"{item}_watcher": item, f"{item}_archiver": item}
    for state in instance.all_instigator_state(instigator_type=InstigatorType.SENSOR):
        name = state.origin.instigator_name
        if name in wanted:
            data = state.instigator_data
            ticked = data.last_tick_timestamp if isinstance(data, SensorInstigatorData) else None
            yield Sensor(
                name=name,
                instrument=wanted[name],
                is_on=state.status is not InstigatorStatus.STOPPED,
                last_tick=None if ticked is None else datetime.fromtimestamp(ticked, tz=UTC),
            )


def _failed_jobs(
    instance: dg.DagsterInstance, config: KrakenConfig, now: datetime, suffixes: Sequence[str]
) -> Iterator[FailedJob]:
    """The jobs that are no single file's, and whose last run failed; of a file its status tells."""
    shared = (PURGE_JOB, SCRUB_JOB, SCRUB_OFFSITE_JOB, REBUILD_JOB, RETIRE_JOB)
    names = [f"{name}{end}" for name in shared for end in suffixes]
    names += [job(item) for item in config.instruments for job in (archive_job, catchup_job)]
    for name in names:
        records = instance.get_run_records(
            dg.RunsFilter(
                job_name=name,
                statuses=[_FAILED, dg.DagsterRunStatus.SUCCESS],
                updated_after=now - _RUNS_OF,
            ),
            limit=_RUNS_LOOKED_AT,
        )
        failed = _failed_since_the_last_good(records)
        if failed:
            yield FailedJob(
                name,
                tuple(item.dagster_run.run_id for item in failed),
                failed[-1].create_timestamp.replace(tzinfo=UTC),
            )


def _failed_since_the_last_good(records: Sequence[dg.RunRecord]) -> list[dg.RunRecord]:
    """Of runs, newest first, those that failed after the last one that went well."""
    failed = []
    for record in records:
        if record.dagster_run.status is not _FAILED:
            break
        failed.append(record)
    return failed
