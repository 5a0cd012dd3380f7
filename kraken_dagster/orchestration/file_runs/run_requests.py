"""Requests runs for files, and knows which files have a live run already."""

from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
from dagster import DagsterRunStatus, RunRecord, RunsFilter

from kraken_dagster.model.errors import UnknownRawFile
from kraken_dagster.model.files.file_ids import partition_key, raw_file_id_of
from kraken_dagster.model.raw_file import RawFile, Step
from kraken_dagster.orchestration.failures import skip
from kraken_dagster.orchestration.partitions import (
    QUANT_JOB,
    TAG_ATTEMPT,
    TAG_COPIES,
    TAG_FILES,
    TAG_INSTRUMENT,
    TAG_STEP,
    add_partitions,
    missing_partitions,
    op_name,
    partitions_of,
)
from kraken_dagster.runtime.exclusive_runs import offsite_of
from kraken_dagster.runtime.heartbeats import is_alive
from kraken_dagster.runtime.services import Services

_LIVE = (
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
)
_LONGEST_NUMBER = 9  # digits
_PARTITION_TAG = "dagster/partition"
RANGE_TAGS = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")


@dataclass(frozen=True)
class LiveRuns:
    """The runs that live, as those who request runs of some jobs need to know it.

    Args:
        files: the raw files that they are for, each with the run's id: of runs of these jobs, and
            of those that people or a catch-up have launched over many files.
        slots: how many copies those of these jobs may make at once.
        fixed: the raw files of any run over many, whose partitions must stay where they are.
    """

    files: Mapping[str, str]
    slots: int
    fixed: Set[str]


def live_runs(instance: dg.DagsterInstance, services: Services, jobs: Collection[str]) -> LiveRuns:
    """What the live runs are for, of these jobs and over many files.

    A run whose process is gone stays `started` for ever in Dagster. What shows that it lives is
    the file's lease; a run without one for too long is reported as failed here, whoever asked for
    it, and doesn't count.
    """
    files: dict[str, str] = {}
    fixed: set[str] = set()
    slots = 0
    for record in instance.get_run_records(RunsFilter(statuses=list(_LIVE))):
        run = record.dagster_run
        key = run.tags.get(_PARTITION_TAG)
        found = (
            _live_range(instance, services, record)
            if key is None
            else _live_file(instance, services, record, key)
        )
        fixed |= set(found) if key is None else set()
        ours = run.job_name in jobs
        if ours or (key is None and TAG_FILES not in run.tags):
            files |= dict.fromkeys(found, run.run_id)
        if ours and found:
            slots += _copies(run)
    return LiveRuns(files, slots, fixed)


def _copies(run: dg.DagsterRun) -> int:
    """How many files it may copy at once. A tag that says nothing fails its run, and no tick."""
    told = run.tags.get(TAG_COPIES, "1")
    return int(told) if told.isdecimal() and len(told) < _LONGEST_NUMBER else 1


def _live_file(
    instance: dg.DagsterInstance, services: Services, record: RunRecord, key: str
) -> list[str]:
    """The raw file of a live run over one; none if its process is gone."""
    raw_file_id = raw_file_id_of(key)
    if (reason := _why_dead(services, record, raw_file_id)) is None:
        return [raw_file_id]
    instance.report_run_failed(record.dagster_run, reason)
    return []


def _live_range(instance: dg.DagsterInstance, services: Services, record: RunRecord) -> list[str]:
    """The raw files of a live run over many; none if it is none, or its process is gone.

    Such a run holds a few leases at a time, and gives life signs of its own.
    """
    run = record.dagster_run
    instrument_id = next(iter(_instruments(run) & set(services.config.instruments)), None)
    if instrument_id is None or not set(RANGE_TAGS) <= set(run.tags):
        return []
    now, lease_s = services.now(), services.instrument(instrument_id).lease_s
    if not is_alive(services, run.run_id, now) and (reason := _why_idle(record, lease_s, now)):
        instance.report_run_failed(run, reason)
        return []
    return files_of_run(instance, run)


def _instruments(run: dg.DagsterRun) -> set[str]:
    found = {key.path[0] for key in run.asset_selection or ()}
    return {*found, run.tags.get(TAG_INSTRUMENT, "")}


