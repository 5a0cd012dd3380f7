"""Submits the processing jobs of one raw file, each at most once."""

from collections.abc import Sequence
from dataclasses import dataclass

from kraken_dagster.clients.bounded import bounded
from kraken_dagster.clients.store.jobs import open_jobs
from kraken_dagster.domain.commands import job_command, job_environment, log_name
from kraken_dagster.domain.config import OutputExistsMode
from kraken_dagster.domain.engines import SlurmEngine
from kraken_dagster.domain.errors import ClusterError
from kraken_dagster.domain.processing import Decision, decide_processing, settings_in_scope
from kraken_dagster.domain.quant import JobState, QuantJob, Settings, job_name
from kraken_dagster.domain.raw_file import (
    FALLBACK_PROJECT,
    FINAL,
    RawFile,
    Status,
    Step,
    short_details,
)
from kraken_dagster.steps.attempts import JOBS_COUNTER, latest_jobs
from kraken_dagster.steps.engine_health import note_trouble, trouble_with
from kraken_dagster.steps.failing import failure_recorded
from kraken_dagster.steps.leases import Held, holding
from kraken_dagster.steps.outputs import job_paths, output_folder, planned_folder, working_copy
from kraken_dagster.steps.submission import fits, hand_over, withdraw
from kraken_dagster.steps.world import World

# A result's folder is named `out_<raw file id>`, and what programs write there after it again.
_LONGEST_NAME_BYTES = 200


@dataclass(frozen=True)
class QuantOutcome:
    """`submitted` jobs; none with the reason in words when there was nothing to submit."""

    raw_file: RawFile
    reason: str
    submitted: tuple[QuantJob, ...] = ()


@dataclass(frozen=True)
class _Choice:
    slots: int
    output_exists_mode: OutputExistsMode
    no_cluster: bool
    by_hand: bool


def submit_jobs(
    world: World,
    raw_file_id: str,
    *,
    run_id: str,
    slots: int,
    output_exists_mode: OutputExistsMode = OutputExistsMode.RAISE,
    no_cluster: bool = False,
    by_hand: bool = True,
) -> QuantOutcome:
    """Decides what is to be run on a backed up file, and submits it.

    Args:
        slots: at most this many jobs may be open on the engine.
        no_cluster: make no connection to a cluster; its jobs are recorded as skipped.
        by_hand: a person asked for it, so a file that has ended is processed once more.

    Raises:
        JobError: a job can't be submitted; status `error` and the reason are in MongoDB.
        LeaseHeld: another run works on the file.
        StoreUnavailable
    """
    with holding(world, raw_file_id, step=Step.QUANT, run_id=run_id) as held:
        if reason := _why_not(held.raw_file, by_hand=by_hand):
            return QuantOutcome(held.raw_file, reason)
        with failure_recorded(world, raw_file_id, run_id=run_id, lease=held.lease):
            if held.raw_file.status is not Status.QUEUED_FOR_QUANTING:
                ended = _decide(world, held, run_id, by_hand=by_hand)
                if ended is not None:
                    return ended
            choice = _Choice(slots, output_exists_mode, no_cluster, by_hand)
            return _submit(world, held, run_id, choice)


def _why_not(raw_file: RawFile, *, by_hand: bool) -> str | None:
    if not raw_file.is_backed_up:
        return "there is no verified backup yet, and nothing is processed without one"
    if raw_file.status is Status.QUANTING:
        return "its jobs are open already; `kraken show` lists them"
    if raw_file.status is Status.IGNORED:
        return "the file is ignored"
    if not by_hand and raw_file.status in FINAL - {Status.ERROR}:
        return f"nothing is due: the file is {raw_file.status}"
    return None


def _decide(world: World, held: Held, run_id: str, *, by_hand: bool) -> QuantOutcome | None:
    """The outcome if the file is not to be processed; else its jobs are recorded as intended."""
    raw_file, instrument = held.raw_file, world.instrument(held.raw_file.instrument_id)
    settings = settings_for(world, raw_file)
    decision = decide_processing(
        vendor=instrument.type,
        raw_file_id=raw_file.id,
        original_name=raw_file.original_name,
        size_bytes=raw_file.size,
        acquisition_errors=raw_file.acquisition.get("errors", ()),
        skip_processing=instrument.skip_processing or instrument.skip_quanting,
        has_settings=bool(settings),
    )
    if decision.process and (reason := _unfit_for_processing(raw_file.id)):
        decision = Decision(False, Status.DONE_NOT_QUANTED, reason)
    _withdraw_dropped(world, raw_file, settings if decision.process else [])
    if not decision.process:
        assert decision.status is not None
        if raw_file.status in (decision.status, *(FINAL - {Status.ERROR})):
            return QuantOutcome(raw_file, decision.details or "")
        return QuantOutcome(
            _end(world, held, run_id, decision.status, decision.details), decision.details or ""
        )
    attempt = _attempt(world, raw_file)
    held.raw_file = world.store.raw_files.transition(
        world.store.raw_files.get(raw_file.id),
        Status.QUEUED_FOR_QUANTING,
        now=world.now(),
        reason=f"{len(settings)} settings apply: {', '.join(item.name for item in settings)}"
        + (f"; asked for again, attempt {attempt}" if by_hand and (attempt or 0) > 1 else ""),
        run_id=run_id,
        lease=held.lease,
        fields={
            "retry_at": None,
            "quant_settings": _names_of(settings),
        },
    )
    return None


