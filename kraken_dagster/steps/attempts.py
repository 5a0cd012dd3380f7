"""The jobs of a raw file, by attempt and by try."""

from collections.abc import Sequence

from kraken_dagster.domain.quant import JobState, QuantJob
from kraken_dagster.domain.raw_file import DecidedSettings, RawFile, Status
from kraken_dagster.domain.settings import Settings
from kraken_dagster.steps.world import World

# Counts the sets of jobs of a file; part of the jobs' names.
JOBS_COUNTER = "quant_jobs"


def latest_jobs(world: World, raw_file: RawFile) -> list[QuantJob]:
    """The job of each of the file's decided settings; of one that was submitted again, the last
    try.

    Where no settings were decided yet, the jobs of the latest attempt.
    """
    return latest_of(raw_file, world.store.jobs.of(raw_file.id))


def latest_of(raw_file: RawFile, jobs: Sequence[QuantJob]) -> list[QuantJob]:
    """Of all jobs of a file, oldest first, those that `latest_jobs` tells of."""
    latest = raw_file.attempts.get(JOBS_COUNTER, 1)
    decided = {
        (item.name, item.version): item.attempt or latest for item in raw_file.quant_settings
    }
    last: dict[tuple[str, int], QuantJob] = {}
    for job in jobs:
        key = (job.settings_name, job.settings_version)
        if job.attempt != (decided.get(key) if decided else latest):
            continue
        if key not in last or job.resubmission > last[key].resubmission:
            last[key] = job
    return list(last.values())


def decided(
    world: World, raw_file: RawFile, settings: Sequence[Settings], attempt: int | None
) -> list[DecidedSettings]:
    """What is to be processed: which settings, and in which attempt.

    A result that succeeded is not computed again where only another one failed, or where the
    backup had to be made anew; nor is anything that an error cut short begun anew.
    """
    jobs = {(job.settings_name, job.settings_version): job for job in latest_jobs(world, raw_file)}
    found = []
    for item in settings:
        job = jobs.get((item.name, item.version))
        kept = job is not None and _is_kept(raw_file, job)
        number = job.attempt if kept and job is not None else attempt
        found.append(
            DecidedSettings(
                name=item.name,
                version=item.version,
                attempt=number,
                engine=world.engine_of(raw_file.instrument_id, item),
            )
        )
    return found


def _is_kept(raw_file: RawFile, job: QuantJob) -> bool:
    if raw_file.status is Status.ERROR:
        return True
    succeeded = job.state is JobState.SUCCEEDED and job.failure is None
    return succeeded and raw_file.status in (Status.QUANTING_FAILED, Status.COPYING_DONE)
