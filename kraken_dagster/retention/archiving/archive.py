"""Archiving: raw files are renamed into `Backup` on their instrument once they are backed up."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from kraken_dagster.acquisition.identity import require_settled
from kraken_dagster.acquisition.replaced import register_replacement
from kraken_dagster.acquisition.scene import list_entries
from kraken_dagster.config.instruments import InstrumentEntry
from kraken_dagster.model.errors import (
    ContentChanged,
    CopyStalled,
    FolderError,
    InstrumentBusy,
    KrakenError,
    LeaseHeld,
    LeaseLost,
    NameTaken,
    NowhereFound,
    StatusConflict,
    StoreError,
)
from kraken_dagster.model.files.known_file import KnownFile
from kraken_dagster.model.files.vendors import BACKUP_FOLDER_NAME
from kraken_dagster.model.raw_file import FINAL, InstrumentFileStatus, RawFile, Step
from kraken_dagster.model.retention.rules import why_not_move
from kraken_dagster.retention.archiving.rename import MoveResult
from kraken_dagster.retention.archiving.rename import archive_members as rename_members
from kraken_dagster.retention.archiving.rename_checks import another
from kraken_dagster.retention.archiving.within_rate import within_its_rate
from kraken_dagster.runtime.leases import Held, holding
from kraken_dagster.runtime.mount_check import require_answer, require_right_disk
from kraken_dagster.runtime.refusals import ARCHIVE, in_own_words, is_news, note_refusal
from kraken_dagster.runtime.services import Services


@dataclass(frozen=True)
class ArchiveOptions:
    """The options that concern archiving; see `config/schema.py`."""

    move_files: bool = True
    move_failed: bool = False
    file_move_delay_m: float = 5

    @classmethod
    def of(cls, instrument: InstrumentEntry) -> "ArchiveOptions":
        return cls(instrument.move_files, instrument.move_failed, instrument.file_move_delay_m)

    @property
    def off(self) -> str | None:
        """Why nothing is moved at all."""
        if not self.move_files:
            return "move_files is off"
        return "file_move_delay_m is less than 0" if self.file_move_delay_m < 0 else None


@dataclass(frozen=True)
class MoveOutcome:
    """`moved`, or not, with the reason in words, and the problem if there was one.

    `renamed` are second copies, with the names under which they wait for somebody to delete them.
    `is_new` unless the problem was the same at the look before.
    """

    raw_file: RawFile
    moved: bool
    reason: str
    problem: KrakenError | None = None
    renamed: tuple[str, ...] = ()
    is_new: bool = True

    @property
    def is_refusal(self) -> bool:
        """Whether somebody has to look at it, who wasn't told yet."""
        return self.problem is not None and not self.problem.transient and self.is_new


def due_for_move(
    services: Services, instrument_id: str, now: datetime, *, options: ArchiveOptions | None = None
) -> list[RawFile]:
    """Files that are to be archived now and that nobody holds, oldest acquisition first."""
    options = options or ArchiveOptions.of(services.instrument(instrument_id))
    if options.off:
        return []
    found = services.store.retention.to_move(instrument_id, now=now, failed_too=options.move_failed)
    return [item for item in found if _why_not(item, now, options) is None]


def archive(
    services: Services, instrument_id: str, *, run_id: str, options: ArchiveOptions | None = None
) -> list[MoveOutcome]:
    """Moves all due files of an instrument; one file's trouble never stops the others.

    Once the instrument turns out to be away the others are put off without a try.

    Raises:
        InstrumentInDoubt: it may not be the instrument that it was.
        StoreUnavailable
    """
    options = options or ArchiveOptions.of(services.instrument(instrument_id))
    require_settled(services, instrument_id)
    outcomes: list[MoveOutcome] = []
    away: KrakenError | None = None
    for raw_file in due_for_move(services, instrument_id, services.now(), options=options):
        if away is not None:
            note_refusal(services, raw_file, ARCHIVE, away, run_id=run_id)
            outcomes.append(MoveOutcome(raw_file, False, str(away), away))
            continue
        try:
            outcome = archive_members(services, raw_file.id, run_id=run_id, options=options)
        except (LeaseHeld, LeaseLost, StatusConflict) as error:
            outcome = MoveOutcome(raw_file, False, str(error))
        outcomes.append(outcome)
        away = whats_away(services, instrument_id, outcome.problem)
    return outcomes


def refused(services: Services, held: Held, error: KrakenError) -> MoveOutcome:
    raw_file = held.raw_file
    if isinstance(error, NameTaken):  # ordinary life, once the other one is known
        with suppress(FolderError):
            if (reported := register_replacement(services, held, error)) is not None:
                return MoveOutcome(services.store.raw_files.get(raw_file.id), False, reported)
    note_refusal(services, raw_file, ARCHIVE, error, run_id=held.run_id)
    if isinstance(error, ContentChanged):
        register_replacement(services, held, error)
    is_new = is_news(raw_file.archive, error)
    return MoveOutcome(
        services.store.raw_files.get(raw_file.id), False, str(error), error, is_new=is_new
    )


