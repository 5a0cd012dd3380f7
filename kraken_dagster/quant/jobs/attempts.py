"""The jobs of a raw file, by attempt and by try."""

from collections.abc import Sequence

from kraken_dagster.model.jobs.job import QuantJob
from kraken_dagster.model.jobs.report import JobState
from kraken_dagster.model.raw_file import DecidedSettings, RawFile, Status
from kraken_dagster.model.settings import Settings
from kraken_dagster.runtime.services import Services

# Counts the sets of jobs of a file; part of the jobs' names.
JOBS_COUNTER = "quant_jobs"


def latest_jobs(services: Services, raw_file: RawFile) -> list[QuantJob]:
    """The job of each of the file's decided settings; of one that was submitted again, the last
    try.

    Where no settings were decided yet, the jobs of the latest attempt.
    """
    return latest_of(raw_file, services.store.jobs.of(raw_file.id))


def latest_of(raw_file: RawFile, jobs: Sequence[QuantJob]) -> list[QuantJob]:
    """Of all jobs of a file, oldest first, those that `latest_jobs` tells of."""
    latest = raw_file.attempts.get(JOBS_COUNTER, 1)
    decided = {
        (item.name, item.version): item.attempt or _newest_attempt(item, jobs, latest)
        for item in raw_file.quant_settings
    }
    last: dict[tuple[str, int], QuantJob] = {}
    for job in jobs:
        key = (job.settings_name, job.settings_version)
        if job.attempt != (decided.get(key) if decided else latest):
            continue
        if key not in last or job.resubmission > last[key].resubmission:
            last[key] = job
    return list(last.values())


def _newest_attempt(item: DecidedSettings, jobs: Sequence[QuantJob], latest: int) -> int:
    """The attempt that counts where none was recorded: of the newest job there is."""
    found = [
        job.attempt
        for job in jobs
        if (job.settings_name, job.settings_version) == (item.name, item.version)
    ]
    return max(found, default=latest)


def decided(
    services: Services,
    raw_file: RawFile,
    settings: Sequence[Settings],
    attempt: int | None,
    jobs: Sequence[QuantJob],
) -> list[DecidedSettings]:
    """What is to be processed: which settings, and in which attempt. `jobs` are all of the file's.

    A result that succeeded is not computed again where only another one failed, or where the
    backup had to be made anew, even if another version of its settings is assigned by now; nor is
    anything that an error cut short begun anew.
    """
    latest = latest_of(raw_file, jobs)
    chosen = {(item.name, item.version) for item in raw_file.quant_settings if item.chosen}
    found = []
    for item in settings:
        kept = _kept_of(raw_file, item, latest)
        found.append(
            DecidedSettings(
                name=item.name,
                version=item.version if kept is None else kept.settings_version,
                attempt=attempt if kept is None else kept.attempt,
                engine=services.engine_of(raw_file.instrument_id, item),
                chosen=(item.name, item.version) in chosen and raw_file.status is not Status.DONE,
            )
        )
    return found


def _kept_of(raw_file: RawFile, settings: Settings, jobs: Sequence[QuantJob]) -> QuantJob | None:
    same_name = [job for job in jobs if job.settings_name == settings.name]
    same = next((it for it in same_name if it.settings_version == settings.version), None)
    if raw_file.status is Status.ERROR and same is not None:
        return same
    if raw_file.status is Status.DONE:  # a person wants all of it once more
        return None
    succeeded = (it for it in same_name if it.state is JobState.SUCCEEDED and it.failure is None)
    return next(succeeded, None)