def _names_of(settings: Sequence[Settings]) -> list[dict[str, object]]:
    return [{"name": item.name, "version": item.version} for item in settings]


def _unfit_for_processing(raw_file_id: str) -> str | None:
    """Names that programs would trip over, though every character of them is fine."""
    if raw_file_id.startswith("-"):
        return "Filename starts with a dash."
    if len(raw_file_id.encode()) > _LONGEST_NAME_BYTES:
        return f"Filename is longer than {_LONGEST_NAME_BYTES} bytes."
    return None


def _withdraw_dropped(world: World, raw_file: RawFile, settings: Sequence[Settings]) -> None:
    """Takes back what an error left intended and is not decided on any more: it holds a slot."""
    kept = {(item.name, item.version) for item in settings}
    for job in world.store.jobs.of(raw_file.id):
        dropped = (job.settings_name, job.settings_version) not in kept
        if not dropped or job.state is not JobState.INTENDED:
            continue
        if trouble_with(world, job.engine, world.now()):
            continue
        try:
            withdraw(world, job)
        except ClusterError as error:  # it keeps its slot until the cluster can be asked
            note_trouble(world, job.engine, error)


def _attempt(world: World, raw_file: RawFile) -> int | None:
    """The number of the file's set of jobs. A set that an error cut short is completed, so that
    what was perhaps submitted is asked for by the same name."""
    begun = raw_file.attempts.get(JOBS_COUNTER)
    if raw_file.status is Status.ERROR and world.store.jobs.of(raw_file.id, attempt=begun):
        return begun
    return world.store.raw_files.next_attempt(raw_file, JOBS_COUNTER)


def settings_for(world: World, raw_file: RawFile) -> list[Settings]:
    """The settings that apply to a file, one for each software type."""
    assigned = world.store.catalog.assigned(raw_file.project_id)
    chosen = settings_in_scope(
        [item.scope for item in assigned],
        instrument_id=raw_file.instrument_id,
        vendor=world.instrument(raw_file.instrument_id).type,
        raw_file_id=raw_file.id,
    )
    return [item.settings for item in assigned if any(item.scope is entry for entry in chosen)]


def _end(world: World, held: Held, run_id: str, status: Status, details: str | None) -> RawFile:
    return world.store.raw_files.transition(
        held.raw_file,
        status,
        now=world.now(),
        reason=details,
        run_id=run_id,
        lease=held.lease,
        fields={"retry_at": None, "failures": 0},
    )


def _submit(world: World, held: Held, run_id: str, choice: _Choice) -> QuantOutcome:
    raw_file = held.raw_file
    settings = _decided_settings(world, raw_file)
    if not settings:
        details = "No settings configured."
        return QuantOutcome(_end(world, held, run_id, Status.DONE_NOT_QUANTED, details), details)
    engine = world.instrument(raw_file.instrument_id).engine
    if choice.no_cluster and world.on_cluster(engine):
        return _skip(world, held, run_id, settings)
    if not choice.by_hand and (trouble := trouble_with(world, engine, world.now())):
        return _waiting(world, raw_file, run_id, trouble, [])
    if not raw_file.quant_settings:  # after `kraken retry`: from now on these count
        raw_file = world.store.raw_files.update(
            raw_file,
            {"quant_settings": _names_of(settings)},
            now=world.now(),
            note=f"{len(settings)} settings apply: {', '.join(item.name for item in settings)}",
            run_id=run_id,
        )
    submitted: list[QuantJob] = []
    for item in settings:
        job = _intended(world, raw_file, item, choice.output_exists_mode)
        if job.state is JobState.INTENDED:
            if not fits(world, job, choice.slots) and (job.resubmission or withdraw(world, job)):
                why = "every slot of the engine is taken; submitted when one is free"
                return _waiting(world, raw_file, run_id, why, submitted)
            job = world.store.jobs.get(job.id)
        if job.state is JobState.INTENDED:
            why = hand_over(world, job, may_start=held.require)
            if why is not None:
                return _waiting(world, raw_file, run_id, why, submitted)
        submitted.append(world.store.jobs.get(job.id))
    after = world.store.raw_files.transition(
        raw_file,
        Status.QUANTING,
        now=world.now(),
        reason=f"jobs submitted: {', '.join(job.id for job in submitted)}",
        run_id=run_id,
        lease=held.lease,
        options={"output_exists_mode": choice.output_exists_mode},
        fields={"failures": 0},
    )
    return QuantOutcome(after, "submitted", tuple(submitted))


