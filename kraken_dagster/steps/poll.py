"""Asks every engine once for all its open jobs, and keeps what changed."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from kraken_dagster.clients.bounded import bounded
from kraken_dagster.domain.engines import QueueOrder
from kraken_dagster.domain.errors import ClusterError, KrakenError, StoreError, UnknownRawFile
from kraken_dagster.domain.ports import Engine
from kraken_dagster.domain.quant import JobReport, JobState, QuantJob
from kraken_dagster.domain.raw_file import RawFile, Status
from kraken_dagster.steps.engine_health import note_trouble, trouble_with
from kraken_dagster.steps.outputs import exit_code_left_by
from kraken_dagster.steps.world import World

_ACCOUNTS_LAG = timedelta(minutes=2)
_UNKNOWN_GRACE = timedelta(minutes=10)


@dataclass(frozen=True)
class Poll:
    """`to_collect` are files with a result that is not in MongoDB yet, `to_submit` files whose
    jobs wait for a slot, oldest acquisition first; `problems` are engines that gave no answer."""

    open_jobs: int
    to_collect: tuple[RawFile, ...]
    to_submit: tuple[RawFile, ...]
    problems: tuple[str, ...]


def poll(world: World, *, slots: dict[str, int]) -> Poll:
    """One question per engine. Nothing is marked failed because it could not be asked."""
    now, instruments = world.now(), set(world.config.instruments)
    problems: list[str] = []
    ended: dict[str, list[QuantJob]] = defaultdict(list)
    begun: set[str] = set()
    known: set[str] = set()
    open_jobs: dict[str, int] = defaultdict(int)
    closed: set[str] = set()
    for name in world.config.engines:
        jobs, trouble = _polled(world, name, now)
        if trouble is not None:
            problems.append(f"engine {name!r}: {trouble}")
            closed.add(name)
        open_jobs[name] = sum(job.is_open for job in jobs)
        known |= {job.raw_file for job in jobs}
        begun |= {job.raw_file for job in jobs if job.state is JobState.INTENDED}
        for job in jobs:
            if not job.is_open and job.instrument_id in instruments:
                ended[job.raw_file].append(job)
    return Poll(
        open_jobs=sum(open_jobs.values()),
        to_collect=tuple(
            _to_collect([*_known(world, ended, problems), *_orphans(world, known)], now)
        ),
        to_submit=tuple(_next_to_submit(world, _room(world, open_jobs, slots, closed), begun, now)),
        problems=tuple(problems),
    )


def _polled(world: World, name: str, now: datetime) -> tuple[list[QuantJob], str | None]:
    """The engine's uncollected jobs as it reports them now, and why it could not be asked."""
    trouble = trouble_with(world, name, now)
    if trouble is None:
        try:
            _ask(world, name, now)
        except StoreError:
            raise
        except KrakenError as error:
            note_trouble(world, name, error)
            trouble = str(error)
    return world.store.jobs.uncollected(name), trouble


def _ask(world: World, name: str, now: datetime) -> None:
    """One question for all open jobs, and what changed into MongoDB."""
    engine, jobs = world.engines[name], _ours(world, world.store.jobs.uncollected(name))
    asked = {
        str(job.cluster_job_id): job
        for job in jobs
        if job.is_open and job.cluster_job_id is not None
    }
    if not asked and (world.store.board.engine(name) or {}).get("failures"):
        engine.check()
    blocked: list[str] = []
    for job_id, report in engine.states(list(asked)).items():
        job = asked[job_id]
        settled = _settled(world, job, report, now)
        if settled.state is JobState.WAITING and settled.detail:
            blocked.append(f"{job.id} ({job_id}) waits for {settled.detail}")
        if (settled.state, settled.started_at) != (job.state, job.started_at) or (
            settled.state is JobState.WAITING and settled.detail != job.detail
        ):
            tail = _log_tail(engine, job) if settled.ended else None
            world.store.jobs.report(job, settled, now=now, log_tail=tail)
    _account(world, name, now)
    details = "; ".join(blocked) if blocked else f"{len(asked)} jobs are open"
    world.store.board.engine_well(name, details=details, blocked=bool(blocked), now=now)


def _log_tail(engine: Engine, job: QuantJob) -> str:
    """For whoever reads of the job; it matters less than its state."""
    try:
        return engine.log_tail(job.spec())
    except ClusterError as error:
        return f"(its log could not be read: {error})"


