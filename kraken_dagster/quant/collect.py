"""Takes the results of a raw file's jobs into MongoDB, and ends the file."""

import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from kraken_dagster.engines.job_script import MARKS
from kraken_dagster.fs.digests import entries_below, output_errors
from kraken_dagster.fs.stores.marker import Role
from kraken_dagster.fs.stores.roots import OpenRoot
from kraken_dagster.fs.timeouts import bounded
from kraken_dagster.metrics.limited import error_codes
from kraken_dagster.model.errors import BackupDamaged
from kraken_dagster.model.figures import RESERVED_NAMES
from kraken_dagster.model.jobs.job import (
    JobState,
    QuantJob,
    failed_details,
    resources_for_another_try,
)
from kraken_dagster.model.jobs.resources import Resources
from kraken_dagster.model.programs import PROGRAMS
from kraken_dagster.model.raw_file import RawFile, Status, Step, short_details
from kraken_dagster.quant.jobs.attempts import latest_jobs, latest_of
from kraken_dagster.quant.mzqc_file import leave_mzqc
from kraken_dagster.quant.output_folder import figures_of, renew_folder
from kraken_dagster.quant.provenance import printed_by, provenance_of
from kraken_dagster.runtime.after_jobs import look_after
from kraken_dagster.runtime.failures import failure_recorded, record_damage
from kraken_dagster.runtime.leases import Held, holding
from kraken_dagster.runtime.services import Services
from kraken_dagster.runtime.stores import gone_meanwhile, opened, require_unchanged
from kraken_dagster.store.jobs import open_jobs

_LONGEST_PROBLEM = 10_000  # characters; a message may quote every column of a table


@dataclass(frozen=True)
class JobResult:
    """What one job left: its files' number and size in bytes, or why there is no result."""

    job: QuantJob
    files: int
    size_bytes: int
    failure: str | None


@dataclass(frozen=True)
class CollectOutcome:
    """Figures and provenance of results by settings name; failures as pairs of settings name and
    reason. `damage`: the backup is not what was recorded any more; `note`: what else was found."""

    raw_file: RawFile
    reason: str
    figures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    provenance: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    failures: Sequence[tuple[str, str]] = ()
    jobs: Sequence[QuantJob] = ()
    damage: BackupDamaged | None = None
    note: str | None = None


def results_of(services: Services, raw_file_id: str) -> tuple[list[JobResult], str]:
    """What the file's latest jobs left on disk, and in words what is still missing.

    Empty while no job has ended. Nothing is changed.

    Raises:
        StoreAway
    """
    raw_file = services.store.raw_files.current(raw_file_id)
    jobs = latest_jobs(services, raw_file)
    if not jobs:
        return [], "no job was submitted for this file yet"
    stall_s = services.instrument(raw_file.instrument_id).copy_stall_s
    ended = [job for job in jobs if not job.is_open]
    with opened(services, Role.OUTPUT, timeout_s=stall_s) as root, gone_meanwhile(root):
        results = [
            bounded(partial(_result, services, job, root), timeout_s=stall_s, what=job.output_path)
            for job in ended
        ]
    running = [f"{job.id} is {job.told_state}" for job in open_jobs(jobs)]
    return results, "; ".join(running)