def files_of_run(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[str]:
    """The raw files that a run is for, one or those of a range; none where it can't be told."""
    if (key := run.tags.get(_PARTITION_TAG)) is not None:
        return [raw_file_id_of(key)]
    ends = [run.tags.get(name) for name in RANGE_TAGS]
    for instrument_id in sorted(_instruments(run) - {""} if None not in ends else ()):
        keys = partitions_of(instance, instrument_id)
        if set(ends) <= set(keys):
            first, last = (keys.index(str(end)) for end in ends)
            return [raw_file_id_of(key) for key in keys[first : last + 1]]
    return []


def _why_dead(services: Services, record: RunRecord, raw_file_id: str) -> str | None:
    if record.dagster_run.status is not DagsterRunStatus.STARTED or record.start_time is None:
        return None
    try:
        raw_file = services.store.raw_files.get(raw_file_id)
    except UnknownRawFile:
        return None
    if raw_file.instrument_id not in services.config.instruments:
        return None
    now, run_id = services.now(), record.dagster_run.run_id
    held = raw_file.leased(now)
    if held is not None and held.run_id == run_id:
        return None
    if record.dagster_run.tags.get(TAG_STEP) == Step.OFFSITE:  # it has a lease of its own
        upload = services.store.exclusive_runs.get(offsite_of(raw_file_id)).held(now)
        if upload is not None and upload.run_id == run_id:
            return None
    seconds = services.instrument(raw_file.instrument_id).lease_s
    started = datetime.fromtimestamp(record.start_time, tz=UTC)
    idle = now - max(started, raw_file.updated_at_)
    if idle < timedelta(seconds=seconds):
        return None
    return (
        f"The run's process is gone: it holds no lease on {raw_file_id!r} and nothing has changed "
        f"on that file for {idle.total_seconds():.0f} s. Next: nothing, what is missing is "
        "requested again."
    )


def request(
    services: Services,
    raw_file: RawFile,
    *,
    step: Step,
    job_name: str,
    run_config: dict[str, Any] | None = None,
    only: dg.AssetKey | None = None,
) -> dg.RunRequest | None:
    """A run for one file, of the whole job or of one of its assets; None if another was quicker.

    The attempt is counted in MongoDB first: a run key is used up for ever, even if the run never
    comes to life.
    """
    attempt = services.store.raw_files.next_attempt(raw_file, step)
    if attempt is None:
        return None
    key = partition_key(raw_file.id)
    return dg.RunRequest(
        run_key=f"{key}:{step}:{attempt}",
        job_name=job_name,
        partition_key=key,
        run_config=run_config or {},
        asset_selection=None if only is None else [only],
        tags={
            TAG_STEP: step.value,
            TAG_ATTEMPT: str(attempt),
            TAG_INSTRUMENT: raw_file.instrument_id,
        },
    )


def request_exclusive_run(
    instance: dg.DagsterInstance,
    services: Services,
    *,
    exclusive_run: str,
    job_name: str,
    lease_s: float,
    run_config: dict[str, Any],
    tags: dict[str, str],
) -> dg.RunRequest | dg.SkipReason:
    """A run for work on a whole instrument, unless one is at it or on its way."""
    held = services.store.exclusive_runs.get(exclusive_run).held(services.now())
    if held is not None:
        return skip(f"run {held.run_id} does this already")
    filter_ = RunsFilter(job_name=job_name, statuses=list(_LIVE))
    for record in instance.get_run_records(filter_):
        run, reason = record.dagster_run, _why_idle(record, lease_s, services.now())
        if reason is None:
            return skip(f"run {run.run_id} is on its way")
        instance.report_run_failed(run, reason)
    attempt = services.store.exclusive_runs.next_attempt(exclusive_run)
    if attempt is None:
        return skip("another sensor has just requested a run")
    return dg.RunRequest(
        run_key=f"{exclusive_run}:{attempt}", job_name=job_name, run_config=run_config, tags=tags
    )


def _why_idle(record: RunRecord, lease_s: float, now: datetime) -> str | None:
    """Why a run that has no lease on its work is taken for dead; None if it may yet take it."""
    if record.dagster_run.status is not DagsterRunStatus.STARTED or record.start_time is None:
        return None
    started = datetime.fromtimestamp(record.start_time, tz=UTC)
    if now - started < timedelta(seconds=lease_s):
        return None
    return (
        f"The run's process is gone: it began at {started:%H:%M:%S} UTC and holds no lease on its "
        "work any more. Next: nothing, what is missing is requested again."
    )


def ensure_partitions(
    instance: dg.DagsterInstance, instrument_id: str, files: Iterable[RawFile]
) -> None:
    """Adds the files' partitions that Dagster doesn't have (any more)."""
    wanted = [partition_key(item.id) for item in files]
    if missing := missing_partitions(instance, instrument_id, wanted):
        add_partitions(instance, instrument_id, missing)


def quant_run_config(services: Services, instrument_id: str) -> dict[str, object]:
    """The options of `quant_job` that instruments.yaml has for an instrument, as run config."""
    instrument = services.instrument(instrument_id)
    options = {
        "output_exists_mode": instrument.output_exists_mode.value,
        "debug_no_cluster_ssh": instrument.debug_no_cluster_ssh,
    }
    return {op_name(instrument_id, QUANT_JOB): {"config": options}}