def _account(world: World, name: str, now: datetime) -> None:
    """What ended jobs used. The accounting lags; after a while it is not asked any more."""
    jobs = {
        str(job.cluster_job_id): job for job in _ours(world, world.store.jobs.unaccounted(name))
    }
    used = world.engines[name].usage(list(jobs)) if jobs else {}
    for job_id, job in jobs.items():
        known = used.get(job_id)
        complete = known is not None and known.ended and known.peak_memory_bytes is not None
        if complete or now - (job.ended_at or job.created_at) > _ACCOUNTS_LAG:
            world.store.jobs.account(job, known)


def _ours(world: World, jobs: Iterable[QuantJob]) -> list[QuantJob]:
    return [job for job in jobs if job.instrument_id in world.config.instruments]


def _settled(world: World, job: QuantJob, report: JobReport, now: datetime) -> JobReport:
    """A job that the engine doesn't know is not done: what it left in its output folder decides,
    and if it left nothing it counts as failed, but only after a grace."""
    if report.state is not JobState.UNKNOWN:
        return report
    try:
        exit_code = bounded(
            lambda: exit_code_left_by(world, job),
            timeout_s=world.instrument(job.instrument_id).folder_timeout_s,
            what=world.config.locations.output.path,
        )
    except (KrakenError, OSError) as error:
        return replace(report, detail=f"{report.detail}; its output can't be read: {error}")
    if exit_code is not None:
        state = JobState.FAILED if exit_code else JobState.SUCCEEDED
        detail = f"by the exit code in its output folder: {report.detail}"
        return replace(report, state=state, exit_code=exit_code, ended_at=now, detail=detail)
    if now - (job.unknown_since or now) < _UNKNOWN_GRACE:
        return report
    detail = f"{report.detail}, for {_UNKNOWN_GRACE}, and it left no exit code in its output folder"
    return replace(report, state=JobState.FAILED, ended_at=now, detail=detail)


def _known(world: World, names: Iterable[str], problems: list[str]) -> list[RawFile]:
    found: list[RawFile] = []
    for name in names:
        try:
            found.append(world.store.raw_files.get(name))
        except UnknownRawFile as error:
            problems.append(f"a job of a file that is gone from MongoDB: {error}")
    return found


def _orphans(world: World, known: set[str]) -> list[RawFile]:
    """Files whose jobs have all been collected, and that nobody has ended."""
    return [
        raw_file
        for instrument_id in world.config.instruments
        for raw_file in world.store.raw_files.in_status(instrument_id, {Status.QUANTING})
        if raw_file.id not in known
    ]


def _to_collect(files: list[RawFile], now: datetime) -> list[RawFile]:
    """Not while further jobs of the file are still to be submitted: they end it together."""
    return [item for item in _free(files, now) if item.status is not Status.QUEUED_FOR_QUANTING]


def _free(files: list[RawFile], now: datetime) -> list[RawFile]:
    """What no run holds, oldest acquisition first."""
    free = [item for item in files if item.leased(now) is None]
    return sorted(free, key=lambda item: item.created_at)


def _room(
    world: World, open_jobs: dict[str, int], slots: dict[str, int], closed: set[str]
) -> dict[str, int]:
    """How many jobs each engine may be given; those that can't be asked are left out."""
    return {
        name: max(0, slots[name] - open_jobs[name])
        for name in world.config.engines
        if name not in closed
    }


def _next_to_submit(
    world: World, room: dict[str, int], begun: set[str], now: datetime
) -> list[RawFile]:
    """As many files as have a chance of a slot, and those that a run left half submitted: their
    intended jobs take slots until they are submitted or withdrawn."""
    waiting: dict[str, list[RawFile]] = defaultdict(list)
    for instrument_id in world.config.instruments:
        engine = world.instrument(instrument_id).engine
        if engine in room and (room[engine] or begun):
            queued = world.store.raw_files.in_status(instrument_id, {Status.QUEUED_FOR_QUANTING})
            waiting[engine].extend(queued)
    chosen: list[RawFile] = []
    for engine, files in waiting.items():
        free, left = _free(files, now), room[engine]
        if world.config.engines[engine].queue_order is QueueOrder.NEWEST_FIRST:
            free.reverse()
        for item in free:
            if item.id in begun:
                chosen.append(item)
            elif left > 0:
                left -= 1
                chosen.append(item)
    return chosen
