"""Asks every engine once for all its open jobs, and keeps what changed."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from kraken_dagster.fs.stores.marker import Role
from kraken_dagster.model.jobs.job import QuantJob
from kraken_dagster.model.jobs.report import JobState
from kraken_dagster.model.raw_file import RawFile, Status
from kraken_dagster.quant.jobs.ask_engine import ask
from kraken_dagster.quant.jobs.handover import has_slot, waits_to_run_again
from kraken_dagster.quant.jobs.slots import Whose, free, next_to_submit, room, whose
from kraken_dagster.quant.jobs.whose_turn import counted
from kraken_dagster.runtime.services import Services
from kraken_dagster.runtime.stores import why_away

_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(minutes=1), timedelta(minutes=30)


@dataclass(frozen=True)
class Poll:
    """`to_collect` are files with a result that is not in MongoDB yet, `to_submit` files whose
    jobs wait for a slot, oldest acquisition first; `problems` are engines that gave no answer."""

    open_jobs: int
    to_collect: tuple[RawFile, ...]
    to_submit: tuple[RawFile, ...]
    problems: tuple[str, ...]


@dataclass
class _Answers:
    """What is known of the jobs of every engine, once all were asked. Files are by their ids."""

    open_jobs: dict[str, int] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)  # engines that gave no answer
    known: set[str] = field(default_factory=set)  # files with uncollected jobs
    ended: dict[str, None] = field(default_factory=dict)  # files with a result to collect, in order
    begun: set[str] = field(default_factory=set)  # files with a job to hand over or withdraw
    submitted: set[Whose] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)


def poll(services: Services, *, slots: dict[str, int]) -> Poll:
    """One question per engine. Nothing is marked failed because it could not be asked."""
    now, answers = services.now(), _Answers()
    for name in services.config.engines:
        jobs, refusal = ask(services, name, now)
        if refusal is not None:
            answers.problems.append(f"engine {name!r}: {refusal}")
            answers.closed.add(name)
        instruments = services.config.instruments
        _take_in(answers, name, jobs, slots=slots[name], instruments=instruments, now=now)
        answers.open_jobs[name] = sum(job.is_open for job in counted(services, name, jobs))
    known, problems = answers.known, answers.problems
    problems += _left_alone(services, known)
    ended = _known(services, answers.ended, problems)
    to_collect = _to_collect([*ended, *_orphans(services, known)], now)
    to_submit = next_to_submit(
        services,
        room(services, answers.open_jobs, slots, answers.closed),
        begun=answers.begun,
        submitted=answers.submitted,
        now=now,
    )
    to_collect, to_submit = _with_stores(services, to_collect, to_submit, problems)
    return Poll(
        open_jobs=sum(answers.open_jobs.values()),
        to_collect=tuple(to_collect),
        to_submit=tuple(to_submit),
        problems=tuple(problems),
    )


def _take_in(
    answers: _Answers,
    name: str,
    jobs: list[QuantJob],
    *,
    slots: int,
    instruments: Collection[str],
    now: datetime,
) -> None:
    """Adds what the uncollected jobs of one engine say."""
    answers.known |= {job.raw_file for job in jobs}
    answers.begun |= {job.raw_file for job in jobs if _is_due(job, jobs, slots)}
    answers.submitted |= {whose(job) for job in jobs if job.state is not JobState.INTENDED}
    for job in jobs:
        if not job.is_open and job.instrument_id in instruments and not _pauses(job, now):
            answers.ended[job.raw_file] = None
    if waiting := [job for job in jobs if _pauses(job, now)]:
        answers.problems.append(
            f"engine {name!r}: {len(waiting)} jobs wait, and are tried again by themselves: "
            f"{waiting[0].detail}. Next: mount it there, or free space"
        )


def _with_stores(
    services: Services, to_collect: list[RawFile], to_submit: list[RawFile], problems: list[str]
) -> tuple[list[RawFile], list[RawFile]]:
    """What can be done with the stores that are there; one line for each that is away."""
    if not (to_collect or to_submit):
        return to_collect, to_submit
    if (away := why_away(services, Role.OUTPUT)) is not None:
        problems.append(f"{len(to_collect) + len(to_submit)} files wait. {away}")
        return [], []
    if to_submit and (away := why_away(services, Role.BACKUP)) is not None:
        problems.append(f"{len(to_submit)} files wait. {away}")
        return to_collect, []
    return to_collect, to_submit


def _left_alone(services: Services, known: set[str]) -> list[str]:
    """Jobs of engines that are not configured (any more): nobody can be asked about them."""
    problems = []
    for name in services.store.jobs.engines_in_use():
        if name not in services.config.engines:
            jobs = services.store.jobs.uncollected(name)
            known |= {job.raw_file for job in jobs if job.is_open}
            problems.append(
                f"engine {name!r} is not in instruments.yaml (any more), and {len(jobs)} jobs are "
                "its: put it back, or have `kraken retry` give them up"
            )
    return problems


def _pauses(job: QuantJob, now: datetime) -> bool:
    """Whether a job that found no store has its time to be tried again; longer each time."""
    if not job.met_no_store or job.ended_at is None:
        return False
    pause: timedelta = _FIRST_PAUSE * 2 ** min(job.resubmission, 10)
    return now - job.ended_at < min(pause, _LONGEST_PAUSE)


def _is_due(job: QuantJob, jobs: list[QuantJob], slots: int) -> bool:
    """Whether an intended job is to be handed over or withdrawn now."""
    if waits_to_run_again(job):
        return has_slot(job, jobs, slots)
    return job.state is JobState.INTENDED


def _known(services: Services, names: Iterable[str], problems: list[str]) -> list[RawFile]:
    wanted = list(names)
    found = services.store.raw_files.many(wanted)
    gone = [name for name in wanted if name not in found]
    problems += [f"a job of a file that is gone from MongoDB: {name!r}" for name in gone]
    return [found[name] for name in wanted if name in found]


def _orphans(services: Services, known: set[str]) -> list[RawFile]:
    """Files whose jobs have all been collected, and that nobody has ended."""
    return [
        raw_file
        for instrument_id in services.config.instruments
        for raw_file in services.store.raw_files.in_status(instrument_id, {Status.QUANTING})
        if raw_file.id not in known
    ]


def _to_collect(files: list[RawFile], now: datetime) -> list[RawFile]:
    """Not while further jobs of the file are still to be submitted: they end it together. Nor
    what failed a moment ago, and has its time to be tried again."""
    return [
        item
        for item in free(files, now)
        if item.status is not Status.QUEUED_FOR_QUANTING
        and not (item.status is Status.ERROR and item.retry_at and item.retry_at > now)
    ]
