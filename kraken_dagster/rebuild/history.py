"""What MongoDB knows of every raw file, and when each step really happened: for Dagster's storage,
which can be lost. Nothing is changed here."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from kraken_dagster.fs.stores.manifest import manifest_path
from kraken_dagster.model.jobs.job import QuantJob
from kraken_dagster.model.jobs.report import JobState
from kraken_dagster.model.metric_values import RESERVED_NAMES, TYPE_RAW
from kraken_dagster.model.offsite import OffsiteState, OffsiteStatus
from kraken_dagster.model.raw_file import (
    OPEN_ACQUISITION,
    BackupStatus,
    InstrumentFileStatus,
    RawFile,
    Status,
)
from kraken_dagster.quant.jobs.attempts import latest_of
from kraken_dagster.rebuild.partition_window import is_retired
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.quant.metrics import current_results

_PUT_ASIDE = (InstrumentFileStatus.MOVED, InstrumentFileStatus.PURGED)


@dataclass(frozen=True)
class ArchivedFile:
    """What became of the file on the instrument, when, and in words."""

    status: InstrumentFileStatus
    at: datetime
    reason: str


@dataclass(frozen=True)
class Known:
    """What has happened to one raw file. A time that is None: that has not happened.

    Jobs are the latest of each settings; metrics and provenance are by the settings' name, and
    `raw_metrics` those from the raw file itself.
    `is_sound`: whether every byte of the backup was as recorded when it was last read.
    """

    raw_file: RawFile
    acquired_at: datetime | None = None
    backed_up_at: datetime | None = None
    manifest: Path | None = None
    backup_in_words: str = ""
    is_sound: bool = True
    proven_at: datetime | None = None
    uploaded: OffsiteState | None = None  # where a second copy is configured
    submitted: tuple[QuantJob, ...] = ()
    submitted_at: datetime | None = None
    ended: tuple[QuantJob, ...] = ()
    ended_at: datetime | None = None
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    provenance: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    measured_at: datetime | None = None
    raw_metrics: Mapping[str, Any] = field(default_factory=dict)
    raw_provenance: Mapping[str, Any] = field(default_factory=dict)
    archived: tuple[ArchivedFile, ...] = ()


@dataclass(frozen=True)
class Page:
    """Some files; `retired` have no partition because they are final and old, `unreadable` are
    the ids of documents that can't be read."""

    known: tuple[Known, ...]
    retired: int = 0
    unreadable: tuple[str, ...] = ()
    looked_at: int = 0


def pages_of(services: Services, raw_file_ids: Sequence[str]) -> Iterator[Page]:
    """These files, in pages; those that are ignored have no partition."""
    for files in services.store.bulk.pages(raw_file_ids):
        wanted = [
            item for item in files if item.unreadable is None and item.status is not Status.IGNORED
        ]
        jobs = services.store.bulk.jobs([item.id for item in wanted])
        shown = [item for item in wanted if not is_retired(services, item, jobs.get(item.id, ()))]
        yield Page(
            known=tuple(_known(services, shown, jobs)),
            retired=len(wanted) - len(shown),
            unreadable=tuple(item.id for item in files if item.unreadable is not None),
            looked_at=len(files),
        )


def page_of(services: Services, raw_file: RawFile) -> Page:
    """One file, retired or not."""
    jobs = services.store.bulk.jobs([raw_file.id])
    return Page(known=tuple(_known(services, [raw_file], jobs)), looked_at=1)


def _known(
    services: Services, files: Sequence[RawFile], jobs: Mapping[str, Sequence[QuantJob]]
) -> Iterator[Known]:
    results = services.store.bulk.results([item.id for item in files])
    for raw_file in files:
        its_jobs, its_results = jobs.get(raw_file.id, ()), results.get(raw_file.id, ())
        yield known_of(services, raw_file, jobs=its_jobs, results=its_results)


