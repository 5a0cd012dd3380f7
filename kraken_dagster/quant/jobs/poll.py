"""Asks every engine once for all its open jobs, and keeps what changed."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar

from kraken_dagster.config.engines import SlurmEngine
from kraken_dagster.fs.stores.marker import Role
from kraken_dagster.fs.timeouts import bounded
from kraken_dagster.model.errors import (
    ClusterError,
    CopyStalled,
    KrakenError,
    StoreAway,
    StoreError,
)
from kraken_dagster.model.jobs.job import (
    EXIT_ENDED_BADLY_AWAY,
    EXIT_ENDED_WELL_AWAY,
    EXIT_STORE_AWAY,
    JobReport,
    JobState,
    QuantJob,
)
from kraken_dagster.model.raw_file import RawFile, Status
from kraken_dagster.quant.jobs.attempts import latest_jobs
from kraken_dagster.quant.jobs.engine_backoff import failure_of, note_refusal
from kraken_dagster.quant.jobs.handover import has_slot, waits_to_run_again, withdraw
from kraken_dagster.quant.jobs.slots import Whose, free, next_to_submit, room, whose
from kraken_dagster.quant.output_folder import (
    exit_code_left_by,
    has_begun,
    has_result,
    output_is_full,
)
from kraken_dagster.runtime.refusals import in_own_words
from kraken_dagster.runtime.services import Services
from kraken_dagster.runtime.stores import why_away

T = TypeVar("T")
# A tick must be over in 60 s: no wait for a share, and no further question, takes longer.
_PATIENCE_S = 10.0
_MAY_SUBMIT = frozenset({Status.QUEUED_FOR_QUANTING, Status.QUANTING, Status.ERROR})
_ACCOUNTS_LAG = timedelta(minutes=2)
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(minutes=1), timedelta(minutes=30)
# Of Slurm the latter, where a job's log can't be opened: by signal 53, which no program ends by.
_MAY_BE_AWAY = (EXIT_STORE_AWAY, 128 + 53)
_ENDED_AWAY = (EXIT_ENDED_WELL_AWAY, EXIT_ENDED_BADLY_AWAY)
_UNKNOWN_GRACE = timedelta(minutes=10)


@dataclass(frozen=True)
class Poll:
    """`to_collect` are files with a result that is not in MongoDB yet, `to_submit` files whose
    jobs wait for a slot, oldest acquisition first; `problems` are engines that gave no answer."""

    open_jobs: int
    to_collect: tuple[RawFile, ...]
    to_submit: tuple[RawFile, ...]
    problems: tuple[str, ...]


def poll(services: Services, *, slots: dict[str, int]) -> Poll:
    """One question per engine. Nothing is marked failed because it could not be asked."""
    now, instruments = services.now(), set(services.config.instruments)
    problems: list[str] = []
    ended: dict[str, list[QuantJob]] = defaultdict(list)
    begun: set[str] = set()
    known: set[str] = set()
    open_jobs: dict[str, int] = defaultdict(int)
    closed: set[str] = set()
    submitted: set[Whose] = set()
    for name in services.config.engines:
        jobs, refusal = _polled(services, name, now)
        if refusal is not None:
            problems.append(f"engine {name!r}: {refusal}")
            closed.add(name)
        open_jobs[name] = sum(job.is_open for job in jobs)
        known |= {job.raw_file for job in jobs}
        begun |= {job.raw_file for job in jobs if _is_due(job, jobs, slots[name])}
        submitted |= {whose(job) for job in jobs if job.state is not JobState.INTENDED}
        for job in jobs:
            if not job.is_open and job.instrument_id in instruments and not _pauses(job, now):
                ended[job.raw_file].append(job)
        if waiting := [job for job in jobs if _pauses(job, now)]:
            problems.append(
                f"engine {name!r}: {len(waiting)} jobs wait, and are tried again by themselves: "
                f"{waiting[0].detail}. Next: mount it there, or free space"
            )
    problems += _left_alone(services, known)
    to_collect = _to_collect([*_known(services, ended, problems), *_orphans(services, known)], now)
    to_submit = next_to_submit(
        services,
        room(services, open_jobs, slots, closed),
        begun=begun,
        submitted=submitted,
        now=now,
    )
    to_collect, to_submit = _with_stores(services, to_collect, to_submit, problems)
    return Poll(
        open_jobs=sum(open_jobs.values()),
        to_collect=tuple(to_collect),
        to_submit=tuple(to_submit),
        problems=tuple(problems),
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
    return now - job.ended_at < min(_FIRST_PAUSE * 2 ** min(job.resubmission, 10), _LONGEST_PAUSE)


def _is_due(job: QuantJob, jobs: list[QuantJob], slots: int) -> bool:
    """Whether an intended job is to be handed over or withdrawn now."""
    if waits_to_run_again(job):
        return has_slot(job, jobs, slots)
    return job.state is JobState.INTENDED


def _polled(services: Services, name: str, now: datetime) -> tuple[list[QuantJob], str | None]:
    """The engine's uncollected jobs as it reports them now, and why it could not be asked."""
    refusal = failure_of(services, name, now)
    if refusal is None and _may_be_asked(services, name):
        try:
            with in_own_words(name):  # what it says may be anything, and stops no other engine
                _ask(services, name, now)
        except StoreError:
            raise
        except KrakenError as error:
            note_refusal(services, name, error)
            refusal = str(error)
    return services.store.jobs.uncollected(name), refusal


