"""Raw files of which there is nothing to copy: renamed, vanished, or not finished after all."""

from kraken_dagster.backup.outcome import BackupOutcome
from kraken_dagster.backup.source import main_file_stands, source_of
from kraken_dagster.fs.digests import on_instrument
from kraken_dagster.fs.timeouts import bounded
from kraken_dagster.model.eligibility import main_file_is_missing, was_renamed
from kraken_dagster.model.files.acquisition import Watch
from kraken_dagster.model.raw_file import BackupStatus, InstrumentFileStatus, Status
from kraken_dagster.runtime.leases import Held
from kraken_dagster.runtime.mount_check import require_mounted_instrument
from kraken_dagster.runtime.services import Services


def settle_acquisition(services: Services, held: Held) -> BackupOutcome | None:
    """The outcome where there is nothing to copy (yet): renamed, vanished, or back again.

    Raises:
        FolderError, SourceUnreadable, CopyStalled: the instrument doesn't say what is there.
    """
    raw_file, errors = held.raw_file, held.raw_file.acquisition.get("errors", ())
    if renamed := was_renamed(errors):
        return end_without_backup(held, renamed, InstrumentFileStatus.RENAMED)
    folder, name = source_of(services, raw_file)
    if not main_file_is_missing(errors):
        return None
    rules, path = services.rules(raw_file.instrument_id), folder / name
    stall_s = services.instrument(raw_file.instrument_id).copy_stall_s
    if bounded(lambda: main_file_stands(folder, name, rules), timeout_s=stall_s, what=path):
        now = services.now()
        reason = "the main file is there after all, so the acquisition is watched again"
        after = held.transition(
            Status.QUEUED_FOR_MONITORING,
            of=raw_file,
            reason=reason,
            fields={
                "acquisition": Watch.begin(now, main_file_seen=True).to_record(),
                "retry_at": None,
            },
        )
        return BackupOutcome(after, False, reason)
    if bounded(lambda: on_instrument(path), timeout_s=stall_s, what=path):
        return None  # a Bruker folder without its main file: what there is is kept
    # Of a share that is away nothing is there.
    require_mounted_instrument(services, raw_file.instrument_id)
    return end_without_backup(held, ";".join(errors), InstrumentFileStatus.INITIAL)


def end_without_backup(
    held: Held, reason: str, instrument_file: InstrumentFileStatus
) -> BackupOutcome:
    """Status `acquisition_failed`, and why."""
    if held.raw_file.status is Status.ACQUISITION_FAILED:  # as it was found to be before
        return BackupOutcome(held.raw_file, False, reason)
    raw_file = held.transition(
        Status.ACQUISITION_FAILED,
        reason=reason,
        fields={
            "backup_status": BackupStatus.SKIPPED,
            "instrument_file_status": instrument_file,
            "retry_at": None,
        },
    )
    return BackupOutcome(raw_file, False, reason)
