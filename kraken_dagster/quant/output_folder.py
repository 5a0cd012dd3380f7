"""Where a job writes, and what is done with what stands there already."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kraken_dagster.config.instruments import OutputExistsMode
from kraken_dagster.config.schema import Location
from kraken_dagster.engines.job_script import BEGUN_FILE, EXIT_CODE_FILE, JOB_ID_FILE
from kraken_dagster.engines.slurm_output import is_job_id, job_id_in_log
from kraken_dagster.fs.copying.part_files import set_aside
from kraken_dagster.fs.digests import exists, is_empty, output_errors
from kraken_dagster.fs.result_files import read_text
from kraken_dagster.fs.stores.marker import Role
from kraken_dagster.metrics.limited import read_metrics
from kraken_dagster.metrics.partial import Reading
from kraken_dagster.model.eligibility import output_path
from kraken_dagster.model.errors import OutputExists
from kraken_dagster.model.files.names import folded
from kraken_dagster.model.files.vendors import RULES, Vendor, safe_relative
from kraken_dagster.model.jobs.job import QuantJob, next_run_folder
from kraken_dagster.model.jobs.report import JobState
from kraken_dagster.model.raw_file import RawFile
from kraken_dagster.model.settings import Settings
from kraken_dagster.quant.command import JobPaths
from kraken_dagster.runtime.services import Services
from kraken_dagster.runtime.stores import opened

_LOG_BYTES = 4 * 1024 * 1024
_ANOTHER_MODE = "`kraken retry ID --output-exists-mode add`, or `overwrite`."


@dataclass(frozen=True)
class OutputFolder:
    """A result's folder below the output root; `follow` is the cluster's id of a job that writes
    there already and is to be followed, instead of submitting one. `in_the_way`: what stands there
    is to be set aside first.

    `done` says by what the result that stands there is known to be complete: nothing is computed;
    `made_by` is the job of ours that has made it, where that is known.
    """

    relative: str
    follow: str | None = None
    done: str | None = None
    made_by: QuantJob | None = None
    in_the_way: bool = False


def planned_folder(raw_file: RawFile, settings: Settings) -> str:
    """Where a result belongs, whatever stands there."""
    return output_path(
        raw_file.id,
        project_id=raw_file.project_id,
        created_at=raw_file.filed_under,
        software_type=settings.software_type,
    )


def output_folder(
    services: Services, raw_file: RawFile, settings: Settings, engine: str, mode: OutputExistsMode
) -> OutputFolder:
    """The folder to write to. Nothing is changed.

    Raises:
        OutputExists: a result is there, and the mode says nothing that helps.
        StoreAway, OutputUnreadable: what stands there is not known.
    """
    with opened(services, Role.OUTPUT) as root:
        return _output_folder(services, raw_file, settings, engine, mode, root=root.path)


def _output_folder(
    services: Services,
    raw_file: RawFile,
    settings: Settings,
    engine: str,
    mode: OutputExistsMode,
    *,
    root: Path,
) -> OutputFolder:
    base = planned_folder(raw_file, settings)
    if not _is_free(root / base) and _is_anothers(services, raw_file, base):
        base = base.replace(f"out_{raw_file.id}", f"out_{services.own_name(raw_file)}", 1)
    folder = root / base
    if _is_free(folder):
        return OutputFolder(base)
    if (finished := _finished(services, raw_file, settings, base, folder)) is not None:
        done = f"job {finished.id} ended well, and its result can be read after all"
        return OutputFolder(base, done=done, made_by=finished)
    if mode is OutputExistsMode.ASSOCIATE:
        writer = _last_writer(services, raw_file, base)
        if writer is not None and writer.state is JobState.SUCCEEDED and writer.failure is None:
            return OutputFolder(base, done=f"job {writer.id} ended well", made_by=writer)
        return _associated(services, settings, engine, base, folder)
    if mode is OutputExistsMode.ADD:
        parent = base.rpartition("/")[0]
        with output_errors(folder.parent):
            names = {f"{parent}/{item.name}" for item in folder.parent.iterdir()}
        return OutputFolder(next_run_folder(base, names))
    if mode is OutputExistsMode.OVERWRITE or _is_our_failure(services, raw_file, base):
        return OutputFolder(base, in_the_way=True)
    raise OutputExists(
        "A result is there already",
        file=folder,
        found=f"output_exists_mode {mode.value!r}",
        next_step="`kraken retry ID --output-exists-mode add` (a new folder beside it), "
        "`overwrite` (the old one is set aside) or `associate` (a complete one is taken as it "
        "is, a job that still writes it is followed).",
    )


def metrics_of(services: Services, job: QuantJob, folder: Path) -> Reading:
    """The metrics in a job's result folder, and every problem with them; `folder` is that.

    Raises:
        CopyStalled, OutputUnreadable: nothing is known of it.
    """
    stall_s = services.instrument(job.instrument_id).copy_stall_s
    return _metrics(services, job.metrics_type, folder, stall_s)


def _metrics(services: Services, metrics_type: str, folder: Path, wall_s: float) -> Reading:
    config = services.config
    return read_metrics(
        metrics_type, folder, own=config.metrics, limits=config.reading_limits, wall_s=wall_s
    )


def _associated(
    services: Services, settings: Settings, engine: str, base: str, folder: Path
) -> OutputFolder:
    """
    Raises:
        OutputExists: nothing says that the result is complete, and no job is known to write it.
    """
    if done := complete_by(services, settings, folder):
        return OutputFolder(base, done=done)
    if services.on_cluster(engine):
        return OutputFolder(base, follow=_job_to_follow(folder))
    return _of_local_job(services, engine, base, folder)


def _of_local_job(services: Services, engine: str, base: str, folder: Path) -> OutputFolder:
    """By the job of this machine that has begun there: its exit code is in its own folder."""
    name = read_text(folder, BEGUN_FILE, limit=1000).strip()
    state = services.engines[engine].states([name])[name].state if name else None
    if state is JobState.SUCCEEDED:
        return OutputFolder(base, done=f"job {name} ended well")
    if state is JobState.RUNNING:
        return OutputFolder(base, follow=name)
    raise OutputExists(
        "Nothing says that the result is complete, and no job of this machine writes it",
        file=folder,
        expected="an exit code 0, metrics that can be read, or a job that runs",
        found=f"job {name}, {state}" if name else f"no {BEGUN_FILE}",
        next_step=_ANOTHER_MODE,
    )


def move_out_of_the_way(services: Services, folder: OutputFolder) -> None:
    """Sets aside what stands in the folder."""
    with opened(services, Role.OUTPUT) as root:
        set_aside(root.path / folder.relative)


def _finished(
    services: Services, raw_file: RawFile, settings: Settings, base: str, folder: Path
) -> QuantJob | None:
    """The last job of ours that wrote there, if only its result could not be read then, and can be
    now: a search that has ended well is not run once more."""
    job = _last_writer(services, raw_file, base)
    if job is None or job.failure is None:
        return None
    if (job.settings_name, job.settings_version) != (settings.name, settings.version):
        return None
    words = read_text(folder, EXIT_CODE_FILE, limit=1000).split()
    if job.state is not JobState.SUCCEEDED and (words[:1], words[2:]) != (["0"], [job.id]):
        return None
    reading = metrics_of(services, job, folder)
    return None if reading.problems else job


def _is_free(folder: Path) -> bool:
    with output_errors(folder):
        return not exists(folder) or is_empty(folder)


def _is_anothers(services: Services, raw_file: RawFile, base: str) -> bool:
    """Whether what stands there is the result of a file whose id this disk takes for this one's."""
    if any(job.relative_output_path == base for job in services.store.jobs.of(raw_file.id)):
        return False
    beside = services.store.jobs.folders_below(base.partition("/out_")[0])
    return any(
        other != raw_file.id and folded(path) == folded(base) and path != base
        for other, path in beside
    )


