"""Submits the processing jobs of one raw file, each at most once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kraken_dagster.config.instruments import OutputExistsMode
from kraken_dagster.model.errors import JobError, KrakenError, NameError_
from kraken_dagster.model.jobs.job import QuantJob
from kraken_dagster.model.jobs.report import JobState
from kraken_dagster.model.raw_file import (
    ENDED,
    DecidedSettings,
    RawFile,
    Status,
    Step,
    short_details,
)
from kraken_dagster.quant.decide import QuantOutcome, decide, decide_late, end, settings_for
from kraken_dagster.quant.jobs.attempts import latest_jobs
from kraken_dagster.quant.jobs.engine_backoff import failure_of
from kraken_dagster.quant.jobs.handover import fits, hand_over, withdraw
from kraken_dagster.quant.jobs.job_record import intended, skipped
from kraken_dagster.quant.refused import put_back, put_back_if_refused
from kraken_dagster.runtime.after_jobs import remember
from kraken_dagster.runtime.failures import failure_recorded
from kraken_dagster.runtime.leases import Held, holding
from kraken_dagster.runtime.services import Services


@dataclass(frozen=True)
class _Choice:
    slots: Mapping[str, int]
    output_exists_mode: OutputExistsMode
    no_cluster: bool
    by_hand: bool


@dataclass
class _Progress:
    """What became of the settings of one file: each is in one of these."""

    submitted: list[QuantJob] = field(default_factory=list)
    skipped: list[QuantJob] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    refused: list[KrakenError] = field(default_factory=list)


def submit_jobs(
    services: Services,
    raw_file_id: str,
    *,
    run_id: str,
    slots: Mapping[str, int],
    output_exists_mode: OutputExistsMode = OutputExistsMode.RAISE,
    no_cluster: bool = False,
    by_hand: bool = True,
) -> QuantOutcome:
    """Decides what is to be run on a backed up file, and submits it.

    Args:
        slots: at most this many jobs may be open on each engine, by its name.
        no_cluster: make no connection to a cluster; its jobs are recorded as skipped.
        output_exists_mode: another program or person may have asked for another one before, and
            the file waits since: that one holds, unless it is asked `by_hand` now.
        by_hand: a person asked for it, so a file that has ended is processed once more.

    Raises:
        JobError: a job can't be submitted; status `error` and the reason are in MongoDB. The
            file's other jobs are. A file that had ended, and of which nothing was begun, keeps
            its status, and its history has the reason.
        LeaseHeld: another run works on the file.
        StoreUnavailable
    """
    with holding(services, raw_file_id, step=Step.QUANT, run_id=run_id) as held:
        if reason := _why_not(held.raw_file, by_hand=by_hand):
            return QuantOutcome(held.raw_file, reason)
        asked_for = None if by_hand else held.raw_file.output_exists_mode
        mode = OutputExistsMode(asked_for) if asked_for else output_exists_mode
        choice = _Choice(slots, mode, no_cluster, by_hand)
        with (
            failure_recorded(services, raw_file_id, run_id=run_id, lease=held.lease),
            put_back_if_refused(services, held),
        ):
            return _decide_and_submit(services, held, choice)


def _decide_and_submit(services: Services, held: Held, choice: _Choice) -> QuantOutcome:
    if choice.no_cluster and (reason := _would_be_skipped(services, held.raw_file)):
        return QuantOutcome(held.raw_file, reason)
    if held.raw_file.status is not Status.QUEUED_FOR_QUANTING:
        mode = _to_keep(services, held.raw_file, choice.output_exists_mode)
        fields = {"output_exists_mode": mode}
        ended = decide(services, held, by_hand=choice.by_hand, fields=fields)
        if ended is not None:
            return ended
    return _submit(services, held, choice)


def _would_be_skipped(services: Services, raw_file: RawFile) -> str | None:
    """Why a file that has ended isn't asked for again, just to be recorded as skipped."""
    settings = settings_for(services, raw_file)
    engines = {services.engine_of(raw_file.instrument_id, item) for item in settings}
    if raw_file.status not in ENDED or not engines or not all(map(services.on_cluster, engines)):
        return None
    return (
        f"nothing was begun, and the file stays {raw_file.status}: debug_no_cluster_ssh is set, "
        "and its jobs would go to a cluster. Next: unset it, and ask for `quant_job` again."
    )


def _to_keep(services: Services, raw_file: RawFile, mode: OutputExistsMode) -> str | None:
    """The mode that whoever submits the jobs later must know of: one that isn't configured."""
    configured = services.instrument(raw_file.instrument_id).output_exists_mode
    return None if mode is configured else mode.value


def _why_not(raw_file: RawFile, *, by_hand: bool) -> str | None:
    if not raw_file.is_backed_up:
        return "there is no verified backup yet, and nothing is processed without one"
    if raw_file.status is Status.QUANTING:
        return "its jobs are open already; `kraken show` lists them"
    if raw_file.status is Status.IGNORED:
        return "the file is ignored"
    if not by_hand and raw_file.status in ENDED:
        return f"nothing is due: the file is {raw_file.status}"
    return None


