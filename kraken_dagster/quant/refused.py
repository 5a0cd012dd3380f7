"""A file that had ended, was asked for again, and of which nothing was begun: it is as it was."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from kraken_dagster.model.errors import StoreError
from kraken_dagster.model.jobs.job import QuantJob
from kraken_dagster.model.jobs.report import JobState
from kraken_dagster.model.raw_file import RawFile, Status
from kraken_dagster.quant.decide import as_fields, withdraw_if_possible
from kraken_dagster.quant.jobs.attempts import JOBS_COUNTER
from kraken_dagster.runtime.leases import Held
from kraken_dagster.runtime.services import Services


@contextmanager
def put_back_if_refused(services: Services, held: Held) -> Iterator[None]:
    """Whatever keeps the block from submitting a job, the file has the status it had ended with.

    What was begun stays begun, and is told as any other failure.
    """
    try:
        yield
    except StoreError:
        raise
    except Exception:
        with suppress(StoreError):
            put_back(services, held)
        raise


def put_back(services: Services, held: Held) -> RawFile:
    """The file as it had ended, unless a job of the new attempt was submitted, or may have been."""
    raw_file = services.store.raw_files.current(held.raw_file.id)
    asked = raw_file.asked_again
    if asked is None or raw_file.status is not Status.QUEUED_FOR_QUANTING:
        return raw_file
    if _is_begun(services, raw_file):
        note = "a part of what was asked for again is begun"
        fields = {"asked_again": None}
        return services.store.raw_files.update(
            raw_file, fields, now=services.now(), note=note, run_id=held.run_id
        )
    # The new attempt's number is given once more only if no job has it, also no skipped one.
    unused = asked.attempt is not None and not _jobs_of_attempt(services, raw_file)
    counter = {f"attempts.{JOBS_COUNTER}": asked.attempt} if unused else {}
    return held.transition(
        asked.status,
        of=raw_file,
        reason="nothing was begun of what was asked for again",
        fields={
            "asked_again": None,
            "output_exists_mode": None,
            "status_details": asked.details,
            "quant_settings": as_fields(asked.settings),
            **counter,
        },
    )


def _jobs_of_attempt(services: Services, raw_file: RawFile) -> list[QuantJob]:
    attempt = raw_file.attempts.get(JOBS_COUNTER)
    return [job for job in services.store.jobs.of(raw_file.id) if job.attempt == attempt]


def _is_begun(services: Services, raw_file: RawFile) -> bool:
    jobs = _jobs_of_attempt(services, raw_file)
    intended = [job for job in jobs if job.state is JobState.INTENDED]
    if any(job.state not in (JobState.INTENDED, JobState.SKIPPED) for job in jobs):
        return True
    return not all(withdraw_if_possible(services, job) for job in intended)
