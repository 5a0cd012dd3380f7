"""Hands a job over to its engine: at most once, whatever dies or gives no answer meanwhile.

The order of things is the point. The intention is in MongoDB first, then the moment at which
submitting is begun, then the engine is told. A job for which it was begun and that has no id may
or may not be on the cluster: it is looked for by its name, and submitted again only when it was
missing at two looks that lie further apart than anything could take to turn up.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

from kraken_dagster.fs.private import make_folders
from kraken_dagster.fs.stores.marker import Role, marker_line
from kraken_dagster.fs.stores.roots import OpenRoot
from kraken_dagster.fs.timeouts import bounded
from kraken_dagster.model.errors import ClusterError, JobError, StoreAway, SubmitFailed
from kraken_dagster.model.jobs.job import QuantJob
from kraken_dagster.model.jobs.report import JobState
from kraken_dagster.quant.jobs.engine_backoff import note_refusal
from kraken_dagster.quant.jobs.left_by_job import job_id_left_by
from kraken_dagster.quant.jobs.whose_turn import counted, is_ours
from kraken_dagster.runtime.services import Services
from kraken_dagster.runtime.stores import opened

T = TypeVar("T")


def hand_over(services: Services, job: QuantJob, *, may_start: Callable[[], None]) -> str | None:
    """Submits an intended job; returns why it must wait instead, in words.

    `may_start` raises where this run has lost its lease, so that another may submit the job.

    Raises:
        SubmitFailed, SettingsRefused: the engine doesn't take it; nothing was submitted.
        StoreAway: the job would find no backup, or no place for its result.
    """
    try:
        if job.tried_at is not None:
            if not is_ours(services, job):
                return _of_another(job)
            if (known := _known_to_engine(services, job)) is not None:
                services.store.jobs.submitted(job, known)
                return None
            if not _is_lost(services, job):
                return "whether it was submitted is not clear yet; the cluster is asked again"
        _submit(services, job, may_start)
    except ClusterError as error:
        note_refusal(services, job.engine, error)
        return str(error)
    return None


def _submit(services: Services, job: QuantJob, may_start: Callable[[], None]) -> None:
    engine = services.engines[job.engine]
    spec = replace(job.spec(), stores=_stores_of(services, job))
    services.store.jobs.trying(job, location=services.config.location, now=services.now())
    try:
        job_id = _bounded_here(services, job, lambda: engine.submit(spec, may_start=may_start))
    except ClusterError:
        raise
    except StoreAway:  # of the head node
        services.store.jobs.refused(job)
        raise
    except JobError:
        # One whose submission was only reported as failed runs, and is taken for submitted. A
        # refused one is taken back at once, since it would hold a slot for nothing.
        if (known := _known_to_engine(services, job)) is None:
            services.store.jobs.refused(job)
            raise
        job_id = known
    services.store.jobs.submitted(job, job_id)


def _stores_of(services: Services, job: QuantJob) -> tuple[tuple[str, str], ...]:
    """The roots where the job runs, and what it knows them by.

    Raises:
        StoreAway: one of them isn't even here.
    """
    found = []
    for role in (Role.OUTPUT, Role.BACKUP):
        with opened(services, role) as root:
            if role is Role.OUTPUT and not services.on_cluster(job.engine):
                _make_folder(services, job, root)
            location = services.config.locations.output
            if role is Role.BACKUP:
                location = services.config.locations.backup
            on_cluster = services.on_cluster(job.engine)
            path = location.cluster_path if on_cluster else str(location.path)
            found.append((path, marker_line(role, root.store_id)))
    return tuple(found)


def _make_folder(services: Services, job: QuantJob, root: OpenRoot) -> None:
    """The job's folder, through the open output: where that is away it is made nowhere.

    Raises:
        SubmitFailed
    """
    folder = services.result_folder(job, root.path)
    stall_s = services.instrument(job.instrument_id).copy_stall_s
    try:
        bounded(lambda: make_folders(folder), timeout_s=stall_s, what=folder)
    except OSError as error:
        raise SubmitFailed(
            "The job could not be started",
            file=job.output_path,
            found=error.strerror or error,
            next_step="check the disk and the rights of the output folder.",
        ) from error


def withdraw(services: Services, job: QuantJob) -> bool:
    """Takes an intention back; False where the job was submitted, or may have been: then it stays.

    Raises:
        ClusterError: the engine can't be asked; the intention stays.
    """
    job = services.store.jobs.get(job.id)
    if job.tried_at is not None:
        if not is_ours(services, job):
            return False
        if (found := _known_to_engine(services, job)) is not None:
            services.store.jobs.submitted(job, found)
            return False
        if not _is_lost(services, job):
            return False
    services.store.jobs.withdraw(job)
    return True


def _of_another(job: QuantJob) -> str:
    return (
        f"the code location {job.location!r} may have started it, and is the only one that can "
        "tell: start that one; where it will never come back, `kraken retry` gives the job up"
    )


def fits(services: Services, job: QuantJob, slots: int) -> bool:
    """Whether an intended job may be handed over."""
    jobs = services.store.jobs.uncollected(job.engine)
    return has_slot(job, counted(services, job.engine, jobs), slots)


def has_slot(job: QuantJob, jobs: Iterable[QuantJob], slots: int) -> bool:
    """Whether an intended job is within the slots, `jobs` being those of its engine.

    Intentions count as open, so that runs that decide at the same time never overshoot. Jobs
    that are submitted again keep their intention while they wait: of those the older go first.
    One that may be on the cluster has its slot, and must be asked for.
    """
    if job.tried_at is not None:
        return True
    others = [
        other
        for other in jobs
        if other.is_open and other.id != job.id and not _goes_after(other, job)
    ]
    return len(others) < slots


def _goes_after(other: QuantJob, job: QuantJob) -> bool:
    both_wait = waits_to_run_again(other) and waits_to_run_again(job)
    return both_wait and _age(other) > _age(job)


def waits_to_run_again(job: QuantJob) -> bool:
    """Whether it keeps its intention until a slot is free."""
    return job.resubmission > 0 and job.state is JobState.INTENDED and job.tried_at is None


def _age(job: QuantJob) -> tuple[datetime, str]:
    return (job.created_at, job.id)


def _known_to_engine(services: Services, job: QuantJob) -> str | None:
    engine = services.engines[job.engine]
    found = _bounded_here(services, job, lambda: engine.find(job.id))
    if found is None and services.on_cluster(job.engine):
        stall_s = services.instrument(job.instrument_id).copy_stall_s
        found = bounded(lambda: job_id_left_by(services, job), timeout_s=stall_s, what=job.id)
    return found


def _bounded_here(services: Services, job: QuantJob, function: Callable[[], T]) -> T:
    """Jobs of this machine wait for its disks; a cluster's answer has bounds of its own."""
    if services.on_cluster(job.engine):
        return function()
    stall_s = services.instrument(job.instrument_id).copy_stall_s
    return bounded(function, timeout_s=stall_s, what=job.output_path)


def _is_lost(services: Services, job: QuantJob) -> bool:
    """Whether a job that the engine doesn't have now will not turn up any more."""
    settles, now = timedelta(seconds=services.engines[job.engine].settles_s), services.now()
    if job.missing_since is None:
        services.store.jobs.missing(job, now=now)
    return now - (job.missing_since or now) >= settles
