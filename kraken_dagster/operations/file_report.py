"""Raw files, as `kraken files` and `kraken show` have them."""

from collections.abc import Sequence
from typing import Any

from kraken_dagster.model.raw_file import FileFact, RawFile, Status
from kraken_dagster.monitoring.waiting import what_they_wait_for
from kraken_dagster.quality.reported import verdict_row
from kraken_dagster.retention.in_the_way import of_file
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.quant.metrics import current_results


def files(services: Services, found: Sequence[RawFile]) -> list[dict[str, Any]]:
    """What `kraken files` tells of these, in their order."""
    waiting = what_they_wait_for(services, found)
    return [_row(item, waiting[item.id]) for item in found]


def _row(raw_file: RawFile, waits_for: str | None) -> dict[str, Any]:
    return {
        "id": raw_file.id,
        "instrument": raw_file.instrument_id,
        "project": raw_file.project_id,
        "status": raw_file.status,
        "details": raw_file.status_details,
        "size_bytes": raw_file.size,
        "backup": raw_file.backup_status,
        "created_at": raw_file.created_at,
        "retry_at": raw_file.retry_at if raw_file.status is Status.ERROR else None,
        "waits_for": waits_for,
    }


def show(services: Services, raw_file_id: str) -> dict[str, Any]:
    """Everything that is known of one file.

    Raises:
        UnknownRawFile
    """
    raw_file = services.store.raw_files.get(raw_file_id)
    hindered = of_file(services, raw_file)
    move, purge = (hindered.move, hindered.purge) if hindered is not None else (None, None)
    return {
        **_row(raw_file, what_they_wait_for(services, [raw_file])[raw_file_id]),
        "original_name": raw_file.original_name,
        "collision_flag": raw_file.collision_flag,
        "instrument_file": raw_file.instrument_file_status,
        "verified_at": raw_file.verified_at,
        "cannot_be_moved": None if move is None else move.in_words(),
        "cannot_be_purged": None if purge is None else purge.in_words(),
        "backup_base_path": raw_file.backup_base_path,
        "file_info": {
            name: {"size_bytes": fact.size, "md5": fact.md5} | _second(fact)
            for name, fact in raw_file.file_info.items()
        },
        **_offsite(raw_file),
        "raw_metrics": None if raw_file.raw_metrics is None else raw_file.raw_metrics.model_dump(),
        "acquisition": raw_file.acquisition,
        "attempts": raw_file.attempts,
        "lease": None if raw_file.lease is None else raw_file.lease.model_dump(),
        "jobs": [
            job.model_dump(by_alias=True, exclude={"environment"})
            for job in services.store.jobs.of(raw_file_id)
        ],
        "metrics": _results(services, raw_file_id),
        "quality": [
            verdict_row(item, services.config.qc.hints)
            for item in services.store.quality.latest([raw_file_id]).values()
        ],
        "history": raw_file.history,
    }


def _offsite(raw_file: RawFile) -> dict[str, Any]:
    """The second copy."""
    state, cold = raw_file.offsite, raw_file.offsite_cold
    return {
        "s3_upload_path": raw_file.s3_upload_path,
        "offsite": None if state is None else state.model_dump(),
        "offsite_in_words": None if state is None else state.in_words,
        "offsite_waits_for": raw_file.offsite_waits_for,
        "offsite_cold": None if cold is None else cold.in_words,
    }


def _results(services: Services, raw_file_id: str) -> list[dict[str, Any]]:
    """Every result, newest first, those of the raw file itself last; `current` is the one of its
    settings that counts."""
    metrics = services.store.metrics
    found = [*metrics.of(raw_file_id), *metrics.of_raw_file(raw_file_id)]
    current = [item["_id"] for item in current_results(found)]
    return [{**item, "current": item["_id"] in current} for item in found]


def _second(fact: FileFact) -> dict[str, str]:
    """`{"sha256": ...}` or `{"xxh3": ...}` where a second digest is recorded."""
    return {} if fact.second is None else {fact.second.kind.value: fact.second.hex}
