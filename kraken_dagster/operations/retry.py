"""What a person can ask for again: `kraken retry`."""

from collections.abc import Mapping
from typing import Any

from kraken_dagster.config.instruments import OutputExistsMode
from kraken_dagster.model.errors import FileError, FolderError, StatusConflict
from kraken_dagster.model.files.vendors import BACKUP_FOLDER_NAME
from kraken_dagster.model.jobs.job import QuantJob
from kraken_dagster.model.jobs.report import JobState
from kraken_dagster.model.raw_file import (
    ENDED,
    FINAL,
    BackupStatus,
    InstrumentFileStatus,
    RawFile,
    Status,
    Step,
)
from kraken_dagster.quant.decide import as_fields, as_it_had_ended, decision_on, settings_for
from kraken_dagster.quant.jobs.attempts import JOBS_COUNTER, decided, latest_jobs
from kraken_dagster.quant.jobs.whose_turn import is_ours
from kraken_dagster.runtime.leases import holding
from kraken_dagster.runtime.mount_check import names_in_backup
from kraken_dagster.runtime.services import Services


def retry(
    services: Services, raw_file_id: str, *, asked_by: str, mode: OutputExistsMode | None = None
) -> tuple[RawFile, str]:
    """Makes the step that failed due again; the next tick of the sensors takes it up.

    A file in `error` goes on where it stopped, one that was `ignored` is watched after all. Of one
    that failed in processing what failed is done once more, with the settings that apply now;
    results that are there stay, unless a `mode` says what is to become of them: then also a file
    that has ended well is processed once more. One that was gone from `Backup/` and stands there
    again counts as archived again. Where archiving or purging was refused, that refusal is
    forgotten, whatever the status.

    Raises:
        UnknownRawFile
        StatusConflict: nothing is to be retried in the file's status.
    """
    raw_file, now = services.store.raw_files.get(raw_file_id), services.now()
    wanted = {} if mode is None else {"output_exists_mode": mode.value}
    note = f"asked for again by {asked_by}"
    if _stands_in_backup_after_all(services, raw_file):
        return _moved_after_all(services, raw_file, note, asked_by)
    if raw_file.archive is not None or raw_file.purge is not None:
        raw_file, reported = _forget_refusal(services, raw_file, note)
        if raw_file.retry_at == now or not _failed(services, raw_file):
            return raw_file, reported
    if raw_file.status is Status.ERROR:
        after = services.store.raw_files.update(
            raw_file, {"retry_at": now, **wanted}, now=now, note=note
        )
        return after, f"{raw_file.instrument_id}_watcher goes on with it at its next tick"
    if raw_file.status is Status.IGNORED:
        after = services.store.raw_files.transition(
            raw_file, Status.QUEUED_FOR_MONITORING, now=now, reason=note
        )
        return after, f"{raw_file.instrument_id}_watcher watches it from its next tick on"
    if (queued := _retry_jobs(services, raw_file, note, asked_by, wanted)) is not None:
        return queued, "cluster_jobs submits its jobs at its next tick"
    raise _nothing_to_retry(raw_file)


def _retry_jobs(
    services: Services, raw_file: RawFile, note: str, asked_by: str, wanted: Mapping[str, Any]
) -> RawFile | None:
    """The file queued again, if any of its jobs failed, was skipped or is lost, or if all of it is
    wanted once more."""
    if given_up := _give_up_lost_jobs(services, raw_file, asked_by):
        note = f"{note}; given up: {', '.join(given_up)}"
    failed = raw_file.status is Status.QUANTING_FAILED or _was_skipped(services, raw_file)
    if not given_up and wanted and raw_file.status is Status.QUEUED_FOR_QUANTING:
        return services.store.raw_files.update(raw_file, wanted, now=services.now(), note=note)
    again = bool(wanted) and raw_file.is_backed_up and raw_file.status in ENDED
    if not given_up and not failed and not again:
        return None
    require_processable(services, raw_file)
    return _queue_again(services, raw_file, note, wanted)


def require_processable(services: Services, raw_file: RawFile) -> None:
    """
    Raises:
        StatusConflict: such a file is not processed, with any settings.
    """
    decision = decision_on(services, raw_file, has_settings=True)
    if not decision.process:
        raise StatusConflict(
            "Nothing to retry: such a file is not processed",
            file=raw_file.id,
            found=decision.details,
            next_step="change what keeps it from that, and ask again.",
        )


def _nothing_to_retry(raw_file: RawFile) -> StatusConflict:
    waiting = "it has ended" if raw_file.status in FINAL else "it is on its way"
    if raw_file.status in (Status.DONE, Status.DONE_NOT_QUANTED):
        waiting = "it has ended well"
    return StatusConflict(
        f"Nothing to retry: {waiting}",
        file=raw_file.id,
        expected="status error, quanting_failed or ignored",
        found=raw_file.status,
        next_step="to process it once more all the same, `kraken retry ID --output-exists-mode "
        "add`; to do another step once more, materialise its asset for this partition.",
    )