def _submit(services: Services, held: Held, choice: _Choice) -> QuantOutcome:
    if not held.raw_file.quant_settings:
        held.raw_file = decide_late(services, held.raw_file, held.run_id)
    if not held.raw_file.quant_settings:
        details = "No settings configured."
        return QuantOutcome(end(held, Status.DONE_NOT_QUANTED, details), details)
    remember(services, held)
    progress = _hand_over_all(services, held, choice)
    raw_file, submitted = held.raw_file, progress.submitted
    if progress.refused:
        raise next((item for item in progress.refused if not item.transient), progress.refused[0])
    if progress.waiting:
        why = "; ".join(dict.fromkeys(progress.waiting))
        mode = _to_keep(services, raw_file, choice.output_exists_mode)
        waits = _wait(services, raw_file, held.run_id, why, mode=mode)
        return QuantOutcome(waits, why, tuple(submitted))
    if not submitted and raw_file.asked_again is not None:
        why = _skipped_details(progress.skipped)
        return QuantOutcome(put_back(services, held), f"nothing was begun: {why}")
    if not submitted:
        details = _skipped_details(progress.skipped)
        return QuantOutcome(end(held, Status.DONE_NOT_QUANTED, details), details)
    after = held.transition(
        Status.QUANTING,
        of=raw_file,
        reason=_submitted_details(submitted),
        options={"output_exists_mode": choice.output_exists_mode},
        fields={"failures": 0, "asked_again": None, "output_exists_mode": None},
    )
    return QuantOutcome(after, "submitted", tuple(submitted))


def _submitted_details(jobs: Sequence[QuantJob]) -> str:
    there = [job for job in jobs if job.followed and not job.is_open]
    ours = [job.id for job in jobs if job not in there]
    parts = [f"jobs submitted: {', '.join(ours)}"] if ours else []
    parts += [f"[{job.settings_name}] {job.detail}" for job in there]
    return "; ".join(parts)


def _hand_over_all(services: Services, held: Held, choice: _Choice) -> _Progress:
    """Every job as far as it gets: one that waits or is refused keeps no other from its engine."""
    known = {
        (job.settings_name, job.settings_version): job
        for job in latest_jobs(services, held.raw_file)
    }
    progress = _Progress()
    for item in held.raw_file.quant_settings:
        job = known.get((item.name, item.version))
        try:
            if choice.no_cluster and services.on_cluster(_engine_of(services, held, item)):
                _skip(services, held, item, job, progress)
            else:
                _hand_over(services, held, item, job=job, choice=choice, progress=progress)
        except (JobError, NameError_) as error:
            progress.refused.append(error)
    return progress


def _hand_over(
    services: Services,
    held: Held,
    item: DecidedSettings,
    *,
    job: QuantJob | None,
    choice: _Choice,
    progress: _Progress,
) -> None:
    if job is not None and job.state is not JobState.INTENDED:
        progress.submitted.append(job)
        return
    if job is not None and job.engine not in services.config.engines:
        if job.tried_at is not None:
            progress.waiting.append(_on_engine_that_is_gone(job))
            return
        services.store.jobs.withdraw(job)
        job = None
    engine = _engine_of(services, held, item) if job is None else job.engine
    if not choice.by_hand and (refusal := failure_of(services, engine, services.now())):
        progress.waiting.append(refusal)
        return
    if job is None:
        settings = services.store.catalog.settings(item.name, item.version)
        job = intended(services, held.raw_file, settings, engine, choice.output_exists_mode)
    if job.state is JobState.INTENDED:
        slots = choice.slots[engine]
        if not fits(services, job, slots) and (job.resubmission or withdraw(services, job)):
            why = "every slot of the engine is taken; submitted when one is free"
            progress.waiting.append(why)
            return
        job = services.store.jobs.get(job.id)
    if job.state is JobState.INTENDED:
        why_not = hand_over(services, job, may_start=held.require)
        if why_not is not None:
            progress.waiting.append(why_not)
            return
        job = services.store.jobs.get(job.id)
    progress.submitted.append(job)


def _on_engine_that_is_gone(job: QuantJob) -> str:
    return (
        f"{job.id} may be on the engine {job.engine!r}, which is not in instruments.yaml "
        "(any more): put it back, or `kraken retry` gives the job up"
    )


def _engine_of(services: Services, held: Held, item: DecidedSettings) -> str:
    """The engine that was decided on, or the instrument's where that one is gone."""
    if item.engine is not None and item.engine in services.config.engines:
        return item.engine
    return services.instrument(held.raw_file.instrument_id).engine


def _wait(
    services: Services, raw_file: RawFile, run_id: str, why: str, *, mode: str | None
) -> RawFile:
    """The file stays queued, and says why; once, however often it is tried."""
    if (raw_file.status_details, raw_file.output_exists_mode) == (short_details(why), mode):
        return raw_file
    return services.store.raw_files.update(
        raw_file,
        {"status_details": short_details(why), "output_exists_mode": mode},
        now=services.now(),
        note=why,
        run_id=run_id,
    )


def _skip(
    services: Services, held: Held, item: DecidedSettings, job: QuantJob | None, progress: _Progress
) -> None:
    """Records a job without a word to the cluster. It is submitted when it is asked for again."""
    if job is not None and job.is_open:
        why = f"{job.id} may be on the cluster, and debug_no_cluster_ssh keeps from asking"
        progress.waiting.append(why)
    elif job is not None:
        (progress.skipped if job.state is JobState.SKIPPED else progress.submitted).append(job)
    else:
        settings = services.store.catalog.settings(item.name, item.version)
        engine = _engine_of(services, held, item)
        progress.skipped.append(skipped(services, held.raw_file, settings, engine))


def _skipped_details(jobs: Sequence[QuantJob]) -> str:
    return (
        f"{len(jobs)} jobs recorded as skipped: debug_no_cluster_ssh is set. Next: unset it; "
        "`kraken retry` submits them."
    )