def whats_away(
    services: Services, instrument_id: str, problem: KrakenError | None
) -> KrakenError | None:
    """The problem if it is the whole instrument's: one file alone can hang too."""
    if isinstance(problem, CopyStalled):
        try:
            require_answer(services, instrument_id)
        except (FolderError, CopyStalled, InstrumentBusy) as error:
            return error
    return problem if isinstance(problem, FolderError) else None


def archive_members(
    services: Services, raw_file_id: str, *, run_id: str, options: ArchiveOptions | None = None
) -> MoveOutcome:
    """Moves one raw file into its instrument's `Backup/`, if that is due.

    What stands in the way is noted beside the file's status, and returned.

    Raises:
        LeaseHeld, LeaseLost, StatusConflict: another run works on the file.
        StoreUnavailable
    """
    raw_file = services.store.raw_files.get(raw_file_id)
    options = options or ArchiveOptions.of(services.instrument(raw_file.instrument_id))
    if reason := options.off or _why_not(raw_file, services.now(), options):
        return MoveOutcome(raw_file, False, reason)
    with holding(services, raw_file_id, step=Step.ARCHIVE, run_id=run_id) as held:
        without_lease = held.raw_file.model_copy(update={"lease": None})
        if reason := _why_not(without_lease, services.now(), options):
            return MoveOutcome(held.raw_file, False, reason)
        try:
            with in_own_words(raw_file_id):
                result = _rename(services, held)
        except StoreError:
            raise
        except KrakenError as error:
            return refused(services, held, error)
        return _record(services, held, result)


def _why_not(raw_file: RawFile, now: datetime, options: ArchiveOptions) -> str | None:
    return why_not_move(
        raw_file, now=now, delay_m=options.file_move_delay_m, failed_too=options.move_failed
    )


def _rename(services: Services, held: Held) -> MoveResult:
    raw_file = held.raw_file
    _refuse_taken_name(services, raw_file)
    try:
        result = within_its_rate(services, held, rename_members)
    except NowhereFound:
        require_right_disk(services, raw_file.instrument_id, besides=raw_file.id, unproven=True)
        raise
    if result == MoveResult():  # of a failed acquisition nothing is left
        require_right_disk(services, raw_file.instrument_id, besides=raw_file.id, unproven=True)
    return result


def _refuse_taken_name(services: Services, raw_file: RawFile) -> None:
    """What stands there under the name may be another acquisition, which is written right now.

    Without a record it is a later one's also where that is over, until that was archived.
    """
    name = raw_file.original_name
    for other in services.store.raw_files.known(raw_file.instrument_id, [name]).get(name, ()):
        if other.created_at_ <= raw_file.created_at_:
            continue
        still_there = other.instrument_file_status is InstrumentFileStatus.INITIAL
        if other.status not in FINAL or (still_there and not raw_file.file_info):
            _refuse_overwritten(services, raw_file)
            raise InstrumentBusy(
                "Another acquisition of this name is under way, or stands there",
                file=raw_file.id,
                found=f"{other.id}, {other.status}",
                next_step="nothing: tried again by itself once that one is over, or archived.",
            )


def _refuse_overwritten(services: Services, raw_file: RawFile) -> None:
    """Raises NameTaken where the main file has another size: of this one nothing stands there."""
    _, standing, _ = list_entries(
        services, services.instrument(raw_file.instrument_id), raw_file.instrument_id
    )
    if (found := standing.get(raw_file.original_name)) is None:
        return
    size = found.main_size_bytes
    known = KnownFile.of(raw_file).main_file_size(services.rules(raw_file.instrument_id))
    if size is not None and known is not None and size != known:
        raise another(services.instrument_folder(raw_file.instrument_id) / found.name, known, size)


def _record(services: Services, held: Held, result: MoveResult) -> MoveOutcome:
    there = bool(result.moved or result.already or result.set_aside)
    new = InstrumentFileStatus.MOVED if there else InstrumentFileStatus.NOT_APPLICABLE
    reason = _in_words(result)
    after = services.store.retention.set_instrument_file(
        held.raw_file,
        new,
        now=services.now(),
        reason=reason,
        run_id=held.run_id,
        lease=held.lease,
        fields={} if there else {"gone_at": services.now()},
    )
    return MoveOutcome(after, there, reason, renamed=tuple(result.set_aside.values()))


def _in_words(result: MoveResult) -> str:
    parts = []
    if result.moved:
        parts.append(f"archived to {BACKUP_FOLDER_NAME}/: {len(result.moved)} renamed")
    if result.already:
        parts.append(f"{len(result.already)} in {BACKUP_FOLDER_NAME}/ already")
    for name, new_name in result.set_aside.items():
        parts.append(f"{name!a} stood there twice, both equal; this one is now {new_name!a}")
    return "; ".join(parts) or "nothing of it is on the instrument, so nothing was archived"
