"""Asks one engine about all of its open jobs, and keeps in MongoDB what changed."""

import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta

from kraken_dagster.model.errors import (
    ClusterError,
    KrakenError,
    StoreAway,
    StoreError,
)
from kraken_dagster.model.jobs.job import QuantJob
from kraken_dagster.model.jobs.report import JobReport, JobState
from kraken_dagster.model.raw_file import RawFile, Status
from kraken_dagster.quant.jobs.attempts import latest_jobs
from kraken_dagster.quant.jobs.engine_backoff import (
    failure_of,
    failures_of,
    note_answer,
    note_refusal,
)
from kraken_dagster.quant.jobs.handover import withdraw
from kraken_dagster.quant.jobs.settle import PATIENCE_S, ExitCodes, settled_report
from kraken_dagster.quant.jobs.whose_turn import give_up_turn, is_ours, take_turn
from kraken_dagster.runtime.refusals import in_own_words
from kraken_dagster.runtime.services import Services

_MAY_SUBMIT = frozenset({Status.QUEUED_FOR_QUANTING, Status.QUANTING, Status.ERROR})
_ACCOUNTS_LAG = timedelta(minutes=2)


def ask(services: Services, name: str, now: datetime) -> tuple[list[QuantJob], str | None]:
    """The engine's uncollected jobs as it reports them now, and why it could not be asked.

    Of a cluster that another code location asks, they are as that one has found them.
    """
    refusal = failure_of(services, name, now)
    if refusal is None and _may_be_asked(services, name):
        turn = take_turn(services, name, now) if services.on_cluster(name) else None
        try:
            with in_own_words(name):  # what it says may be anything, and stops no other engine
                if turn is not None or not services.on_cluster(name):
                    _ask_all(services, name, now)
                else:
                    _withdraw_abandoned(services, name, now)
        except StoreError:
            raise
        except KrakenError as error:
            note_refusal(services, name, error)
            refusal = str(error)
            if turn is not None:
                give_up_turn(services, name, turn)
    return services.store.jobs.uncollected(name), refusal


def _may_be_asked(services: Services, name: str) -> bool:
    """No where debug_no_cluster_ssh keeps every instrument that uses it from a connection; settings
    may have any instrument use it."""
    users = [services.instrument(item) for item in services.config.instruments]
    kept = [item.debug_no_cluster_ssh for item in users if item.engine == name] or [
        item.debug_no_cluster_ssh for item in users
    ]
    return not (services.on_cluster(name) and kept and all(kept))


def _ask_all(services: Services, name: str, now: datetime) -> None:
    """One question for all open jobs, and what changed into MongoDB."""
    engine, began = services.engines[name], time.monotonic()
    asked = {
        str(job.cluster_job_id): job
        for job in services.store.jobs.uncollected(name)  # also those of an instrument that is gone
        if job.is_open and job.cluster_job_id is not None and is_ours(services, job)
    }
    if not asked and failures_of(services, name):
        engine.check()
    reports = _states(services, name, asked)
    left = ExitCodes(services)
    blocked: list[str] = []
    for job_id, report in reports.items():
        job = asked[job_id]
        settled = settled_report(job, report, left, now)
        if settled.state is JobState.WAITING and settled.detail:
            blocked.append(f"{job.id} ({job_id}) waits for {settled.detail}")
        if settled.state is JobState.UNKNOWN:
            blocked.append(f"{job.id} ({job_id}) is unknown: {settled.detail}")
        if _is_news(job, settled):
            services.store.jobs.report(job, settled, now=now)
    if time.monotonic() - began < PATIENCE_S:
        _account(services, name, now)
        _withdraw_abandoned(services, name, now)
    note_answer(services, name, jobs=len(asked), blocked=blocked)


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