def _waiting(
    world: World, raw_file: RawFile, run_id: str, why: str, submitted: Sequence[QuantJob]
) -> QuantOutcome:
    """The file stays queued, and says why; once, however often it is tried."""
    if raw_file.status_details != short_details(why):
        raw_file = world.store.raw_files.update(
            raw_file,
            {"status_details": short_details(why)},
            now=world.now(),
            note=why,
            run_id=run_id,
        )
    return QuantOutcome(raw_file, why, tuple(submitted))


def _skip(world: World, held: Held, run_id: str, settings: Sequence[Settings]) -> QuantOutcome:
    """Records the jobs without a word to the cluster. They are submitted when asked for again."""
    raw_file = held.raw_file
    if unclear := open_jobs(latest_jobs(world, raw_file)):
        why = f"{unclear[0].id} may be on the cluster, and debug_no_cluster_ssh keeps from asking"
        return _waiting(world, raw_file, run_id, why, [])
    for item in settings:
        relative = planned_folder(raw_file, item)
        job = _new_job(world, raw_file, item, relative)
        now = world.now()
        world.store.jobs.intend(
            job.model_copy(update={"state": JobState.SKIPPED, "ended_at": now, "collected_at": now})
        )
    details = (
        f"{len(settings)} jobs recorded as skipped: debug_no_cluster_ssh is set. Next: unset it; "
        "`kraken retry` submits them."
    )
    return QuantOutcome(_end(world, held, run_id, Status.DONE_NOT_QUANTED, details), details)


def _decided_settings(world: World, raw_file: RawFile) -> list[Settings]:
    """The settings that were decided on, whatever was assigned or archived since."""
    if not raw_file.quant_settings:
        return settings_for(world, raw_file)
    return [
        world.store.catalog.settings(item["name"], int(item["version"]))
        for item in raw_file.quant_settings
    ]


def _intended(
    world: World, raw_file: RawFile, settings: Settings, mode: OutputExistsMode
) -> QuantJob:
    """The record of the job, made before anything is submitted; the latest if there is one."""
    for known in latest_jobs(world, raw_file):
        if (known.settings_name, known.settings_version) == (settings.name, settings.version):
            return known
    stall_s = world.instrument(raw_file.instrument_id).copy_stall_s
    folder = bounded(
        lambda: output_folder(world, raw_file, settings, mode),
        timeout_s=stall_s,
        what=world.config.locations.output.path,
    )
    job = _new_job(world, raw_file, settings, folder.relative)
    if folder.follow is not None:
        followed = {
            "state": JobState.WAITING,
            "cluster_job_id": folder.follow,
            "followed": True,
        }
        job = job.model_copy(update=followed)
    return world.store.jobs.intend(job)


def _new_job(world: World, raw_file: RawFile, settings: Settings, relative: str) -> QuantJob:
    attempt = raw_file.attempts.get(JOBS_COUNTER, 1)
    instrument = world.instrument(raw_file.instrument_id)
    engine = world.config.engines[instrument.engine]
    paths = job_paths(world, raw_file, settings, relative)
    whose = {"raw_file_id": raw_file.id, "project_id": raw_file.project_id or FALLBACK_PROJECT}
    command = job_command(settings, paths, **whose)
    resources, own_script = settings.resources, False
    if isinstance(engine, SlurmEngine):
        resources = resources.over(engine.resources)
        own_script = engine.job_script is None
    return QuantJob(
        id=job_name(raw_file, settings, attempt),
        raw_file=raw_file.id,
        instrument_id=raw_file.instrument_id,
        settings_name=settings.name,
        settings_version=settings.version,
        software_type=settings.software_type,
        software=settings.software,
        metrics_type=settings.metrics_type,
        engine=instrument.engine,
        attempt=attempt,
        state=JobState.INTENDED,
        output_path=paths.output,
        relative_output_path=relative,
        command=command,
        environment=job_environment(settings, paths, command, **whose),
        resources=resources,
        max_mem=settings.slurm_max_mem,
        max_time=settings.slurm_max_time,
        working_copy=working_copy(raw_file, instrument.type, paths),
        log_name=log_name(settings, own_script=own_script),
        created_at=world.now(),
    )