def _queue_again(
    services: Services, raw_file: RawFile, note: str, wanted: Mapping[str, Any]
) -> RawFile:
    """Has what did not succeed submitted once more, with the settings that apply now."""
    attempt = services.store.raw_files.next_attempt(raw_file, JOBS_COUNTER)
    jobs = services.store.jobs.of(raw_file.id)
    again = decided(services, raw_file, settings_for(services, raw_file), attempt, jobs)
    if not wanted and any(item.chosen for item in again):  # stands beside other results
        wanted = {"output_exists_mode": OutputExistsMode.ADD.value}
    fields = {"quant_settings": as_fields(again), **as_it_had_ended(raw_file), **wanted}
    current, now = services.store.raw_files.get(raw_file.id), services.now()
    if current.status is Status.QUEUED_FOR_QUANTING:
        return services.store.raw_files.update(current, fields, now=now, note=note)
    return services.store.raw_files.transition(
        current, Status.QUEUED_FOR_QUANTING, now=now, reason=note, fields=fields
    )


def _stands_in_backup_after_all(services: Services, raw_file: RawFile) -> bool:
    return (
        raw_file.instrument_file_status is InstrumentFileStatus.NOT_APPLICABLE
        and raw_file.is_backed_up
        and bool(raw_file.file_info)
        and raw_file.id in _names_in_backup(services, raw_file.instrument_id)
    )


def _names_in_backup(services: Services, instrument_id: str) -> set[str]:
    try:
        return names_in_backup(services, instrument_id)
    except (FolderError, FileError):  # away; what else is to be retried doesn't wait for it
        return set()


def _moved_after_all(
    services: Services, raw_file: RawFile, note: str, asked_by: str
) -> tuple[RawFile, str]:
    with holding(services, raw_file.id, step=Step.ARCHIVE, run_id=asked_by) as held:
        services.store.retention.set_instrument_file(
            held.raw_file,
            InstrumentFileStatus.MOVED,
            now=services.now(),
            reason=f"{note}: it stands in {BACKUP_FOLDER_NAME}/ after all",
            run_id=None,
            lease=held.lease,
            fields={"gone_at": None},
        )
    after = services.store.raw_files.get(raw_file.id)
    return after, "it counts as archived again, and is purged when that is due"


def _forget_refusal(services: Services, raw_file: RawFile, note: str) -> tuple[RawFile, str]:
    now = services.now()
    lacking = raw_file.archive is not None and raw_file.archive.backup_lacks
    after = services.store.retention.clear(raw_file, now=now, note=note)
    if lacking and after.status in FINAL - {Status.IGNORED} and after.is_backed_up:
        after = services.store.raw_files.transition(
            after,
            Status.ERROR,
            now=now,
            reason=f"{note}: the instrument has a file of it that the backup lacks",
            fields={"backup_status": BackupStatus.COPYING_FAILED, "retry_at": now},
        )
        return after, f"{raw_file.instrument_id}_watcher has it backed up again at its next tick"
    return after, "it is archived, or purged, the next time if nothing is in the way any more"


def _failed(services: Services, raw_file: RawFile) -> bool:
    failed = (Status.ERROR, Status.IGNORED, Status.QUANTING_FAILED)
    return raw_file.status in failed or _was_skipped(services, raw_file)


def _give_up_lost_jobs(services: Services, raw_file: RawFile, asked_by: str) -> list[str]:
    """Ends open jobs that nobody can be asked about any more; their names."""
    if raw_file.status not in (Status.QUANTING, Status.QUEUED_FOR_QUANTING):
        return []
    lost = [
        job
        for job in latest_jobs(services, raw_file)
        if job.is_open and _why_lost(services, job) is not None
    ]
    for job in lost:
        reason = f"given up by {asked_by}: {_why_lost(services, job)}"
        services.store.jobs.give_up(job, reason=reason, now=services.now())
    return [job.id for job in lost]


def _why_lost(services: Services, job: QuantJob) -> str | None:
    if job.engine not in services.config.engines:
        return f"the engine {job.engine!r} is not configured any more"
    if is_ours(services, job) or job.location is None:
        return None
    owner = services.store.instances.of_location(job.location)
    if owner is None or owner.lives(services.now()):
        return None
    return f"the code location {job.location!r} is silent since {owner.seen_at:%Y-%m-%d %H:%M} UTC"


def _was_skipped(services: Services, raw_file: RawFile) -> bool:
    jobs = latest_jobs(services, raw_file)
    return raw_file.status is Status.DONE_NOT_QUANTED and any(
        job.state is JobState.SKIPPED for job in jobs
    )