def collect(services: Services, raw_file_id: str, *, run_id: str) -> CollectOutcome:
    """Reads the metrics of every job that has ended, and sets the status once all have.

    What isn't there is missing only where the output is: nothing changes while that is away.

    Raises:
        StoreAway: the output is away.
        LeaseHeld: another run works on the file.
        StoreUnavailable
    """
    with (
        holding(services, raw_file_id, step=Step.COLLECT, run_id=run_id) as held,
        failure_recorded(services, raw_file_id, run_id=run_id, lease=held.lease),
        opened(services, Role.OUTPUT) as root,
        gone_meanwhile(root),
    ):
        every = services.store.jobs.of(raw_file_id)
        jobs = latest_of(held.raw_file, every)
        after = look_after(services, held, _news(every), run_id=run_id)
        if held.raw_file.status is Status.QUANTING and after.damage is None:
            held.raw_file = _submitted_again(services, held, run_id, jobs)
        if not jobs and held.raw_file.status is Status.QUANTING and after.damage is None:
            held.raw_file = _queued_anew(services, held, run_id)
        if held.raw_file.status is Status.QUEUED_FOR_QUANTING:
            jobs = latest_jobs(services, held.raw_file)
            return CollectOutcome(held.raw_file, "its jobs are still being submitted", jobs=jobs)
        taken = [_take(services, held.raw_file, job, root) for job in jobs if not job.is_open]
        still_open = open_jobs(jobs)
        outcome = CollectOutcome(
            held.raw_file,
            "; ".join(f"{job.id} is {job.told_state}" for job in still_open) or "no jobs",
            figures={item.job.settings_name: item.figures for item in taken},
            provenance={
                item.job.settings_name: item.provenance for item in taken if item.provenance
            },
            failures=[(item.job.settings_name, item.failure) for item in taken if item.failure],
            jobs=[*(item.job for item in taken), *still_open],
            damage=after.damage,
            note=after.note,
        )
        require_unchanged(root)  # what was read is believed, what was not found isn't there
        if after.damage is not None:
            outcome = _end_damaged(services, held, run_id, outcome)
        elif still_open:
            outcome = _tell_progress(services, held, run_id, outcome)
        elif jobs:
            outcome = _end(services, held, run_id, outcome)
        # Last, so that whoever dies before leaves something that is asked for again.
        left = [_take(services, held.raw_file, job, root) for job in _left_by_earlier(every, jobs)]
        for item in (*taken, *left):
            if item.job.collected_at is None:
                now = services.now()
                services.store.jobs.collected(item.job, now=now, result_error=item.failure)
        return outcome


def _submitted_again(
    services: Services, held: Held, run_id: str, jobs: Sequence[QuantJob]
) -> RawFile:
    """Has jobs that a node's failure, preemption, or too little memory or time ended run again.

    The file is queued once more, and its next run submits them.
    """
    raw_file = held.raw_file
    superseded: list[QuantJob] = []
    again: list[QuantJob] = []
    for job in jobs:
        resources = resources_for_another_try(job)
        if resources is not None:
            superseded.append(job)
            held.require()  # the folder that is moved aside may be in use by then
            again.append(_intend_again(services, job, resources))
        elif job.state is JobState.INTENDED:  # whoever intended it died before the next line
            again.append(job)
    if not again:
        return raw_file
    after = services.store.raw_files.transition(
        raw_file,
        Status.QUEUED_FOR_QUANTING,
        now=services.now(),
        reason="submitted again: " + "; ".join(f"{job.id} ({job.detail})" for job in again),
        run_id=run_id,
        lease=held.lease,
    )
    for job in superseded:
        services.store.jobs.collected(job, now=services.now(), result_error=None)
    return after


def _queued_anew(services: Services, held: Held, run_id: str) -> RawFile:
    """A file that is being processed by jobs which nobody here knows: AlphaKraken's own."""
    return services.store.raw_files.transition(
        held.raw_file,
        Status.QUEUED_FOR_QUANTING,
        now=services.now(),
        reason="no job of it is known here: another program had submitted it",
        run_id=run_id,
        lease=held.lease,
    )


def _intend_again(services: Services, job: QuantJob, resources: Resources) -> QuantJob:
    stall_s = services.instrument(job.instrument_id).copy_stall_s
    bounded(lambda: renew_folder(services, job), timeout_s=stall_s, what=job.output_path)
    return services.store.jobs.intend(job.another_try(resources, now=services.now()))


def _news(every: Sequence[QuantJob]) -> list[QuantJob]:
    """Jobs that have ended since the file's jobs were last collected."""
    return [job for job in every if not job.is_open and job.collected_at is None]


def _left_by_earlier(every: Sequence[QuantJob], latest: Sequence[QuantJob]) -> list[QuantJob]:
    """Jobs of earlier attempts and tries that ended, and that a run which died left here."""
    ids = {job.id for job in latest}
    return [job for job in _news(every) if job.id not in ids]


def _result(services: Services, job: QuantJob, root: OpenRoot) -> JobResult:
    folder = services.result_folder(job, root.path)
    with output_errors(folder):
        found = [
            facts
            for path, facts in entries_below(folder)
            if stat.S_ISREG(facts.st_mode) and path.name not in MARKS
        ]
    return JobResult(job, len(found), sum(facts.st_size for facts in found), job.failure)


@dataclass(frozen=True)
class _Taken:
    job: QuantJob
    figures: Mapping[str, Any]
    failure: str | None
    provenance: Mapping[str, Any] = field(default_factory=dict)