def _may_be_asked(services: Services, name: str) -> bool:
    """No where debug_no_cluster_ssh keeps every instrument that uses it from a connection; settings
    may have any instrument use it."""
    users = [services.instrument(item) for item in services.config.instruments]
    kept = [item.debug_no_cluster_ssh for item in users if item.engine == name] or [
        item.debug_no_cluster_ssh for item in users
    ]
    return not (services.on_cluster(name) and kept and all(kept))


def _ask(services: Services, name: str, now: datetime) -> None:
    """One question for all open jobs, and what changed into MongoDB."""
    engine, began = services.engines[name], time.monotonic()
    asked = {
        str(job.cluster_job_id): job
        for job in services.store.jobs.uncollected(name)  # also those of an instrument that is gone
        if job.is_open and job.cluster_job_id is not None
    }
    if not asked and (services.store.health.engine(name) or {}).get("failures"):
        engine.check()
    reports = _states(services, name, asked)
    left = _ExitCodes(services)
    blocked: list[str] = []
    for job_id, report in reports.items():
        job = asked[job_id]
        settled = _settled(job, report, left, now)
        if settled.state is JobState.WAITING and settled.detail:
            blocked.append(f"{job.id} ({job_id}) waits for {settled.detail}")
        if settled.state is JobState.UNKNOWN:
            blocked.append(f"{job.id} ({job_id}) is unknown: {settled.detail}")
        if _is_news(job, settled):
            services.store.jobs.report(job, settled, now=now)
    if time.monotonic() - began < _PATIENCE_S:
        _account(services, name, now)
        _withdraw_abandoned(services, name, now)
    details = "; ".join(blocked) if blocked else f"{len(asked)} jobs are open"
    services.store.health.engine_well(name, details=details, blocked=bool(blocked), now=now)


def _withdraw_abandoned(services: Services, name: str, now: datetime) -> None:
    """One in a poll, as it costs questions of its own. Jobs of instruments that are served
    elsewhere are left to who serves them."""
    intended = [
        job
        for job in services.store.jobs.uncollected(name)
        if job.state is JobState.INTENDED and job.instrument_id in services.config.instruments
    ]
    files = services.store.raw_files.many({job.raw_file for job in intended})
    for job in intended:
        if _is_abandoned(services, job, files.get(job.raw_file), now):
            with suppress(StoreAway):  # what it may have left there isn't known; it waits
                withdraw(services, job)
            return


def _is_abandoned(
    services: Services, job: QuantJob, raw_file: RawFile | None, now: datetime
) -> bool:
    """Whether no run of its file takes an intention up again, as when the file's settings have
    changed while the cluster could not be asked whether it has the job."""
    if raw_file is None or raw_file.leased(now) is not None:
        return False
    if raw_file.status not in _MAY_SUBMIT:
        return True
    return job.id not in {item.id for item in latest_jobs(services, raw_file)}


def _is_news(job: QuantJob, report: JobReport) -> bool:
    if (report.state, report.started_at) != (job.state, job.started_at):
        return True
    if report.state is JobState.UNKNOWN and report.is_missing == (job.unknown_since is None):
        return True
    reported = report.state is JobState.WAITING or report.listed or report.accounted
    return reported and report.detail != job.detail


def _states(
    services: Services, name: str, asked: Mapping[str, QuantJob]
) -> Mapping[str, JobReport]:
    """What the engine says; time in which it can't be asked is none in which it doesn't know."""
    try:
        reports = services.engines[name].states(list(asked))
    except ClusterError:
        services.store.jobs.could_not_be_asked(list(asked.values()))
        raise
    missed = [job for job_id, job in asked.items() if job_id not in reports]
    services.store.jobs.could_not_be_asked(missed)
    return reports


def _account(services: Services, name: str, now: datetime) -> None:
    """What ended jobs used. The accounting lags; after a while it is not asked any more."""
    jobs = {str(job.cluster_job_id): job for job in services.store.jobs.unaccounted(name)}
    used = services.engines[name].usage(list(jobs)) if jobs else {}
    for job_id, job in jobs.items():
        known = used.get(job_id)
        complete = known is not None and known.ended and known.peak_memory_bytes is not None
        if complete or now - (job.ended_at or job.created_at) > _ACCOUNTS_LAG:
            services.store.jobs.account(job, known)


