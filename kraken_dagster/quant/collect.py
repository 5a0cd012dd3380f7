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
from kraken_dagster.model.errors import BackupDamaged
from kraken_dagster.model.jobs.job import QuantJob, failed_details
from kraken_dagster.model.raw_file import RawFile, Status, Step, short_details
from kraken_dagster.quant.jobs.attempts import latest_jobs, latest_of
from kraken_dagster.quant.jobs.run_again import queued_anew, submitted_again
from kraken_dagster.quant.take_result import TakenResult, take_result
from kraken_dagster.runtime.after_jobs import LookedAfter, look_after
from kraken_dagster.runtime.failures import failure_recorded, record_damage
from kraken_dagster.runtime.leases import Held, holding
from kraken_dagster.runtime.services import Services
from kraken_dagster.runtime.stores import gone_meanwhile, opened, require_unchanged
from kraken_dagster.store.quant.jobs import open_jobs


@dataclass(frozen=True)
class JobResult:
    """What one job left: its files' number and size in bytes, or why there is no result."""

    job: QuantJob
    files: int
    size_bytes: int
    failure: str | None


@dataclass(frozen=True)
class CollectOutcome:
    """Metrics and provenance of results by settings name; failures as pairs of settings name and
    reason. `damage`: the backup is not what was recorded any more; `note`: what else was found."""

    raw_file: RawFile
    reason: str
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
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
        after = look_after(services, held, _news(every))
        if held.raw_file.status is Status.QUANTING and after.damage is None:
            held.raw_file = submitted_again(services, held, jobs)
        if not jobs and held.raw_file.status is Status.QUANTING and after.damage is None:
            held.raw_file = queued_anew(held)
        if held.raw_file.status is Status.QUEUED_FOR_QUANTING:
            jobs = latest_jobs(services, held.raw_file)
            return CollectOutcome(held.raw_file, "its jobs are still being submitted", jobs=jobs)
        taken = [take_result(services, held.raw_file, job, root) for job in jobs if not job.is_open]
        outcome = _outcome_of(held.raw_file, taken, open_jobs(jobs), after)
        require_unchanged(root)  # what was read is believed, what was not found isn't there
        outcome = _recorded(services, held, outcome)
        # Last, so that whoever dies before leaves something that is asked for again.
        left = _left_by_earlier(every, jobs)
        taken += [take_result(services, held.raw_file, job, root) for job in left]
        for item in taken:
            if item.job.collected_at is None:
                now = services.now()
                services.store.jobs.collected(item.job, now=now, result_error=item.failure)
        return outcome


def _outcome_of(
    raw_file: RawFile,
    taken: Sequence[TakenResult],
    still_open: Sequence[QuantJob],
    after: LookedAfter,
) -> CollectOutcome:
    return CollectOutcome(
        raw_file,
        "; ".join(f"{job.id} is {job.told_state}" for job in still_open) or "no jobs",
        metrics={item.job.settings_name: item.metrics for item in taken},
        provenance={item.job.settings_name: item.provenance for item in taken if item.provenance},
        failures=[(item.job.settings_name, item.failure) for item in taken if item.failure],
        jobs=[*(item.job for item in taken), *still_open],
        damage=after.damage,
        note=after.note,
    )


def _recorded(services: Services, held: Held, outcome: CollectOutcome) -> CollectOutcome:
    """What follows for the file: it has ended, waits for further jobs, or its backup is damaged."""
    if outcome.damage is not None:
        return _end_damaged(services, held, outcome)
    if open_jobs(outcome.jobs):
        return _tell_progress(services, held, outcome)
    if outcome.jobs:
        return _end(held, outcome)
    return outcome


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


def _tell_progress(services: Services, held: Held, outcome: CollectOutcome) -> CollectOutcome:
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
        run_id=held.run_id,
    )
    return replace(outcome, raw_file=after)


def _end(held: Held, outcome: CollectOutcome) -> CollectOutcome:
    """Sets the final status, unless the file has one and its results were only read again."""
    raw_file, failures = held.raw_file, outcome.failures
    if raw_file.status is not Status.QUANTING:
        return replace(outcome, reason=f"the file is {raw_file.status}")
    reported = failed_details(failures) if failures else None
    after = held.transition(
        Status.QUANTING_FAILED if failures else Status.DONE,
        of=raw_file,
        reason="; ".join(part for part in (reported, outcome.note) if part) or None,
        fields={"failures": 0, "retry_at": None},
    )
    return replace(outcome, raw_file=after, reason="all jobs have ended")


def _end_damaged(services: Services, held: Held, outcome: CollectOutcome) -> CollectOutcome:
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
    record_damage(services, raw_file, damage, run_id=held.run_id, lease=held.lease, fields=done)
    after = services.store.raw_files.current(raw_file.id)
    return replace(outcome, raw_file=after, reason=str(damage))
