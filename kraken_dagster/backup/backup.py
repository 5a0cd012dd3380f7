"""The backup of one raw file: made, or proven to be there."""

from collections.abc import Callable

from kraken_dagster.backup.making import BackupOptions, make_backup
from kraken_dagster.backup.mended import prove_in_place
from kraken_dagster.backup.not_copied import settle_acquisition
from kraken_dagster.backup.outcome import BackupOutcome, verify
from kraken_dagster.fs.copying.progress import Progress
from kraken_dagster.model.errors import (
    BackupDamaged,
    KrakenError,
    StoreAway,
    StoreError,
)
from kraken_dagster.model.raw_file import (
    ENDED,
    OPEN_ACQUISITION,
    InstrumentFileStatus,
    RawFile,
    Status,
    Step,
)
from kraken_dagster.monitoring.being_written import copies_wait_for, why_copied_later
from kraken_dagster.quant.decide import decide
from kraken_dagster.runtime.failures import (
    damage_fields,
    failure_recorded,
    note_not_done,
    record_damage,
    unexpected_of,
)
from kraken_dagster.runtime.leases import Held, holding
from kraken_dagster.runtime.services import Services


def back_up(
    services: Services,
    raw_file_id: str,
    *,
    run_id: str,
    options: BackupOptions,
    by_hand: bool = True,
    decides: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> BackupOutcome:
    """Sees to it that a verified backup of the file exists.

    Args:
        by_hand: a person asked for it. Then a backup that is there already is read again in full,
            and a copy waits for no other acquisition; a sensor's request for what is done meanwhile
            does nothing.
        decides: also what is to be run on the file, so that one with nothing to run has ended,
            and the jobs of another are submitted once there is a slot.

    Raises:
        FileError: it could not be made; status `error` and its reason are in MongoDB.
        LeaseHeld, LeaseLost: another run works on the file.
        StoreUnavailable
    """
    raw_file = services.store.raw_files.current(raw_file_id)
    reason = _why_not(raw_file, by_hand=by_hand)
    if not by_hand:
        reason = reason or _why_later(services, raw_file)
    if reason:
        return BackupOutcome(raw_file, False, reason)
    with holding(services, raw_file_id, step=Step.BACKUP, run_id=run_id, known=raw_file) as held:
        raw_file = held.raw_file
        reason = _why_not(raw_file, by_hand=by_hand)
        if raw_file.is_backed_up and not by_hand:
            reason = reason or "the backup is there already"
        if reason:
            return BackupOutcome(raw_file, False, reason)
        if raw_file.is_backed_up:
            return _verify_again(services, held)
        return _backed_up(services, held, options, on_progress, decides=decides)


def _backed_up(
    services: Services,
    held: Held,
    options: BackupOptions,
    on_progress: Callable[[Progress], None],
    *,
    decides: bool,
) -> BackupOutcome:
    raw_file = held.raw_file
    failed = damage_fields(raw_file)
    with failure_recorded(
        services, raw_file.id, run_id=held.run_id, lease=held.lease, fields=failed
    ):
        if raw_file.instrument_file_status is InstrumentFileStatus.PURGED:
            return prove_in_place(services, held)
        outcome = settle_acquisition(services, held) or make_backup(
            services, held, options, on_progress
        )
        if decides and outcome.raw_file.status is Status.COPYING_DONE:
            held.raw_file = outcome.raw_file
            decide(services, held, by_hand=False)
        return outcome


def _verify_again(services: Services, held: Held) -> BackupOutcome:
    """Only damage changes the file. A store that can't be read says nothing of what it holds.

    Raises:
        BackupDamaged: status `error`.
        FileError: it could not be read; the history says so.
    """
    try:
        return verify(services, held.raw_file)
    except (StoreError, StoreAway):
        raise
    except BackupDamaged as error:
        record_damage(services, held.raw_file, error, run_id=held.run_id, lease=held.lease)
        raise
    except KrakenError as error:
        note_not_done(services, held.raw_file, error, run_id=held.run_id)
        raise
    except Exception as error:
        unexpected = unexpected_of(error, held.raw_file.id)
        note_not_done(services, held.raw_file, unexpected, run_id=held.run_id)
        raise unexpected from error


def _why_later(services: Services, raw_file: RawFile) -> str | None:
    """A sensor's run may have waited for its turn until the instrument began to write again."""
    behind = copies_wait_for(services, raw_file.instrument_id)
    waiting = why_copied_later(services, raw_file, behind)
    return None if waiting is None else waiting.in_words(services.now())


def _why_not(raw_file: RawFile, *, by_hand: bool) -> str | None:
    if raw_file.status in OPEN_ACQUISITION:
        return f"the acquisition is not over yet: {raw_file.status_details or raw_file.status}"
    if raw_file.status is Status.IGNORED:
        return f"the file is ignored: {raw_file.status_details}"
    if not by_hand and raw_file.status in ENDED:
        return f"nothing is due: the file is {raw_file.status}"
    return None