class _ExitCodes:
    """What jobs left in their output folders. A share that hangs is waited for once in a poll."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._refusal: str | None = None

    def tells_of_stores(self, job: QuantJob) -> tuple[bool, str | None]:
        """Whether a job found no store where it ran, and why that can't be known.

        Kraken's own script writes an exit code last; what a site's script, or a program, ends with
        counts once it has begun.
        """
        entry = self._services.config.engines.get(job.engine)
        own = isinstance(entry, SlurmEngine) and entry.job_script is None
        try:
            begun = bounded(
                lambda: has_begun(self._services, job), timeout_s=_PATIENCE_S, what=job.output_path
            )
        except (KrakenError, OSError) as error:
            return False, str(error)
        if not begun or not own:
            return not begun, None
        exit_code, refusal = self.of(job)
        return exit_code is None, refusal

    def ended_away(self, job: QuantJob, report: JobReport) -> bool | None:
        """Whether the result is complete of a job whose output was away at its end; None where
        that is not what its exit code says.

        Raises:
            KrakenError, OSError: it can't be known.
        """
        if not report.output_away and exit_code_left_by(self._services, job) is not None:
            return None  # the program's own
        well = report.exit_code == (0 if report.output_away else EXIT_ENDED_WELL_AWAY)
        return well and has_result(self._services, job)

    def asked(self, what: Callable[[], T]) -> tuple[T | None, str | None]:
        """An answer of the output, and why there is none."""
        path = self._services.config.locations.output.path
        try:
            return bounded(what, timeout_s=_PATIENCE_S, what=path), None
        except (KrakenError, OSError) as error:
            return None, str(error)

    def is_full(self) -> bool:
        return output_is_full(self._services)

    def of(self, job: QuantJob) -> tuple[int | None, str | None]:
        """The exit code, and why it can't be known."""
        if self._refusal is None:
            try:
                return bounded(
                    lambda: exit_code_left_by(self._services, job),
                    timeout_s=_PATIENCE_S,
                    what=self._services.config.locations.output.path,
                ), None
            except CopyStalled as error:
                self._refusal = str(error)
            except (KrakenError, OSError) as error:
                return None, str(error)
        return None, self._refusal


def _where(report: JobReport) -> str:
    return report.node or "this machine"


def _failed(job: QuantJob, report: JobReport, left: _ExitCodes, now: datetime) -> JobReport:
    """One that failed, unless a store that was away or full is the reason."""
    if report.output_away or (report.exit_code in _ENDED_AWAY and report.node is not None):
        complete, refusal = left.asked(lambda: left.ended_away(job, report))
        if complete is None and refusal is None:
            return report
        if complete:
            reported = "its output was away when it ended, and has its whole result now"
            return replace(report, state=JobState.SUCCEEDED, exit_code=0, detail=reported)
        reported = f"the output went away while it ran on {_where(report)}"
        return _as_away(report, True, refusal, now=now, reported=reported)
    if report.exit_code in _MAY_BE_AWAY:
        return _as_away(report, *left.tells_of_stores(job), now=now)
    full, refusal = left.asked(left.is_full) if report.exit_code else (False, None)
    if full:
        return _as_away(report, True, None, now=now, reported="the output is full")
    return report


def _as_away(
    report: JobReport,
    away: bool,
    refusal: str | None,
    *,
    now: datetime,
    reported: str | None = None,
) -> JobReport:
    """A job that found no store where it ran is run again; what it left tells whether it did."""
    if refusal is not None:
        why = f"exit code {report.exit_code}; its output can't be read: {refusal}"
        return replace(report, state=JobState.UNKNOWN, detail=why, exit_code=None, ended_at=None)
    if not away:
        return report
    reported = reported or f"the output or the backup is away, or full, on {_where(report)}"
    state, code = JobState.NODE_FAILURE, EXIT_STORE_AWAY
    # By our own clock, as the pause until the next try is counted from then.
    return replace(report, state=state, exit_code=code, ended_at=now, detail=reported)


def _settled(job: QuantJob, report: JobReport, left: _ExitCodes, now: datetime) -> JobReport:
    """A job that the engine doesn't know is not done: what it left in its output folder decides,
    and if it left nothing it counts as failed, but only after a grace.

    One that is listed is open, whatever its state may mean, and what is in its folder may be of a
    run before. One that the accounting has as open stays so, but for what it left.
    """
    if report.state is JobState.FAILED:
        return _failed(job, report, left, now)
    if report.state is not JobState.UNKNOWN:
        return report
    report = replace(report, started_at=job.started_at, node=job.node)
    if report.listed:
        return report
    exit_code, refusal = left.of(job)
    if refusal is not None:
        return replace(report, detail=f"{report.detail}; its output can't be read: {refusal}")
    if exit_code is not None:
        state = JobState.FAILED if exit_code else JobState.SUCCEEDED
        detail = f"by the exit code in its output folder: {report.detail}"
        return replace(report, state=state, exit_code=exit_code, ended_at=now, detail=detail)
    if report.accounted or now - (job.unknown_since or now) < _UNKNOWN_GRACE:
        return report
    detail = f"{report.detail}, for {_UNKNOWN_GRACE}, and it left no exit code in its output folder"
    return replace(report, state=JobState.FAILED, ended_at=now, detail=detail)


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