def complete_by(services: Services, settings: Settings, folder: Path) -> str | None:
    """By what a result that stands there is known to be complete, in words; None if it isn't.

    Whoever made it, and however long ago: a cluster forgets its jobs, and a result outlives them.
    """
    words = read_text(folder, EXIT_CODE_FILE, limit=1000).split()
    if len(words) == 3 and words[0].isdecimal():
        return "its job's exit code was 0" if int(words[0]) == 0 else None
    reading = _metrics(
        services, settings.metrics_type, folder, services.config.defaults.copy_stall_s
    )
    if not reading.metrics or reading.problems:
        return None
    return f"{len(reading.metrics)} metrics can be read, and nothing is wrong with them"


def _job_to_follow(folder: Path) -> str:
    """The Slurm job id that Kraken has left there, or else the log; AlphaDIA writes it there."""
    words = read_text(folder, JOB_ID_FILE, limit=1000).split()
    if len(words) == 2 and is_job_id(words[0]):
        return words[0]
    text = read_text(folder, "log.txt", limit=_LOG_BYTES)
    job_id = job_id_in_log(text)
    if job_id is None or not is_job_id(job_id):
        raise OutputExists(
            "The result's log names no job to follow",
            file=folder / "log.txt",
            expected="a line with `slurm_job_id: ` and a number",
            found=repr(job_id) if text else "nothing in it, or no such file",
            next_step=_ANOTHER_MODE,
        )
    return job_id


def _is_our_failure(services: Services, raw_file: RawFile, relative: str) -> bool:
    """Whether the last job that wrote there was ours and failed: nobody's result is lost then."""
    writer = _last_writer(services, raw_file, relative)
    return writer is not None and writer.failure is not None


def _last_writer(services: Services, raw_file: RawFile, relative: str) -> QuantJob | None:
    """The last job of ours that wrote to a folder."""
    jobs: Sequence[QuantJob] = services.store.jobs.of(raw_file.id)
    return next((job for job in reversed(jobs) if job.relative_output_path == relative), None)


def job_paths(
    services: Services, raw_file: RawFile, settings: Settings, engine_name: str, relative: str
) -> JobPaths:
    """Paths as the engine sees them: here, or on the cluster."""
    locations = services.config.locations
    on_cluster = services.on_cluster(engine_name)

    def root(location: Location) -> str:
        return location.cluster_path if on_cluster else str(location.path)

    backup = services.backup_folder(raw_file) / raw_file.id
    relative_raw_file = backup.relative_to(locations.backup.path).as_posix()
    return JobPaths(
        raw_file=f"{root(locations.backup)}/{relative_raw_file}",
        relative_raw_file=relative_raw_file,
        output=f"{root(locations.output)}/{relative}",
        relative_output=relative,
        settings=f"{root(locations.settings or locations.output)}/{settings.name}",
        software_base=root(locations.software) if locations.software else "",
        conda=services.config.engines[engine_name].conda,
    )


def working_copy(raw_file: RawFile, vendor: Vendor, paths: JobPaths) -> list[str]:
    """The files of which a job needs copies: Sciex's, which can't be opened read-only."""
    if not RULES[vendor].has_companions:
        return []
    folder = paths.raw_file.removesuffix(raw_file.id)
    companions = [name for name in raw_file.file_info if name != raw_file.id]
    return [paths.raw_file, *(f"{folder}{safe_relative(name)}" for name in sorted(companions))]
