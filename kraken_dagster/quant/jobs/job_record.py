"""The record of a job, made before anything is submitted."""

from kraken_dagster.config.engines import SlurmEngine
from kraken_dagster.config.instruments import OutputExistsMode
from kraken_dagster.fs.stores.marker import Role
from kraken_dagster.fs.timeouts import bounded
from kraken_dagster.model.jobs.job import QuantJob, job_name
from kraken_dagster.model.jobs.report import JobState
from kraken_dagster.model.raw_file import FALLBACK_PROJECT, RawFile
from kraken_dagster.model.settings import Settings
from kraken_dagster.quant.command import job_command, job_environment, log_name
from kraken_dagster.quant.input_files import inputs_of, require_program
from kraken_dagster.quant.jobs.attempts import JOBS_COUNTER
from kraken_dagster.quant.output_folder import (
    job_paths,
    move_out_of_the_way,
    output_folder,
    planned_folder,
    working_copy,
)
from kraken_dagster.runtime.services import Services
from kraken_dagster.runtime.stores import opened


def intended(
    services: Services, raw_file: RawFile, settings: Settings, engine: str, mode: OutputExistsMode
) -> QuantJob:
    """The record of a job that is about to be submitted, in MongoDB.

    Raises:
        OutputExists, InputMissing, SettingsRefused
    """
    stall_s = services.instrument(raw_file.instrument_id).copy_stall_s
    root = services.config.locations.output.path
    folder = bounded(
        lambda: output_folder(services, raw_file, settings, engine, mode),
        timeout_s=stall_s,
        what=root,
    )
    job = _new_job(services, raw_file, settings, engine, folder.relative)
    if folder.done is not None:  # from which inputs it was made nobody knows
        return services.store.jobs.intend(_done_before(job, folder.done, folder.made_by))
    if folder.follow is None:
        bounded(lambda: require_program(services, job), timeout_s=stall_s, what=job.software)
    job = job.model_copy(update={"inputs": inputs_of(services, settings, job)})
    if folder.in_the_way:
        with opened(services, Role.BACKUP):  # else nothing is submitted, and nothing to be moved
            _begin_anew(services, raw_file)
        bounded(lambda: move_out_of_the_way(services, folder), timeout_s=stall_s, what=root)
    if folder.follow is not None:
        followed = {
            "state": JobState.WAITING,
            "cluster_job_id": folder.follow,
            "followed": True,
        }
        job = job.model_copy(update=followed)
    return services.store.jobs.intend(job)


def _begin_anew(services: Services, raw_file: RawFile) -> None:
    """From here on the file isn't any more what it was when it was asked for again."""
    current = services.store.raw_files.current(raw_file.id)
    if current.asked_again is not None:
        note = "the result that was there is set aside"
        services.store.raw_files.update(
            current, {"asked_again": None}, now=services.now(), note=note
        )


_OF_THE_MAKER = ("inputs", "cluster_job_id", "node", "started_at", "ended_at", "exit_code")


def _done_before(job: QuantJob, how_known: str, made_by: QuantJob | None) -> QuantJob:
    """The record of a job that nobody submits: its result was there already."""
    facts = {
        "state": JobState.SUCCEEDED,
        "followed": True,
        "ended_at": job.created_at,
        "detail": f"the result was there already: {how_known}",
    }
    if made_by is not None:
        known = {name: getattr(made_by, name) for name in _OF_THE_MAKER}
        facts |= {name: value for name, value in known.items() if value is not None}
    return job.model_copy(update=facts)


def skipped(services: Services, raw_file: RawFile, settings: Settings, engine: str) -> QuantJob:
    """The record of a job that is not submitted on purpose."""
    job = _new_job(services, raw_file, settings, engine, planned_folder(raw_file, settings))
    now = services.now()
    ended = {"state": JobState.SKIPPED, "ended_at": now, "collected_at": now}
    return services.store.jobs.intend(job.model_copy(update=ended))


def _new_job(
    services: Services, raw_file: RawFile, settings: Settings, engine_name: str, relative: str
) -> QuantJob:
    attempt = raw_file.attempts.get(JOBS_COUNTER, 1)
    engine = services.config.engines[engine_name]
    paths = job_paths(services, raw_file, settings, engine_name, relative)
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
        settings_digest=settings.digest,
        software_type=settings.software_type,
        software=settings.software,
        metrics_type=settings.metrics_type,
        engine=engine_name,
        attempt=attempt,
        state=JobState.INTENDED,
        output_path=paths.output,
        relative_output_path=relative,
        settings_path=paths.settings,
        command=command,
        environment=job_environment(settings, paths, command, **whose),
        resources=resources,
        max_mem=settings.slurm_max_mem,
        max_time=settings.slurm_max_time,
        working_copy=working_copy(
            raw_file, services.instrument(raw_file.instrument_id).type, paths
        ),
        log_name=log_name(settings, own_script=own_script),
        created_at=services.now(),
    )