def _take(services: Services, raw_file: RawFile, job: QuantJob, root: OpenRoot) -> _Taken:
    """The job's figures, now in MongoDB, or what was wrong."""
    folder = services.result_folder(job, root.path)
    if job.failure is not None:
        job = _with_last_words(services, job, root)
        return _Taken(job, {}, job.failure)
    reading = figures_of(services, job, folder)
    problem = "; ".join(map(str, reading.problems))[:_LONGEST_PROBLEM] or None
    if problem is not None and (kept := _kept_result(services, job)) is not None:
        return kept
    provenance = provenance_of(
        services, raw_file, job, root=root.path, problem=problem, notes=reading.notes
    )
    why_not = leave_mzqc(services, raw_file, job, reading.figures, provenance, root=root)
    if why_not is not None:
        provenance["notes"].append(why_not)
    if reading.figures or problem is None:
        services.store.metrics.add(job, reading.figures, provenance=provenance, now=services.now())
        return _Taken(job, reading.figures, problem, provenance)
    return _Taken(job, {}, problem)


def _kept_result(services: Services, job: QuantJob) -> _Taken | None:
    """The result of a job that was read in full before its folder was cleaned up."""
    if job.collected_at is None or job.result_error is not None:
        return None
    document = services.store.metrics.of_job(job)
    if document is None:
        return None
    figures = {key: value for key, value in document.items() if key not in RESERVED_NAMES}
    return _Taken(job, figures, None, document["provenance"])


def _with_last_words(services: Services, job: QuantJob, root: OpenRoot) -> QuantJob:
    """The failed job with the end of its log and AlphaDIA's own error codes."""
    if job.collected_at is not None:
        return job
    words: dict[str, Any] = {"log_tail": printed_by(services, job)}
    program = PROGRAMS.get(job.software_type)
    if program is not None and program.has_error_codes and job.state is JobState.FAILED:
        stall_s = services.instrument(job.instrument_id).copy_stall_s
        folder = services.result_folder(job, root.path)
        limits = services.config.reading_limits
        words["error_codes"] = error_codes(folder, limits=limits, wall_s=stall_s)
    return job.model_copy(update=words)


def _tell_progress(
    services: Services, held: Held, run_id: str, outcome: CollectOutcome
) -> CollectOutcome:
    """What became of each job so far, in the status of a file that waits for the others."""
    raw_file, failures = held.raw_file, dict(outcome.failures)
    if raw_file.status is not Status.QUANTING:
        return outcome
    each = "; ".join(
        f"[{job.settings_name}] {failures.get(job.settings_name, job.told_state)}"
        for job in outcome.jobs
    )
    if raw_file.status_details == short_details(each):
        return outcome
    after = services.store.raw_files.update(
        raw_file,
        {"status_details": short_details(each)},
        now=services.now(),
        note=each,
        run_id=run_id,
    )
    return replace(outcome, raw_file=after)


def _end(services: Services, held: Held, run_id: str, outcome: CollectOutcome) -> CollectOutcome:
    """Sets the final status, unless the file has one and its results were only read again."""
    raw_file, failures = held.raw_file, outcome.failures
    if raw_file.status is not Status.QUANTING:
        return replace(outcome, reason=f"the file is {raw_file.status}")
    reported = failed_details(failures) if failures else None
    after = services.store.raw_files.transition(
        raw_file,
        Status.QUANTING_FAILED if failures else Status.DONE,
        now=services.now(),
        reason="; ".join(part for part in (reported, outcome.note) if part) or None,
        run_id=run_id,
        lease=held.lease,
        fields={"failures": 0, "retry_at": None},
    )
    return replace(outcome, raw_file=after, reason="all jobs have ended")


def _end_damaged(
    services: Services, held: Held, run_id: str, outcome: CollectOutcome
) -> CollectOutcome:
    """Status `error`. The results were taken all the same: once the backup is whole again, the file
    ends as it would have ended."""
    raw_file, damage = held.raw_file, outcome.damage
    assert damage is not None
    ends = raw_file.status is Status.QUANTING and not open_jobs(outcome.jobs)
    done = (
        {"ended_as": Status.DONE, "ended_details": outcome.note}
        if ends and not outcome.failures
        else {}
    )
    record_damage(services, raw_file, damage, run_id=run_id, lease=held.lease, fields=done)
    after = services.store.raw_files.current(raw_file.id)
    return replace(outcome, raw_file=after, reason=str(damage))
