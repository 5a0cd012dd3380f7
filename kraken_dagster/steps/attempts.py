"""The jobs of a raw file, by attempt and by try."""

from kraken_dagster.domain.quant import QuantJob
from kraken_dagster.domain.raw_file import RawFile
from kraken_dagster.steps.world import World

# Counts the sets of jobs of a file; part of the jobs' names.
JOBS_COUNTER = "quant_jobs"


def latest_jobs(world: World, raw_file: RawFile) -> list[QuantJob]:
    """The jobs of the file's latest attempt; of one that was submitted again, the last try.

    Only those of the settings that were decided on last: an attempt that an error cut short may
    have begun with others.
    """
    decided = {(item["name"], int(item["version"])) for item in raw_file.quant_settings}
    last: dict[tuple[str, int], QuantJob] = {}
    for job in world.store.jobs.of(raw_file.id, attempt=raw_file.attempts.get(JOBS_COUNTER, 1)):
        key = (job.settings_name, job.settings_version)
        if decided and key not in decided:
            continue
        if key not in last or job.resubmission > last[key].resubmission:
            last[key] = job
    return list(last.values())
