"""The schedules: what is done by the clock, and not because something is due on a file."""

import dagster as dg

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.orchestration.failures import skip
from kraken_dagster.orchestration.partitions import (
    PURGE_JOB,
    RETIRE_JOB,
    SCRUB_JOB,
    SCRUB_OFFSITE_JOB,
    TAG_INSTRUMENT,
    name_here,
)
from kraken_dagster.retention.purge_plan import PurgeOptions


def purge_schedule(config: KrakenConfig) -> dg.ScheduleDefinition:
    """On from the start: nothing is purged before `min_free_space_gb` says so.

    A run for each instrument, so that one whose share hangs holds up no other.
    """
    on = [item for item in config.instruments if not PurgeOptions.of(config.instrument(item)).off]

    @dg.schedule(
        name=name_here(config, PURGE_JOB),
        job_name=name_here(config, PURGE_JOB),
        cron_schedule="0 */12 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Frees the instruments' disks every 12 hours, where they are short of space.",
    )
    def purges() -> list[dg.RunRequest] | dg.SkipReason:
        if not on:
            return skip("nothing is purged: min_free_space_gb or remove_files is off")
        return [
            dg.RunRequest(
                run_key=item,
                run_config={"ops": {"purge_instruments": {"config": {"instruments": [item]}}}},
                tags={TAG_INSTRUMENT: item},
            )
            for item in on
        ]

    return purges


def scrub_schedule(config: KrakenConfig) -> dg.ScheduleDefinition:
    """Off until somebody switches it on: it reads the whole backup store again and again."""
    days = config.defaults.scrub_every_days

    @dg.schedule(
        name=name_here(config, SCRUB_JOB),
        job_name=name_here(config, SCRUB_JOB),
        cron_schedule="30 1 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description=f"Reads every backup again within {days:g} days, a part of them every night.",
    )
    def scrubs() -> dg.RunRequest:
        return dg.RunRequest()

    return scrubs


def scrub_offsite_schedule(config: KrakenConfig) -> dg.ScheduleDefinition:
    """On from the start: a HEAD costs next to nothing, and reading has a budget of its own."""

    @dg.schedule(
        name=name_here(config, SCRUB_OFFSITE_JOB),
        job_name=name_here(config, SCRUB_OFFSITE_JOB),
        cron_schedule="45 3 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Asks the S3 server for the copies, and reads some of them back.",
    )
    def scrubs_copies() -> dg.RunRequest:
        return dg.RunRequest()

    return scrubs_copies


def retire_schedule(config: KrakenConfig) -> dg.ScheduleDefinition:
    """On from the start: without a window it skips, and no run is made."""
    windows = [config.instrument(item).partition_window_days for item in config.instruments]
    on = any(days > 0 for days in windows)

    @dg.schedule(
        name=name_here(config, RETIRE_JOB),
        job_name=name_here(config, RETIRE_JOB),
        cron_schedule="15 2 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Takes files out of Dagit that are final and older than partition_window_days.",
    )
    def retires() -> dg.RunRequest | dg.SkipReason:
        return dg.RunRequest() if on else skip("nothing is retired: partition_window_days is 0")

    return retires
