"""Asks every engine once for all its open jobs, and keeps what changed."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from kraken_dagster.domain.errors import KrakenError, StoreError, UnknownRawFile
from kraken_dagster.domain.quant import JobReport, JobState, QuantJob
from kraken_dagster.domain.raw_file import RawFile, Status
from kraken_dagster.steps.world import World

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
    for name in world.config.engines:
        try:
            jobs = _ask(world, name, now)
        except StoreError:
            raise
        except KrakenError as error:
            problems.append(f"engine {name!r}: {error}")
            jobs = world.store.jobs.uncollected(name)
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
        to_submit=tuple(_next_to_submit(world, open_jobs, slots, begun, now)),
        problems=tuple(problems),
    )


def _ask(world: World, engine_name: str, now: datetime) -> list[QuantJob]:
    """The engine's uncollected jobs, as it reports them now."""
    engine, jobs = world.engines[engine_name], world.store.jobs.uncollected(engine_name)
    ours = [job for job in jobs if job.instrument_id in world.config.instruments]
    asked = [job for job in ours if job.is_open and job.cluster_job_id is not None]
    reports = engine.states([str(job.cluster_job_id) for job in asked]) if asked else {}
    for job in asked:
        report = _settled(job, reports[str(job.cluster_job_id)], now)
        if report.state is job.state and report.started_at == job.started_at:
            continue
        ended = report.state not in (JobState.WAITING, JobState.RUNNING, JobState.UNKNOWN)
        tail = engine.log_tail(str(job.cluster_job_id)) if ended else None
        world.store.jobs.report(job, report, now=now, log_tail=tail)
    return world.store.jobs.uncollected(engine_name)


def _settled(job: QuantJob, report: JobReport, now: datetime) -> JobReport:
    """A job that the engine doesn't know is not done; only after a grace it counts as failed."""
    unknown_since = job.unknown_since or now
    if report.state is not JobState.UNKNOWN or now - unknown_since < _UNKNOWN_GRACE:
        return report
    detail = f"the engine has not known the job for {_UNKNOWN_GRACE}: {report.detail}"
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


def _next_to_submit(
    world: World,
    open_jobs: dict[str, int],
    slots: dict[str, int],
    begun: set[str],
    now: datetime,
) -> list[RawFile]:
    """As many files as have a chance of a slot, and those that a run left half submitted: their
    intended jobs take slots until they are submitted or withdrawn."""
    room = {name: max(0, slots[name] - open_jobs[name]) for name in world.config.engines}
    waiting: list[RawFile] = []
    for instrument_id in world.config.instruments:
        engine = world.instrument(instrument_id).engine
        if room[engine] == 0 and not begun:
            continue
        queued = world.store.raw_files.in_status(instrument_id, {Status.QUEUED_FOR_QUANTING})
        waiting.extend(queued)
    chosen: list[RawFile] = []
    for item in _free(waiting, now):
        engine = world.instrument(item.instrument_id).engine
        if item.id in begun:
            chosen.append(item)
        elif room[engine] > 0:
            room[engine] -= 1
            chosen.append(item)
    return chosen
