"""Where a job writes, and what is done with what stands there already."""

from collections.abc import Sequence
from pathlib import Path

from kraken_dagster.clients.files import set_aside
from kraken_dagster.clients.reading import exists, require_root
from kraken_dagster.domain.config import OutputExistsMode
from kraken_dagster.domain.errors import OutputExists
from kraken_dagster.domain.processing import output_path
from kraken_dagster.domain.commands import JobPaths
from kraken_dagster.domain.quant import QuantJob, Settings, next_run_folder
from kraken_dagster.domain.raw_file import RawFile
from kraken_dagster.steps.world import World


def output_folder(
    world: World, raw_file: RawFile, settings: Settings, mode: OutputExistsMode
) -> str:
    """The result's folder below the output root, after what stands there was dealt with."""
    root = world.config.locations.output.path
    require_root(root)
    base = output_path(
        raw_file.id,
        project_id=raw_file.project_id,
        created_at=raw_file.created_at,
        software_type=settings.software_type,
    )
    folder = root / base
    if not exists(folder) or (folder.is_dir() and not any(folder.iterdir())):
        return base
    if mode is OutputExistsMode.ADD:
        parent = base.rpartition("/")[0]
        names = {f"{parent}/{item.name}" for item in folder.parent.iterdir()}
        return next_run_folder(base, names)
    if mode is OutputExistsMode.OVERWRITE or _is_our_failure(world, raw_file, base):
        set_aside(folder)
        return base
    raise OutputExists(
        "A result is there already",
        file=folder,
        next_step="set output_exists_mode to `add` (a new folder beside it) or `overwrite` (the "
        "old one is moved aside), and ask for `quant_job` again.",
    )


def _is_our_failure(world: World, raw_file: RawFile, relative: str) -> bool:
    """Whether the last job that wrote there was ours and failed: nobody's result is lost then."""
    writers: Sequence[QuantJob] = [
        job for job in world.store.jobs.of(raw_file.id) if job.relative_output_path == relative
    ]
    return bool(writers) and writers[-1].failure is not None


def job_paths(world: World, raw_file: RawFile, settings: Settings, relative: str) -> JobPaths:
    """Paths for an engine on this machine."""
    locations = world.config.locations
    backup = world.backup_folder(raw_file) / raw_file.id
    settings_root = locations.settings or locations.output
    return JobPaths(
        raw_file=str(backup),
        relative_raw_file=str(Path(backup).relative_to(locations.backup.path)),
        output=str(locations.output.path / relative),
        relative_output=relative,
        settings=str(settings_root.path / settings.name),
        software_base=str(locations.software.path) if locations.software else "",
    )
