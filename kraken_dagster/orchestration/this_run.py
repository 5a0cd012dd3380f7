"""Which instruments the run of this process needs: a run loads no others' assets and jobs.

A run is a process of a code server's. That hands it the job's name among the arguments of the
process, and Dagster has no other way to tell before the definitions are loaded. Where it can't
be told, everything is loaded.
"""

import multiprocessing

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.orchestration import dagster_internals
from kraken_dagster.orchestration.partitions import (
    archive_job,
    collect_job,
    ingest_job,
    offsite_job,
    quant_job,
)

# What a catch-up launches is Dagster's own job over all assets, and it needs the graph of them.
_OF_ONE = (ingest_job, quant_job, collect_job, offsite_job, archive_job)


def instruments_of_this_run(config: KrakenConfig) -> list[str]:
    """All that are configured, where this is no run, or not one of a single instrument."""
    name = _job_name()
    for instrument_id in config.instruments if name else ():
        if any(name == job(instrument_id) for job in _OF_ONE):
            return [instrument_id]
    return list(config.instruments)


def _job_name() -> str | None:
    if multiprocessing.parent_process() is None:
        return None
    arguments = getattr(multiprocessing.current_process(), "_args", ())
    jobs = [item for item in arguments if isinstance(item, dagster_internals.ReconstructableJob)]
    return jobs[0].job_name if len(jobs) == 1 else None
