"""Hands a job over to its engine: at most once, whatever dies or gives no answer meanwhile.

The order of things is the point. The intention is in MongoDB first, then the moment at which
submitting is begun, then the engine is told. A job for which it was begun and that has no id may
or may not be on the cluster: it is looked for by its name, and submitted again only when it was
missing at two looks that lie further apart than anything could take to turn up.
"""

from collections.abc import Sequence
from datetime import timedelta

from kraken_dagster.clients.bounded import bounded
from kraken_dagster.domain.errors import ClusterError, JobError
from kraken_dagster.domain.quant import JobState, QuantJob
from kraken_dagster.steps.engine_health import note_trouble
from kraken_dagster.steps.outputs import job_id_left_by
from kraken_dagster.steps.world import World


def hand_over(world: World, job: QuantJob) -> str | None:
    """Submits an intended job; returns why it must wait instead, in words.

    Raises:
        SubmitFailed, SettingsRefused: the engine doesn't take it; nothing was submitted.
    """
    try:
        if job.tried_at is not None:
            if (known := _known_to_engine(world, job)) is not None:
                world.store.jobs.submitted(job, known)
                return None
            if not _is_lost(world, job):
                return "whether it was submitted is not clear yet; the cluster is asked again"
        _submit(world, job)
    except ClusterError as error:
        note_trouble(world, job.engine, error)
        return str(error)
    return None


def _submit(world: World, job: QuantJob) -> None:
    engine, spec, stall_s = world.engines[job.engine], job.spec(), _stall_s(world, job)
    world.store.jobs.trying(job, now=world.now())
    try:
        job_id = bounded(lambda: engine.submit(spec), timeout_s=stall_s, what=spec.name)
    except ClusterError:
        raise
    except JobError:
        # A refused one is taken back, since it would hold a slot for nothing. One whose
        # submission was only reported as failed runs, and is taken for submitted.
        if withdraw(world, job):
            raise
        return
    world.store.jobs.submitted(job, job_id)


def withdraw(world: World, job: QuantJob) -> bool:
    """Takes an intention back; False where the engine knows the job, so that it was submitted.

    Raises:
        ClusterError: nobody knows; the intention stays.
    """
    if job.tried_at is None and world.store.jobs.get(job.id).tried_at is None:
        world.store.jobs.withdraw(job)
        return True
    found = _known_to_engine(world, job)
    if found is None:
        world.store.jobs.withdraw(job)
    else:
        world.store.jobs.submitted(job, found)
    return found is None


def fits(world: World, job: QuantJob, slots: int) -> bool:
    """Whether an intended job is within the slots.

    Intentions count as open, so that runs that decide at the same time never overshoot. Jobs
    that are submitted again keep their intention while they wait: of those the older go first.
    """
    others = [
        other
        for other in world.store.jobs.uncollected(job.engine)
        if other.is_open and other.id != job.id and not _goes_after(other, job)
    ]
    return len(others) < slots


def _goes_after(other: QuantJob, job: QuantJob) -> bool:
    waiting = other.state is JobState.INTENDED and other.resubmission > 0
    return waiting and job.resubmission > 0 and _age(other) > _age(job)


def _age(job: QuantJob) -> Sequence[object]:
    return (job.created_at, job.id)


def _known_to_engine(world: World, job: QuantJob) -> str | None:
    engine, stall_s = world.engines[job.engine], _stall_s(world, job)
    found = bounded(lambda: engine.find(job.id), timeout_s=stall_s, what=job.id)
    if found is None and world.on_cluster(job.engine):
        found = bounded(lambda: job_id_left_by(world, job), timeout_s=stall_s, what=job.id)
    return found


def _is_lost(world: World, job: QuantJob) -> bool:
    """Whether a job that the engine doesn't have now will not turn up any more."""
    settles, now = timedelta(seconds=world.engines[job.engine].settles_s), world.now()
    if job.missing_since is None:
        world.store.jobs.missing(job, now=now)
    return now - (job.missing_since or now) >= settles


def _stall_s(world: World, job: QuantJob) -> float:
    return world.instrument(job.instrument_id).copy_stall_s
