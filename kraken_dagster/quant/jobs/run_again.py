"""Has jobs of a file submitted once more that ended by no fault of theirs, or that nobody knows."""

from collections.abc import Sequence

from kraken_dagster.fs.timeouts import bounded
from kraken_dagster.model.jobs.job import QuantJob, resources_for_another_try
from kraken_dagster.model.jobs.report import JobState
from kraken_dagster.model.jobs.resources import Resources
from kraken_dagster.model.raw_file import RawFile, Status
from kraken_dagster.quant.jobs.left_by_job import renew_folder
from kraken_dagster.runtime.leases import Held
from kraken_dagster.runtime.services import Services


def submitted_again(services: Services, held: Held, jobs: Sequence[QuantJob]) -> RawFile:
    """Has jobs that a node's failure, preemption, or too little memory or time ended run again.

    The file is queued once more, and its next run submits them.
    """
    raw_file = held.raw_file
    superseded: list[QuantJob] = []
    again: list[QuantJob] = []
    for job in jobs:
        resources = resources_for_another_try(job)
        if resources is not None:
            superseded.append(job)
            held.require()  # the folder that is set aside may be in use by then
            again.append(_intend_again(services, job, resources))
        elif job.state is JobState.INTENDED:  # whoever intended it died before the next line
            again.append(job)
    if not again:
        return raw_file
    after = held.transition(
        Status.QUEUED_FOR_QUANTING,
        of=raw_file,
        reason="submitted again: " + "; ".join(f"{job.id} ({job.detail})" for job in again),
    )
    for job in superseded:
        services.store.jobs.collected(job, now=services.now(), result_error=None)
    return after


def queued_anew(held: Held) -> RawFile:
    """A file that is being processed by jobs which nobody here knows: AlphaKraken's own."""
    return held.transition(
        Status.QUEUED_FOR_QUANTING,
        reason="no job of it is known here: another program had submitted it",
    )


def _intend_again(services: Services, job: QuantJob, resources: Resources) -> QuantJob:
    stall_s = services.instrument(job.instrument_id).copy_stall_s
    bounded(lambda: renew_folder(services, job), timeout_s=stall_s, what=job.output_path)
    return services.store.jobs.intend(job.another_try(resources, now=services.now()))