def known_of(
    services: Services,
    raw_file: RawFile,
    *,
    jobs: Sequence[QuantJob],
    results: Sequence[Mapping[str, Any]],
) -> Known:
    """
    Args:
        jobs: all of the file, oldest first.
        results: its documents of `metrics`, newest first.
    """
    submitted = tuple(job for job in latest_of(raw_file, jobs) if _was_submitted(job))
    ended = tuple(job for job in submitted if not job.is_open)
    every = current_results([dict(item) for item in results])
    current = [item for item in every if item.get("type") != TYPE_RAW]
    raw = next((item for item in every if item.get("type") == TYPE_RAW), {})
    backed_up_at = _backed_up_at(raw_file)
    return Known(
        raw_file=raw_file,
        acquired_at=_acquired_at(raw_file),
        backed_up_at=backed_up_at,
        manifest=_manifest(services, raw_file) if backed_up_at else None,
        backup_in_words=_reason(raw_file, Status.COPYING_DONE) or "as MongoDB has it",
        is_sound=raw_file.is_backed_up,
        proven_at=raw_file.verified_at or backed_up_at,
        uploaded=_uploaded(services, raw_file),
        submitted=submitted,
        submitted_at=_latest(job.tried_at or job.created_at for job in submitted),
        ended=ended,
        ended_at=_latest(job.ended_at or job.collected_at or job.created_at for job in ended),
        metrics={_settings(item): _metrics(item) for item in reversed(current)},
        provenance=_provenance(current),
        measured_at=_latest(item.get("created_at_") or raw_file.updated_at_ for item in current),
        raw_metrics=_metrics(raw),
        raw_provenance=raw.get("provenance") or {},
        archived=tuple(_archived(raw_file)),
    )


def _uploaded(services: Services, raw_file: RawFile) -> OffsiteState | None:
    state = raw_file.offsite
    has_copy = state is not None and state.status is OffsiteStatus.DONE
    return state if has_copy and services.config.offsite is not None else None


def _manifest(services: Services, raw_file: RawFile) -> Path:
    return manifest_path(services.backup_folder(raw_file), raw_file.id, raw_file.file_info)


def _provenance(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """By settings; `results` begin with the newest, which counts."""
    shown = (item for item in reversed(results) if item.get("provenance"))
    return {_settings(item): item["provenance"] for item in shown}


def _acquired_at(raw_file: RawFile) -> datetime | None:
    if raw_file.status in OPEN_ACQUISITION:
        return None
    ended: datetime | None = raw_file.acquisition.get("ended_at")
    return ended or _time_of(raw_file, Status.MONITORING_DONE) or raw_file.created_at


def _backed_up_at(raw_file: RawFile) -> datetime | None:
    """Also of a backup that was found damaged since; `is_backed_up` tells them apart."""
    damaged = (
        raw_file.backed_up_at is not None and raw_file.backup_status is BackupStatus.COPYING_FAILED
    )
    if not raw_file.is_backed_up and not damaged:
        return None
    reported = raw_file.backed_up_at or _time_of(raw_file, Status.COPYING_DONE)
    return reported or raw_file.updated_at_


def _was_submitted(job: QuantJob) -> bool:
    return job.state not in (JobState.SKIPPED, JobState.INTENDED)


def _settings(result: Mapping[str, Any]) -> str:
    return str(result.get("settings_name", "n/a"))


def _metrics(result: Mapping[str, Any]) -> dict[str, Any]:
    """Documents of other programs hold more than metrics."""
    return {
        name: value
        for name, value in result.items()
        if name not in RESERVED_NAMES and isinstance(value, bool | int | float | str)
    }


def _archived(raw_file: RawFile) -> Iterator[ArchivedFile]:
    reported = [item for item in raw_file.history if item.get("instrument_file") in _PUT_ASIDE]
    for event in reported:
        status = InstrumentFileStatus(event["instrument_file"])
        yield ArchivedFile(status, event["at"], str(event.get("reason") or ""))
    status = raw_file.instrument_file_status
    if not reported and status in _PUT_ASIDE and status is not None:
        yield ArchivedFile(status, raw_file.updated_at_, "as MongoDB has it")


def _events(raw_file: RawFile, status: Status) -> Iterator[Mapping[str, Any]]:
    """The changes to a status, newest first."""
    for event in reversed(raw_file.history):
        if event.get("to") == status and event.get("from") != status:
            yield event


def _time_of(raw_file: RawFile, status: Status) -> datetime | None:
    found: datetime | None = next((item["at"] for item in _events(raw_file, status)), None)
    return found


def _reason(raw_file: RawFile, status: Status) -> str | None:
    found: str | None = next((item.get("reason") for item in _events(raw_file, status)), None)
    return found


def _latest(times: Iterable[datetime]) -> datetime | None:
    return max(times, default=None)
