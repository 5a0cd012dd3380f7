"""Takes the result of one job into MongoDB: metrics and provenance, or what was wrong."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kraken_dagster.fs.stores.roots import OpenRoot
from kraken_dagster.metrics.limited import error_codes
from kraken_dagster.model.jobs.job import QuantJob
from kraken_dagster.model.jobs.report import JobState
from kraken_dagster.model.metric_values import RESERVED_NAMES
from kraken_dagster.model.programs import PROGRAMS
from kraken_dagster.model.raw_file import RawFile
from kraken_dagster.quant.mzqc_file import leave_mzqc
from kraken_dagster.quant.output_folder import metrics_of
from kraken_dagster.quant.provenance import printed_by, provenance_of
from kraken_dagster.runtime.services import Services

_LONGEST_PROBLEM = 10_000  # characters; a message may quote every column of a table


@dataclass(frozen=True)
class TakenResult:
    job: QuantJob
    metrics: Mapping[str, Any]
    failure: str | None
    provenance: Mapping[str, Any] = field(default_factory=dict)


def take_result(
    services: Services, raw_file: RawFile, job: QuantJob, root: OpenRoot
) -> TakenResult:
    """The job's metrics, now in MongoDB, or what was wrong."""
    folder = services.result_folder(job, root.path)
    if job.failure is not None:
        job = _with_last_words(services, job, root)
        return TakenResult(job, {}, job.failure)
    reading = metrics_of(services, job, folder)
    problem = "; ".join(map(str, reading.problems))[:_LONGEST_PROBLEM] or None
    if problem is not None and (kept := _kept_result(services, job)) is not None:
        return kept
    provenance = provenance_of(
        services, raw_file, job, root=root.path, problem=problem, notes=reading.notes
    )
    why_not = leave_mzqc(services, raw_file, job, reading.metrics, provenance, root=root)
    if why_not is not None:
        provenance["notes"].append(why_not)
    if reading.metrics or problem is None:
        services.store.metrics.add(job, reading.metrics, provenance=provenance, now=services.now())
        return TakenResult(job, reading.metrics, problem, provenance)
    return TakenResult(job, {}, problem)


def _kept_result(services: Services, job: QuantJob) -> TakenResult | None:
    """The result of a job that was read in full before its folder was cleaned up."""
    if job.collected_at is None or job.result_error is not None:
        return None
    document = services.store.metrics.of_job(job)
    if document is None:
        return None
    metrics = {key: value for key, value in document.items() if key not in RESERVED_NAMES}
    return TakenResult(job, metrics, None, document["provenance"])


def _with_last_words(services: Services, job: QuantJob, root: OpenRoot) -> QuantJob:
    """The failed job with the end of its log and AlphaDIA's own error codes."""
    if job.collected_at is not None:
        return job
    words: dict[str, Any] = {"log_tail": printed_by(services, job)}
    program = PROGRAMS.get(job.software_type)
    if program is not None and program.has_error_codes and job.state is JobState.FAILED:
        stall_s = services.instrument(job.instrument_id).copy_stall_s
        folder = services.result_folder(job, root.path)
        limits = services.config.reading_limits
        words["error_codes"] = error_codes(folder, limits=limits, wall_s=stall_s)
    return job.model_copy(update=words)
