"""Where a result comes from: what ran, on which bytes, under which settings, and when."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kraken_dagster.fs.stores.manifest import manifest_text
from kraken_dagster.fs.timeouts import bounded
from kraken_dagster.metrics.limited import version_in_logs
from kraken_dagster.model.errors import ClusterError
from kraken_dagster.model.jobs.job import QuantJob
from kraken_dagster.model.jobs.software_version import software_version
from kraken_dagster.model.raw_file import RawFile
from kraken_dagster.quant.input_files import changed_since
from kraken_dagster.runtime.services import Services

# What programs write in their result folders; the job's own log comes last.
_LOGS = ("log.txt", "kraken.log", "report.log.txt")
_LOG_BYTES = 64 * 1024
_LOG_LINES = 10_000
_MOST_MEMBERS = 2_000  # that are named in a result's document


def provenance_of(
    services: Services,
    raw_file: RawFile,
    job: QuantJob,
    *,
    root: Path,
    problem: str | None = None,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """All that another person needs to tell, years later, what a result means.

    Digests are MD5 as hex, sizes bytes, times UTC. `changed` says of an input that it was not the
    same any more when the result was read; `problem` what of the result could not be read, so
    that metrics are missing; `notes` over which rows of its tables metrics were made.
    """
    return {
        "kraken": version("kraken-dagster"),
        "settings": {
            "name": job.settings_name,
            "version": job.settings_version,
            "digest": job.settings_digest,
        },
        "software": job.software,
        "software_type": job.software_type,
        "software_version": _version(services, job, root),
        "command": job.command,
        "engine": job.engine,
        "job": job.id,
        "cluster_job_id": job.cluster_job_id,
        "node": job.node,
        "attempt": job.attempt,
        "submitted_at": job.tried_at or job.created_at,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
        "raw_file": _raw_file(raw_file),
        "inputs": _inputs(services, job),
        "problem": problem,
        "notes": list(notes),
    }


def _raw_file(raw_file: RawFile) -> list[dict[str, Any]]:
    """The bytes that were processed: each member, or of a great many the digest of the manifest,
    which names them all."""
    if len(raw_file.file_info) <= _MOST_MEMBERS:
        return [
            {"path": path, "size": fact.size, "md5": fact.md5}
            for path, fact in raw_file.file_info.items()
        ]
    manifest = manifest_text(raw_file.file_info).encode()
    return [
        {
            "path": raw_file.id,
            "size": raw_file.size,
            "members": len(raw_file.file_info),
            "manifest_md5": hashlib.md5(manifest, usedforsecurity=False).hexdigest(),
        }
    ]


def _inputs(services: Services, job: QuantJob) -> list[Mapping[str, Any]]:
    stall_s = services.instrument(job.instrument_id).copy_stall_s
    return [
        {
            **item.model_dump(include={"role", "path", "size", "md5"}),
            "changed": bounded(
                partial(changed_since, services, job.settings_name, item),
                timeout_s=stall_s,
                what=item.path,
            ),
        }
        for item in job.inputs
    ]


def _version(services: Services, job: QuantJob, root: Path) -> str | None:
    stall_s = services.instrument(job.instrument_id).copy_stall_s
    folder = services.result_folder(job, root)

    limits = services.config.reading_limits
    found = version_in_logs(
        job.software_type, folder, _LOGS, _LOG_BYTES, limits=limits, wall_s=stall_s
    )
    if found is not None:
        return found
    return software_version(job.software_type, printed_by(services, job, lines=_LOG_LINES))


def printed_by(services: Services, job: QuantJob, *, lines: int = 20) -> str:
    """The end of what a job printed; why that can't be had, which matters less than its result."""
    engine = services.engines.get(job.engine)
    if engine is None:
        return f"(the engine {job.engine!r} is not in instruments.yaml any more)"
    try:
        return engine.log_tail(job.spec(), lines=lines)
    except ClusterError as error:
        return f"(the log could not be read: {error})"
